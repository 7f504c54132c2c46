"""Export: a store as one file that other code reads; each format is an exporter.

An outside package adds one through the entry-point group ``smae.exports``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from smae import interrupts
from smae.atomic_io import atomic_file, check_output
from smae.config import renamed
from smae.data.raw.array_source import IMPORTED
from smae.data.store import Store, open_store
from smae.data.store.chunks import FLOAT32
from smae.data.store.splits import NTU_PROTOCOLS
from smae.errors import DataError
from smae.registry import Registry
from smae.tables import Grid, Table, plain


@dataclass(frozen=True)
class Request:
    """Options of an export.

    Attributes:
        protocol: split to write; None where the format holds all of them.
        frames: pad every clip to this length, where the format pads; None for the longest clip.
        anyway: write a store that differs from what readers of the format expect.
    """

    protocol: str | None = None
    frames: int | None = None
    anyway: bool = False


@dataclass(frozen=True)
class ExportSummary(Table):
    """A written file.

    Attributes:
        path: the file.
        format: name of the format.
        bytes: its size.
        contents: its arrays or parts by name, each with its shape or length, as text.
        notes: what a reader of the file should know.
    """

    path: Path
    format: str
    bytes: int
    contents: dict[str, str]
    notes: tuple[str, ...] = ()

    def tables(self) -> list[Grid]:
        lines = [f"  {name}: {what}" for name, what in self.contents.items()]
        lines += [f"note: {note}" for note in self.notes]
        return plain(f"{self.path}: {self.bytes / 1e6:,.1f} MB", lines)


class Exporter(Protocol):
    """Writes one format; decorated with ``signature``, it can replace its files."""

    def __call__(self, store: Store, path: Path, request: Request) -> tuple[dict[str, str], tuple[str, ...]]:
        """Write ``store`` to the new file ``path``; return ``ExportSummary``'s contents and notes.

        Long work opens a ``smae.progress.task`` and calls ``smae.interrupts.check``.

        Raises:
            ConfigError: the request does not fit the format.
            DataError: the store does not fit the format.
            OSError: the disk refused.
        """


EXPORTS: Registry[Exporter] = Registry(
    "export",
    {
        "ctrgcn": "smae.data.export.ctrgcn:write",
        "pyskl": "smae.data.export.pyskl:write",
        "hdf5": "smae.data.export.hdf5:write",
    },
)
ExporterT = TypeVar("ExporterT", bound=Exporter)


def signature(*suffixes: str, magic: bytes = b"") -> Callable[[ExporterT], ExporterT]:
    """Return a decorator that declares how files of an exporter are recognised.

    Args:
        suffixes: ends of a file's name (``".npz"``), in lower case.
        magic: its first bytes; none for text.
    """

    def declare(exporter: ExporterT) -> ExporterT:
        exporter.signature = suffixes, magic  # type: ignore[attr-defined]
        return exporter

    return declare


@renamed(to="out")
def export(
    path: Store | Path | str | None,
    out: Path | str,
    *,
    format: str,
    protocol: str | None = None,
    frames: int | None = None,
    anyway: bool = False,
    overwrite: bool = False,
) -> ExportSummary:
    """Write a store as one file of another format; the file appears when it is complete.

    Args:
        path: an open store, a path or URL, or None for the one that ``find_store`` finds.
        out: the file.
        format: registered export, such as ``ctrgcn``.
        protocol, frames, anyway: see ``Request``.
        overwrite: replace an earlier export: a regular file with a suffix and the first bytes of
            this format. Anything else is never replaced, nor is a file written into the store.

    Raises:
        UnknownNameError: no such format or protocol.
        ConfigError: ``out`` must not be replaced, or an option does not fit the format.
        DataError: no store there, a damaged one, or one that does not fit the format.
        EnvironmentFault: the disk refused; an earlier file is intact.
    """
    exporter = EXPORTS.get(format)
    store = open_store(path)
    out = Path(os.path.abspath(out))
    inputs = [store.path] if isinstance(store.path, Path) else []
    is_kind = partial(_has_signature, exporter)
    check_output(out, kind=f"a file of format {format}", is_kind=is_kind, overwrite=overwrite, inputs=inputs)
    with interrupts.deferred(), atomic_file(out) as temporary:
        contents, notes = exporter(store, temporary, Request(protocol, frames, anyway))
    return ExportSummary(out, format, out.stat().st_size, contents, notes)


def _has_signature(exporter: Exporter, file: Path) -> bool:
    declared = getattr(exporter, "signature", None)
    if declared is None or not file.is_file():
        return False
    suffixes, magic = declared
    try:
        with open(file, "rb") as opened:
            return file.suffix.lower() in suffixes and opened.read(len(magic)) == magic
    except OSError:
        return False


def check_reference(store: Store, *, format: str, anyway: bool) -> tuple[str, ...]:
    """Return how a store differs from what readers expect; a ``DataError`` unless ``anyway``."""
    reasons = []
    if store.codec is not FLOAT32:
        reasons.append(f"its joints are rounded: it was prepared with --codec {store.codec.name}")
    if store.mode == "exact":
        reasons.append("it was cleaned in exact mode: bodies stand at other frames, and gaps are marked, not zeros")
    if store.attributes.frames is not None:
        reasons.append(f"its clips were resampled to {store.attributes.frames} frames")
    if reasons and not anyway:
        raise DataError(
            f"{store.path} differs from what code for '{format}' files was measured on: {'; '.join(reasons)}. "
            "Prepare a store in reference mode without --frames and --codec, or add --anyway"
        )
    return tuple(f"unlike the published data: {reason}" for reason in reasons)


def class_numbers(store: Store) -> NDArray[np.int64]:
    """Return int64 [classes], the 0-based number of each class in other people's files.

    Those count all classes of a data set, a store only the ones it holds: NTU's action number - 1, and
    the numbers of imported files; else the class's label. A ``DataError`` for one without a number.
    """
    if store.dataset in (*NTU_PROTOCOLS, *IMPORTED):
        for name in store.classes:
            if not re.fullmatch(r"[A-Z][0-9]{1,4}", name) or not int(name[1:]):
                raise DataError(
                    f"{store.path}: class '{name}' of a store of '{store.dataset}', whose classes "
                    "are numbered from A001 on: prepare the store again"
                )
        return np.array([int(name[1:]) - 1 for name in store.classes], np.int64)
    return np.arange(len(store.classes))


def read_clips(
    store: Store, indices: NDArray[np.int64], *, block: int
) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.float32]]]]:
    """Yield indices and clips, float32 [M, T, V, 3], ``block`` at a time, 0 for NaN.

    Between two blocks an interrupt ends the work.
    """
    for start in range(0, len(indices), block):
        interrupts.check()
        part = indices[start : start + block]
        # Neighbours in the store are read together: a chunk holds rows of many clips, and would be
        # unpacked again for each of them.
        clips = _read_runs(store, np.sort(part))
        yield part, [clips[int(index)] for index in part]


def _read_runs(store: Store, indices: NDArray[np.int64]) -> dict[int, NDArray[np.float32]]:
    """Return clips by index; ``indices`` ascend."""
    table, clips = store.clips, {}
    for run in np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1):
        begin, ends = int(table.offset[run[0]]), table.offset[run] + table.rows[run]
        rows = np.nan_to_num(store.rows(begin, int(ends[-1])), copy=False, nan=0.0)
        for index, end in zip(run.tolist(), (ends - begin).tolist(), strict=True):
            clip = rows[end - int(table.rows[index]) : end]
            clips[index] = clip.reshape(int(table.bodies[index]), -1, *rows.shape[1:])
    return clips
