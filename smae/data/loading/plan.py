"""What a batch is to hold, before it is made: where each item's window lies and how the item is varied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from smae.noise import Noise

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Stream = Literal["joint", "bone", "motion"]


@dataclass(frozen=True)
class Style:
    """What all batches of a loader have in common.

    Attributes:
        frames: of an item.
        parent: int64 [V], each joint's parent; the root is its own.
        sigma: standard deviation of the Gaussian noise on each coordinate, metres.
        stream: ``"joint"``: positions; ``"bone"``: joint minus parent; ``"motion"``: next frame minus this one.
    """

    frames: int
    parent: Ints
    sigma: float = 0.0
    stream: Stream = "joint"


@dataclass(frozen=True)
class Plan:
    """The N items of one batch, all on the host.

    Attributes:
        first: int64 [N], each window's first row, in rows that whoever uses the plan has.
        length: int64 [N], each window's rows, at least 1.
        map: float32 [N, 3, 3], applied to every joint as a column: x' = A x.
        joint: int64 [N, V], the joint that each output joint is taken from (identity, or left and right swapped).
        noise: the items' random numbers, NumPy, where their coordinates get any.
    """

    first: Ints
    length: Ints
    map: Floats
    joint: Ints
    noise: Noise | None = None
