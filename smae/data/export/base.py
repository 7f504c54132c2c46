"""Exports: a store as one file of another format; the table of formats and what they share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from smae import interrupts
from smae.atomic_io import atomic_file, check_output
from smae.data.raw.array_source import IMPORTED
from smae.data.store.codecs import FLOAT32
from smae.data.store.splits import NTU_PROTOCOLS
from smae.data.store.store import Store, open_store
from smae.errors import ConfigError, DataError
from smae.registry import Registry


@dataclass(frozen=True)
class Request:
    """Options of an export.

    Attributes:
        protocol: split to write; None for all of them, where the format holds several.
        frames: pad every clip to so many frames, where the format pads; None for the longest clip.
        anyway: write even if the store is not what readers of the format expect.
    """

    protocol: str | None = None
    frames: int | None = None
    anyway: bool = False


@dataclass(frozen=True)
class ExportSummary:
    """A written export.

    Attributes:
        path: the file.
        format: its format.
        bytes: its size.
        contents: name of each array or part, with its type and shape in words.
        notes: remarks for readers of the file.
    """

    path: Path
    format: str
    bytes: int
    contents: dict[str, str]
    notes: tuple[str, ...] = field(default=())


class Exporter(Protocol):
    """A format: a function that writes it."""

    def __call__(self, store: Store, path: Path, request: Request) -> tuple[dict[str, str], tuple[str, ...]]:
        """Write ``store`` to the new file ``path``; return ``ExportSummary``'s contents and notes.

        Raises:
            ConfigError: the request does not fit the format.
            DataError: the store does not fit the format.
            OSError: no space, no permission, or a device error.
        """


_MAGIC = {".npz": b"PK", ".h5": b"\x89HDF\r\n", ".hdf5": b"\x89HDF\r\n", ".pkl": b"\x80", ".pickle": b"\x80"}
"""First bytes of files that the built-in formats write, by suffix."""

EXPORTS: Registry[Exporter] = Registry(
    "export",
    {
        "ctrgcn": "smae.data.export.ctrgcn:write",
        "pyskl": "smae.data.export.pyskl:write",
        "hdf5": "smae.data.export.hdf5:write",
    },
)


def export(
    store: Store | Path | str | None,
    to: Path | str,
    *,
    format: str,
    protocol: str | None = None,
    frames: int | None = None,
    anyway: bool = False,
    overwrite: bool = False,
) -> ExportSummary:
    """Write a store as one file of another format, atomically.

    Args:
        store: an open store or its path; found in the current folder if None.
        to: the file. An existing one is replaced only if it is a regular file that begins as files
            of this format do.
        format: name of the format, such as ``ctrgcn``.
        protocol, frames, anyway: see ``Request``.
        overwrite: replace an earlier export.

    Raises:
        UnknownNameError: unknown format or protocol.
        ConfigError: ``to`` may not be replaced, or an option does not fit the format.
        DataError: no usable store, or it does not fit the format.
        EnvironmentFault: no space, no permission, or a device error; nothing is left of the file.
        Interrupted: a signal arrived.
    """
    write = EXPORTS.get(format)
    store = open_store(store)
    to = Path(os.path.abspath(to))
    if to.is_dir():
        raise ConfigError(f"expected a file to write, found the folder {to}: add a file's name to --to")
    inputs = [store.path] if isinstance(store.path, Path) else []
    check_output(to, kind=f"a file of format {format}", is_kind=_is_export, overwrite=overwrite, inputs=inputs)
    with interrupts.deferred(), atomic_file(to) as partial:
        contents, notes = write(store, partial, Request(protocol, frames, anyway))
    return ExportSummary(to, format, to.stat().st_size, contents, notes)


def _is_export(path: Path) -> bool:
    """Return whether a file may be an earlier export: its first bytes fit its suffix, or it has no known one."""
    if not path.is_file():
        return False
    magic = _MAGIC.get(path.suffix.lower())
    with open(path, "rb") as file:
        return magic is None or file.read(len(magic)) == magic


def check_reference(store: Store, *, format: str, anyway: bool) -> tuple[str, ...]:
    """Return notes on how the store differs from what readers of the format expect; refuse it unless ``anyway``.

    Raises:
        DataError: cleaned in ``exact`` mode, resampled, or stored with rounding.
    """
    reasons = []
    if store.attributes.codec is not FLOAT32:
        reasons.append(f"its joints are rounded: it was prepared with --codec {store.attributes.codec.name}")
    if store.mode == "exact":
        reasons.append("it was cleaned in exact mode: bodies are at other frames, and gaps are marked, not zeros")
    if store.attributes.frames is not None:
        reasons.append(f"its clips were resampled to {store.attributes.frames} frames")
    if reasons and not anyway:
        raise DataError(
            f"{store.path} does not hold what readers of '{format}' files expect: {'; '.join(reasons)}. "
            "Prepare a store in reference mode without --frames and --codec, or add --anyway"
        )
    return tuple(f"unlike the published data: {reason}" for reason in reasons)


def class_numbers(store: Store) -> NDArray[np.int64]:
    """Return int64 [classes], the 0-based class numbers of published files: NTU's action number - 1, else the index.

    A store numbers only the classes it holds; published files number all classes of the data set. Data imported from
    published files keeps its numbers.
    """
    if store.dataset in (*NTU_PROTOCOLS, *IMPORTED):
        return np.array([int(name[1:]) - 1 for name in store.classes], np.int64)
    return np.arange(len(store.classes))


def clips_in_order(
    store: Store, indices: NDArray[np.int64], *, block: int
) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.float32]]]]:
    """Yield (indices, clips) of ``block`` clips at a time; NaN (unseen in exact mode) becomes 0.

    Neighbours in the store are read together, so a chunk is not decompressed once a clip.
    """
    for start in range(0, len(indices), block):
        part = indices[start : start + block]
        read = _read(store, np.sort(part))
        yield part, [read[int(index)] for index in part]


def _read(store: Store, indices: NDArray[np.int64]) -> dict[int, NDArray[np.float32]]:
    """Return clips by index, float32 [M, T, V, 3]; ``indices`` ascend."""
    clips, read = store.clips, {}
    for run in np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1):
        begin, ends = int(clips.offset[run[0]]), clips.offset[run] + clips.rows[run]
        rows = np.nan_to_num(store.rows(begin, int(ends[-1])), copy=False, nan=0.0)
        for index, end in zip(run.tolist(), (ends - begin).tolist(), strict=True):
            own = rows[end - int(clips.rows[index]) : end]
            read[index] = own.reshape(int(clips.bodies[index]), -1, *rows.shape[1:])
    return read
