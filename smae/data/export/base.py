"""What every export offers, and the one way in: checks, a temporary name, the file in its place when it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from smae.atomic_io import atomic_file
from smae.data.raw.array_source import IMPORTED
from smae.data.store.codecs import FLOAT32
from smae.data.store.splits import NTU_PROTOCOLS
from smae.data.store.store import Store
from smae.errors import ConfigError, DataError, EnvironmentFault
from smae.registry import Registry


def _silent(done: int, total: int) -> None:
    """Take progress and say nothing."""


@dataclass(frozen=True)
class Request:
    """What is asked of an exporter, besides the store and the file.

    Attributes:
        protocol: split to write; None where the form holds all of them.
        frames: pad every clip to so many frames, where the form pads; None for the longest clip of the data set.
        anyway: write even where the store does not hold what the form's readers expect.
        progress: told clips done and clips in all.
    """

    protocol: str | None = None
    frames: int | None = None
    anyway: bool = False
    progress: Callable[[int, int], None] = _silent


@dataclass(frozen=True)
class ExportSummary:
    """What was written.

    Attributes:
        path: the file.
        format: name of the form.
        bytes: its size.
        contents: its arrays or parts by name, each with its shape or length, for people.
        notes: what a reader of the file should know.
    """

    path: Path
    format: str
    bytes: int
    contents: dict[str, str]
    notes: tuple[str, ...] = field(default=())


class Exporter(Protocol):
    """One form."""

    def __call__(self, store: Store, path: Path, request: Request) -> tuple[dict[str, str], tuple[str, ...]]:
        """Write ``store`` to the new file ``path``; return ``ExportSummary``'s contents and notes.

        Raises:
            ConfigError: the request does not fit the form.
            DataError: the store does not fit the form.
            OSError: the disk refused.
        """
        ...


EXPORTS: Registry[Exporter] = Registry(
    "export",
    {
        "ctrgcn": "smae.data.export.ctrgcn:write",
        "pyskl": "smae.data.export.pyskl:write",
        "hdf5": "smae.data.export.hdf5:write",
    },
)


def export(
    store: Store,
    to: Path,
    *,
    format: str,
    protocol: str | None = None,
    frames: int | None = None,
    anyway: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = _silent,
) -> ExportSummary:
    """Write a store as one file of another form; the file appears when it is whole.

    Args:
        store: what to write.
        to: the file.
        format: registered export, such as ``ctrgcn``.
        protocol, frames, anyway, progress: see ``Request``.
        overwrite: replace a file that is there already.

    Raises:
        UnknownNameError: no such form or protocol.
        ConfigError: ``to`` is in the way, or an option does not fit the form.
        DataError: the store does not fit the form.
        EnvironmentFault: the disk refused; nothing is left of the file.
    """
    write = EXPORTS.get(format)
    to = Path(os.path.abspath(to))
    if isinstance(store.path, Path) and store.path.resolve() in (to.resolve(), *to.resolve().parents):
        raise ConfigError(f"the output {to} lies inside the store: choose another --to")
    if to.is_dir():
        raise ConfigError(f"expected a file to write, found the folder {to}: add a file's name to --to")
    if to.exists() and not overwrite:
        raise ConfigError(f"{to} is there already: add --overwrite to replace it, or choose another --to")
    try:
        with atomic_file(to) as partial:
            contents, notes = write(store, partial, Request(protocol, frames, anyway, progress))
    except EnvironmentFault as error:
        raise EnvironmentFault(f"cannot write {to}: {error.__cause__ or error}; make room and export again") from error
    return ExportSummary(to, format, to.stat().st_size, contents, notes)


def check_reference(store: Store, *, form: str, anyway: bool) -> tuple[str, ...]:
    """Return notes on how the store differs from what the form's readers expect; refuse it unless ``anyway``.

    Raises:
        DataError: cleaned in ``exact`` mode, resampled, or kept with rounding.
    """
    reasons = []
    if store.attributes.codec is not FLOAT32:
        reasons.append(f"its joints are rounded: it was prepared with --codec {store.attributes.codec.name}")
    if store.mode == "exact":
        reasons.append("it was cleaned in exact mode: bodies stand at other frames, and gaps are marked, not zeros")
    if store.attributes.frames is not None:
        reasons.append(f"its clips were resampled to {store.attributes.frames} frames")
    if reasons and not anyway:
        raise DataError(
            f"{store.path} does not hold what code for '{form}' files was measured on: {'; '.join(reasons)}. "
            "Prepare a store in reference mode without --frames and --codec, or add --anyway"
        )
    return tuple(f"unlike the published data: {reason}" for reason in reasons)


def class_numbers(store: Store) -> NDArray[np.int64]:
    """Return int64 [classes], the 0-based number that others give each class: NTU's action number - 1, else its place.

    A store counts only the classes it holds; other people's files count all of the data set's. Data that came in such
    a file keep its numbers.
    """
    if store.dataset in (*NTU_PROTOCOLS, *IMPORTED):
        return np.array([int(name[1:]) - 1 for name in store.classes], np.int64)
    return np.arange(len(store.classes))


def clips_in_order(
    store: Store, places: NDArray[np.int64], *, block: int
) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.float32]]]]:
    """Yield (places, clips) of ``block`` clips at a time; NaN, where exact mode saw nobody, becomes 0.

    Neighbours in the store are read together, so that no chunk is unpacked once a clip.
    """
    for start in range(0, len(places), block):
        part = places[start : start + block]
        read = _read(store, np.sort(part))
        yield part, [read[int(place)] for place in part]


def _read(store: Store, places: NDArray[np.int64]) -> dict[int, NDArray[np.float32]]:
    """Return clips by place, float32 [M, T, V, 3]; ``places`` ascends."""
    clips, found = store.clips, {}
    for run in np.split(places, np.flatnonzero(np.diff(places) != 1) + 1):
        begin, ends = int(clips.offset[run[0]]), clips.offset[run] + clips.rows[run]
        rows = np.nan_to_num(store.rows(begin, int(ends[-1])), copy=False, nan=0.0)
        for place, end in zip(run.tolist(), (ends - begin).tolist(), strict=True):
            own = rows[end - int(clips.rows[place]) : end]
            found[place] = own.reshape(int(clips.bodies[place]), -1, *rows.shape[1:])
    return found
