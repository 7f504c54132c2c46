"""The ``.npz`` of the public CTR-GCN scripts, read by much code: x_train, y_train, x_test, y_test.

Steps 5 and 6 of the reference pipeline. Arrays are written a block at a time: of the 11 GB of
NTU-120, about 100 MB are in memory.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smae import progress
from smae.data.export import Request, check_reference, class_numbers, read_clips, signature
from smae.data.raw.ntu import parse_name
from smae.data.store import Store
from smae.data.store.splits import NTU60_SETUPS, Split, full_name
from smae.errors import ConfigError, DataError

Protocol = Literal["xsub", "xview", "xset"]
BLOCK = 512
"""Clips written at a time: 92 MB at 300 frames of 2 bodies of 25 joints."""
_COLUMNS = {"ntu60": 60, "ntu120": 120}


@dataclass(frozen=True)
class _Shape:
    """How the clips of a data set become rows: length, classes, body slots and order."""

    frames: int
    columns: int
    column: NDArray[np.int64]
    double_single: bool
    order: Protocol | None


@signature(".npz", magic=b"PK\x03\x04")
def write(store: Store, path: Path, request: Request) -> tuple[dict[str, str], tuple[str, ...]]:
    """Write x float32 [N, T, 2 x V x 3] and y float64 [N, classes], one-hot, by part.

    T is the longest clip of the data set (of its NTU-60 part under an NTU-60 protocol). NTU-60: 60
    columns, a single body beside zeros; NTU-120: 120 columns, a single body twice. Rows are in the
    scripts' order: by the ids of the split, then by name. Other data keep the order of the store
    and have a column for each class.

    Raises:
        ConfigError: no protocol.
        UnknownNameError: no such protocol for this store.
        DataError: not in reference mode, or resampled, without ``anyway``; a half without clips.
    """
    if request.protocol is None:
        known = ", ".join(store.protocols()) or "none fits this store"
        raise ConfigError(f"this format holds one split: choose it with --protocol ({known})")
    notes = check_reference(store, format="ctrgcn", anyway=request.anyway)
    split = store.split(request.protocol)
    target = _shape(store, split, frames=request.frames)
    contents: dict[str, str] = {}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
        progress.task("export", total=len(split.train) + len(split.test), unit="clips") as task,
    ):
        for half, indices in {"train": split.train, "test": split.test}.items():
            if target.order is not None:
                indices = ctrgcn_order(store.clips.name.tolist(), protocol=target.order, subset=indices)
            shape = (len(indices), target.frames, len(store.layout) * 6)
            with _member(archive, f"x_{half}", shape, "<f4") as member:
                for _, clips in read_clips(store, indices, block=BLOCK):
                    rows = align(clips, frames=target.frames, double_single=target.double_single)
                    member.write(rows.tobytes())
                    task.advance(len(rows))
            one_hot = np.zeros((len(indices), target.columns))
            one_hot[np.arange(len(indices)), target.column[store.clips.label[indices]]] = 1
            with _member(archive, f"y_{half}", one_hot.shape, "<f8") as member:
                member.write(one_hot.tobytes())
            contents |= {f"x_{half}": f"float32 {list(shape)}", f"y_{half}": f"float64 {list(one_hot.shape)}"}
    return contents, notes


def _shape(store: Store, split: Split, *, frames: int | None) -> _Shape:
    name = full_name(split.name, dataset=store.dataset, stored=store.stored_splits)
    prefix, rule = name.partition("-")[0], name.rpartition("-")[2]
    subset = prefix if prefix in _COLUMNS else store.dataset
    lengths = store.clips.frames
    if subset == "ntu60":
        # The scripts for NTU-60 do not see the clips that NTU-120 adds.
        lengths = lengths[store.clips.setup <= NTU60_SETUPS]
    longest = int(lengths.max())
    if frames is not None and frames < longest:
        raise ConfigError(f"--frames {frames}: the longest clip has {longest} frames; give as many, or leave it out")
    column = class_numbers(store)
    columns = _COLUMNS.get(subset, int(column.max()) + 1)
    highest = int(column[store.clips.label[np.concatenate([split.train, split.test])]].max())
    if highest >= columns:
        raise DataError(f"{name}: class {highest + 1} does not fit the {columns} columns of this format")
    order = None
    if subset in _COLUMNS and rule in get_args(Protocol) and parse_name(str(store.clips.name[0])) is not None:
        order = cast(Protocol, rule)
    return _Shape(frames or longest, columns, column, double_single=subset == "ntu120", order=order)


def _member(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], descr: str) -> IO[bytes]:
    """Open an ``.npy`` member for writing, its header written."""
    # A fixed date: equal arrays give equal bytes.
    info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    member = archive.open(info, "w", force_zip64=True)
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    return member


def align(clips: Sequence[NDArray[np.float32]], *, frames: int, double_single: bool) -> NDArray[np.float32]:
    """Return clips as rows of equal length, then zeros (reference pipeline, step 5).

    Args:
        clips: each float32 [M, T, V, 3], M 1 or 2, all of the same V.
        frames: length of the rows; the scripts take the longest clip of the whole data set.
        double_single: write a single body twice (NTU-120) instead of once beside zeros (NTU-60).

    Returns:
        float32 [N, frames, 2 x V x 3], 150 wide for 25 joints: body 1's numbers, then body 2's.

    Raises:
        DataError: longer than ``frames``, more than two bodies, or another number of joints.
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
    """Return a half of a split in the order of the .npz files (reference pipeline, step 6).

    The scripts go through subjects (cameras, setups) in ascending order and, within each, through a
    list of names sorted byte by byte.

    Args:
        names: every clip's NTU name, such as ``S001C002P003R002A013``.
        protocol: ``xsub`` orders by subject, ``xview`` by camera, ``xset`` by setup.
        subset: int64 [n], the half's clips, as indices into ``names``.

    Returns:
        int64 [n], the same indices in the scripts' order.

    Raises:
        ConfigError: unknown protocol.
        DataError: a name that is not of NTU's form.
    """
    if protocol not in get_args(Protocol):
        raise ConfigError(f"unknown protocol '{protocol}': expected one of {', '.join(get_args(Protocol))}")
    field = {"xsub": "subject", "xview": "camera", "xset": "setup"}[protocol]

    def key(index: int) -> tuple[int, str]:
        name = names[index]
        parts = parse_name(name)
        if parts is None:
            found = f"expected a name such as S001C002P003R002A013, found {name!r}"
            raise DataError(f"{found}: only NTU clips have this order")
        return getattr(parts, field), name

    return np.array(sorted(np.asarray(subset, np.int64).tolist(), key=key), np.int64)
