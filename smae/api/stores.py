"""Synthetic raw recordings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smae.data.synthetic.synth import SynthSummary


def synthesise(out: Path | str, **options: Any) -> SynthSummary:
    """Write a synthetic raw folder; see ``smae.data.synthetic.synth.synthesise`` for the options."""
    from smae.data.synthetic.synth import synthesise as write

    return write(Path(out), **options)
