"""From a Recording to a Clip: choose actors, place their rows on a time axis, centre, resample."""

from __future__ import annotations

from typing import Literal, get_args

Mode = Literal["reference", "exact"]
MAX_FRAMES = 100_000
"""Most frames that a clip is resampled to."""
MODES: tuple[Mode, ...] = get_args(Mode)
