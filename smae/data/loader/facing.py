"""Which way the person of each clip faces: the axes that turn everybody one way, whatever the camera's place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smae.errors import ConfigError
from smae.jit import njit
from smae.skeleton import Layout

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Trunk:
    """The joints that tell which way a person faces.

    Attributes:
        across: int64 [P, 2], (left, right) pairs.
        spine: int64 [2], lowest and uppermost joint.
        upright: stand the spine upright too, rather than turn about the vertical alone.
    """

    across: Ints
    spine: Ints
    upright: bool


def trunk_of(layout: Layout, *, align: str) -> Trunk | None:
    """Return what ``augment.align`` needs of a layout; nothing where it is ``none``.

    Raises:
        ConfigError: the layout does not say which joints are its trunk.
    """
    if align == "none":
        return None
    if not layout.across or layout.spine is None:
        raise ConfigError(
            f"augment.align={align} turns people by their hips, shoulders and spine, and layout '{layout.name}' does "
            "not name them: give it `across` and `spine`, or choose augment.align=none"
        )
    return Trunk(np.array(layout.across, np.int64), np.array(layout.spine, np.int64), align == "body")


@njit(
    "void(float32[:, :, ::1], uint8[::1], int64[::1], int64[::1], int64[:, ::1], int64[::1], boolean, "
    "float32[:, :, ::1])"
)
def facing(
    rows: NDArray[np.float32],
    present: NDArray[np.uint8],
    start: Ints,
    count: Ints,
    across: Ints,
    spine: Ints,
    upright: bool,
    axes: NDArray[np.float32],
) -> None:
    """Write each clip's turn R, x' = R x, by its first row that shows somebody.

    R's rows are the new axes, seen from the old: y up (with ``upright`` along the spine), x from left to right as far
    as it is square to y, z = x times y, so that who faces a camera at the origin stays as he is. Where hips and
    shoulders or spine give no direction, and where nobody is seen, R is the identity. Computed in float64.

    Args:
        rows: float32 [R, V, 3], without NaN.
        present: uint8 [R], whether a row shows somebody.
        start: int64 [B], first row of each clip.
        count: int64 [B], its rows, body by body.
        across: int64 [P, 2], (left, right) pairs.
        spine: int64 [2], lowest and uppermost joint.
        upright: take the spine for the vertical.
        axes: float32 [B, 3, 3].
    """
    for b in range(start.shape[0]):
        axes[b] = np.eye(3, dtype=np.float32)
        r = start[b]
        while r < start[b] + count[b] and not present[r]:
            r += 1
        if r == start[b] + count[b]:
            continue
        x, y = np.zeros(3), np.zeros(3)
        for c in range(3):
            for p in range(across.shape[0]):
                x[c] += np.float64(rows[r, across[p, 1], c]) - np.float64(rows[r, across[p, 0], c])
            if upright:
                y[c] = np.float64(rows[r, spine[1], c]) - np.float64(rows[r, spine[0], c])
        if not upright:
            y[1] = 1.0
        height = np.sqrt((y * y).sum())
        if height < 1e-6:
            continue
        y /= height
        x -= (x * y).sum() * y
        width = np.sqrt((x * x).sum())
        if width < 1e-6:
            continue
        x /= width
        z = np.array((x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]))
        for c in range(3):
            axes[b, 0, c], axes[b, 1, c], axes[b, 2, c] = x[c], y[c], z[c]
