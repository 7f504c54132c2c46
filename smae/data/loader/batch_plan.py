"""What a batch is to hold, before it is made: where each item's window lies and how the item is varied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from smae.rng import Noise
from smae.skeleton import Layout

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Stream = Literal["joint", "relative", "bone", "motion"]


@dataclass(frozen=True)
class Style:
    """What all batches of a loader have in common.

    Attributes:
        frames: of an item.
        origin: int64 [V], the joint that each is measured from in the streams ``"bone"`` and ``"relative"``; -1: none.
        sigma: standard deviation of the Gaussian noise on each coordinate, metres.
        stream: ``"joint"``: positions; ``"relative"``, ``"bone"``: joint minus its origin; ``"motion"``: next frame
            minus this one.
    """

    frames: int
    origin: Ints
    sigma: float = 0.0
    stream: Stream = "joint"


def origins(layout: Layout, *, stream: Stream) -> Ints:
    """Return int64 [V], the joint that each is measured from: its parent, the root itself; or the centre, itself none.

    The centre of a ``"relative"`` clip keeps its place (-1), so that nothing of where people go is lost; the root's
    bone is 0.
    """
    if stream == "relative":
        origin = np.full(len(layout), layout.centre)
        origin[layout.centre] = -1
        return origin
    origin = np.arange(len(layout))
    for child, parent in layout.bones:
        origin[child] = parent
    return origin


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
