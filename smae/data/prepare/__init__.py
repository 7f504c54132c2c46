"""From raw recordings to a store: a plan, tasks of one shard each, workers, a journal.

Here are settings, choices and defaults alone: the command line reads them for ``--help``.
"""

from __future__ import annotations

from dataclasses import dataclass

from smae.data.clean import Mode
from smae.data.raw.recording import MAX_RANGE

CODECS = ("float32", "int16")
"""Ways to store joints; ``smae.data.store.chunks`` implements them."""
EXECUTORS = ("processes", "inline", "dask")
EXECUTOR = "processes"
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
    """

    source: str = "ntu"
    mode: Mode = "reference"
    frames: int | None = None
    strict: bool = False
    strict_names: bool = False
    max_range: float = MAX_RANGE
    missing_list: bool = True
    codec: str = "float32"
