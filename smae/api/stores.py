"""Raw recordings to a store, and all that is asked of a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smae.api.common import silent
from smae.errors import DataError

if TYPE_CHECKING:
    from smae.data.export.base import ExportSummary
    from smae.data.raw.class_counts import ClassCount
    from smae.data.store.info import StoreInfo
    from smae.data.store.store import Store
    from smae.data.store.verify import VerifyReport
    from smae.data.synthetic.synth import SynthSummary

DEFAULT_STORE = Path("ntu.zarr")


def synthesise(out: Path | str, **options: Any) -> SynthSummary:
    """Write a synthetic raw folder; see ``smae.data.synthetic.synth.synthesise`` for the options."""
    from smae.data.synthetic.synth import synthesise as write

    return write(Path(out), **options)


def find_store(path: Path | str | None = None) -> Path | str:
    """Return ``path``, which can be a URL; without one, ``ntu.zarr`` or the only ``*.zarr`` of the current folder.

    Raises:
        DataError: there is none, or several and none called ``ntu.zarr``.
    """
    if path is not None:
        return path
    if DEFAULT_STORE.exists():
        return DEFAULT_STORE
    found = sorted(Path().glob("*.zarr"))
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"several stores here ({', '.join(map(str, found))}): say which with --data")
    raise DataError("no store here (expected ntu.zarr): make one with `smae prepare --raw ntu/ --out ntu.zarr`")


def open_store(path: Path | str | None = None) -> Store:
    """Open a prepared store for reading.

    Raises:
        DataError: no store there, or it is damaged.
    """
    from smae.data.store.store import open_store as open_

    return open_(find_store(path))


def info(path: Path | str | None = None) -> StoreInfo:
    """Return what a store holds."""
    from smae.data.store.info import info as describe

    return describe(open_store(path))


def classes(path: Path | str | None = None) -> list[ClassCount]:
    """Return the classes of a store, with NTU's names where they are NTU's, and the number of clips of each."""
    from smae.data.raw.class_counts import count_classes

    return count_classes(open_store(path))


def dataset_card(path: Path | str | None = None) -> str:
    """Return a store's card in Markdown: what it holds, what it was made of, what was left out, whose terms hold."""
    from smae.data.store.card import dataset_card as card

    return card(open_store(path))


def verify(path: Path | str | None = None, *, tell: Callable[[int, int], None] = silent) -> VerifyReport:
    """Check every byte of a store against its manifest; see ``smae.data.store.verify.verify``."""
    from smae.data.store.verify import verify as check

    return check(find_store(path), tell=tell)


def export(
    path: Path | str | None, to: Path | str, *, progress: Callable[[int, int], None] = silent, **options: Any
) -> ExportSummary:
    """Write a store in another form; see ``smae.data.export.export`` for the options."""
    from smae.data.export.base import export as write

    return write(open_store(path), Path(to), progress=progress, **options)
