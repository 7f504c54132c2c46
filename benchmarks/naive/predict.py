"""An answer for a growing recording by what there was before ``--follow``: the whole file, again and again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from smae.eval.export import LoadedEncoder
from smae.eval.predict import probabilities
from smae.eval.raw_clips import Windows, read_recordings


def answer(path: Path, model: LoadedEncoder, windows: Windows, *, device: torch.device) -> NDArray[np.float64]:
    """Return the probabilities [K] of the last window of a file, as ``smae predict FILE`` does: it encodes them all."""
    read = read_recordings([path], prepared=model.config.prepared, layout=model.layout, windows=windows)
    last: NDArray[np.float64] = probabilities(read.clips, model, device)[-1]
    return last
