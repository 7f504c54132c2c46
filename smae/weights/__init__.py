"""Weights that are part of the package, by name: folders of an encoder with a linear head."""

from __future__ import annotations

from pathlib import Path

from smae.errors import DataError
from smae.registry import nearest

FOLDER = Path(__file__).parent
DEFAULT = "open-small"
"""What ``embed`` and ``predict`` use where there is no run."""


def packaged() -> list[str]:
    """Return the names of the packaged weights."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def is_packaged(given: Path | str) -> bool:
    """Return whether packaged weights are meant: a path of that name comes first."""
    return str(given) in packaged() and not Path(given).exists()


def weights_folder(given: Path | str) -> Path:
    """Return a path as it is, or the packaged weights so called; else a ``DataError``."""
    path = Path(given)
    if is_packaged(given):
        return FOLDER / path.name
    if not path.exists():
        known = packaged()
        raise DataError(
            f"nothing at {given}: no such folder, nor are there packaged weights of this name "
            f"({', '.join(known) or 'none here'}){nearest(str(given), known)}"
        )
    return path
