"""The ``.npz`` that the public CTR-GCN scripts write and most code since reads: x_train, y_train, x_test, y_test.

Steps 5 and 6 of the reference pipeline. Arrays are written a block at a time: of NTU-120's 11 GB, about 100 MB stand in
memory.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from smae.data.export.alignment import Protocol, align, ctrgcn_order
from smae.data.export.base import Request, check_reference, class_numbers, clips_in_order
from smae.data.raw.ntu import parse_name
from smae.data.store.splits import NTU60_SETUPS, Split, full_name
from smae.data.store.store import Store
from smae.errors import ConfigError, DataError

BLOCK = 512
"""Clips written at a time: 92 MB at 300 frames of 2 bodies of 25 joints."""
_COLUMNS = {"ntu60": 60, "ntu120": 120}
_NTU_PROTOCOLS = ("xsub", "xview", "xset")


@dataclass(frozen=True)
class _Form:
    """How one data set's clips become rows: length and width of ``x``, columns of ``y``, the order, the second slot."""

    frames: int
    columns: int
    column: NDArray[np.int64]
    double_single: bool
    order: Protocol | None
    joints: int


def write(store: Store, path: Path, request: Request) -> tuple[dict[str, str], tuple[str, ...]]:
    """Write x float32 [N, T, 2 x V x 3] and y float64 [N, classes], one-hot, of the train and the test clips.

    T is the longest clip of the whole data set (of its NTU-60 part under an NTU-60 protocol). NTU-60: 60 columns, a
    single body beside zeros; NTU-120: 120 columns, a single body twice. Rows stand in the scripts' order: by the ids of
    the split, then by name. Data that are not NTU's keep the order of the store and have a column a class.

    Raises:
        ConfigError: no protocol.
        UnknownNameError: no such protocol for this store.
        DataError: a store that is not in reference mode or is resampled, without ``anyway``; a half without clips.
    """
    if request.protocol is None:
        known = ", ".join(store.protocols()) or "none fits this store"
        raise ConfigError(f"this form holds one split: say which with --protocol ({known})")
    notes = check_reference(store, form="ctrgcn", anyway=request.anyway)
    split = store.split(request.protocol)
    form = _form(store, split, frames=request.frames)
    halves = {"train": _ordered(store, split.train, form), "test": _ordered(store, split.test, form)}
    done, total = 0, len(split.train) + len(split.test)
    contents: dict[str, str] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for half, places in halves.items():
            shape = (len(places), form.frames, form.joints * 6)
            with _member(archive, f"x_{half}", shape, "<f4") as member:
                for rows in _rows(store, places, form):
                    member.write(rows.tobytes())
                    done += len(rows)
                    request.progress(done, total)
            one_hot = np.zeros((len(places), form.columns))
            one_hot[np.arange(len(places)), form.column[store.clips.label[places]]] = 1
            with _member(archive, f"y_{half}", one_hot.shape, "<f8") as member:
                member.write(one_hot.tobytes())
            contents |= {f"x_{half}": f"float32 {list(shape)}", f"y_{half}": f"float64 {list(one_hot.shape)}"}
    return contents, notes


def _form(store: Store, split: Split, *, frames: int | None) -> _Form:
    name = full_name(split.name, dataset=store.dataset, own=store.own_splits)
    prefix, rule = name.partition("-")[0], name.rpartition("-")[2]
    subset = prefix if prefix in _COLUMNS else store.dataset
    ntu = subset in _COLUMNS
    # The scripts run on one data set: NTU-60's know nothing of the clips that NTU-120 adds.
    part = store.clips.setup <= NTU60_SETUPS if subset == "ntu60" else np.ones(len(store), np.bool_)
    longest = int(store.clips.frames[part].max())
    if frames is not None and frames < longest:
        raise ConfigError(f"--frames {frames}: the longest clip has {longest} frames; give as many, or leave it out")
    column = class_numbers(store)
    columns = _COLUMNS.get(subset, int(column.max()) + 1)
    highest = int(column[store.clips.label[np.concatenate([split.train, split.test])]].max())
    if highest >= columns:
        raise DataError(f"{name}: class {highest + 1} has no place among the {columns} columns of this form")
    named = rule in _NTU_PROTOCOLS and parse_name(str(store.clips.name[0])) is not None
    return _Form(
        frames=frames or longest,
        columns=columns,
        column=column,
        double_single=subset == "ntu120",
        order=cast(Protocol, rule) if ntu and named else None,
        joints=len(store.layout),
    )


def _ordered(store: Store, places: NDArray[np.int64], form: _Form) -> NDArray[np.int64]:
    if form.order is None:
        return places
    return ctrgcn_order([str(name) for name in store.clips.name], protocol=form.order, subset=places)


def _rows(store: Store, places: NDArray[np.int64], form: _Form) -> Iterator[NDArray[np.float32]]:
    for _, clips in clips_in_order(store, places, block=BLOCK):
        yield align(clips, frames=form.frames, double_single=form.double_single)


def _member(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], descr: str) -> IO[bytes]:
    """Open an ``.npy`` member for writing, its header written: the same arrays, the same bytes."""
    info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    member = archive.open(info, "w", force_zip64=True)
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    return member
