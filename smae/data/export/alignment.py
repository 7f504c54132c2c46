"""Other people's forms: rows and their order as in the .npz files that the public CTR-GCN scripts write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smae.data.raw.ntu import parse_name
from smae.errors import ConfigError, DataError

Protocol = Literal["xsub", "xview", "xset"]


def align(clips: Sequence[NDArray[np.float32]], *, frames: int, double_single: bool) -> NDArray[np.float32]:
    """Return the clips as rows of equal length, zeros after each one's end (reference pipeline, step 5).

    Args:
        clips: each float32 [M, T, V, 3], M 1 or 2, all of the same V.
        frames: length of the rows; the scripts take the longest clip of the whole data set.
        double_single: write a single body twice (NTU-120), instead of once with zeros beside it (NTU-60).

    Returns:
        float32 [N, frames, 2 x V x 3], 150 wide for 25 joints: body 1's numbers, then body 2's.

    Raises:
        DataError: a clip is longer than ``frames``, has more than two bodies, or another number of joints.
    """
    joints = clips[0].shape[2] if clips else 25
    rows = np.zeros((len(clips), frames, 2, joints, 3), np.float32)
    for index, clip in enumerate(clips):
        bodies, length = clip.shape[:2]
        if length > frames or bodies > 2 or clip.shape[2:] != (joints, 3):
            raise DataError(
                f"clip {index}: expected at most 2 bodies and {frames} frames of {joints} joints, found "
                f"{bodies} bodies and {length} frames of {clip.shape[2]} joints: give the longest clip's frames"
            )
        rows[index, :length, :bodies] = clip.swapaxes(0, 1)
        if double_single and bodies == 1:
            rows[index, :length, 1] = clip[0]
    return rows.reshape(len(clips), frames, joints * 6)


def ctrgcn_order(names: Sequence[str], *, protocol: Protocol, subset: ArrayLike) -> NDArray[np.int64]:
    """Return the clips of one half of a split in the order of rows in the .npz files (reference pipeline, step 6).

    The scripts go through the half's subjects (cameras, setups) in ascending order, and within each through the names
    in the order of their list, which is sorted byte by byte.

    Args:
        names: every clip's NTU name, such as ``S001C002P003R002A013``.
        protocol: ``xsub`` orders by subject, ``xview`` by camera, ``xset`` by setup.
        subset: int64 [n], the half's clips: places in ``names``.

    Returns:
        int64 [n], the same places in the scripts' order.

    Raises:
        ConfigError: unknown protocol.
        DataError: a name that is not of NTU's form.
    """
    if protocol not in get_args(Protocol):
        raise ConfigError(f"unknown protocol '{protocol}': expected one of {', '.join(get_args(Protocol))}")
    places = np.asarray(subset, np.int64).tolist()
    return np.array(sorted(places, key=lambda place: _sort_key(names[place], protocol)), np.int64)


def _sort_key(name: str, protocol: Protocol) -> tuple[int, str]:
    parts = parse_name(name)
    if parts is None:
        raise DataError(f"expected a name such as S001C002P003R002A013, found {name!r}: only NTU clips have this order")
    return {"xsub": parts.subject, "xview": parts.camera, "xset": parts.setup}[protocol], name
