"""From raw recordings to a store: a plan, tasks of one shard each, workers, a journal.

Here are settings, choices and defaults alone: the command line reads them for ``--help``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from smae.data.clean import Mode
from smae.data.raw.recording import MAX_RANGE

CODECS = ("float32", "int16")
"""Ways to store joints; ``smae.data.store.chunks`` implements them."""
EXECUTORS = ("processes", "inline", "dask")
EXECUTOR = "processes"
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
"""Units of coordinates, in metres."""
ADDED = ("layout", "unit", "fps")
"""Settings that are recorded only where they are used."""
MAX_BAD = 0.01
"""Largest share of bad files with which a store is published."""
MIN_BAD = 3
"""Number of bad files that always passes, unless the share is 0; 1 % of 50 files would be none."""


@dataclass(frozen=True)
class PrepareSettings:
    """Settings that decide the bytes of a store. Plans and stores record them by name.

    Attributes:
        source: registered source of the raw data.
        mode: cleaning mode, ``reference`` or ``exact``.
        frames: resample every clip to this many frames; None keeps them.
        strict: refuse oddities that are otherwise tolerated (NaN), and stop at the first bad file.
        strict_names: count badly named ``.skeleton`` files as bad.
        max_range: metres; larger coordinates are refused.
        missing_list: leave out the samples that published results leave out.
        codec: how joints are stored, ``float32`` or ``int16``.
        layout: whose joints the files hold, where they do not say; a name or a ``.toml`` file.
        unit: of the coordinates: ``m``, ``cm``, ``mm``; None: metres, checked.
        fps: frames a second, where said; recorded, no frame is added or left out.
    """

    source: str = "ntu"
    mode: Mode = "reference"
    frames: int | None = None
    strict: bool = False
    strict_names: bool = False
    max_range: float = MAX_RANGE
    missing_list: bool = True
    codec: str = "float32"
    layout: str | None = None
    unit: str | None = None
    fps: float | None = None

    def recorded(self) -> dict[str, Any]:
        """Return the settings as plans and stores record them."""
        # What was added later is recorded where it is used: other stores stay what they are.
        return {key: value for key, value in asdict(self).items() if value is not None or key not in ADDED}
