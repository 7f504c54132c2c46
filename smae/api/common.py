"""What the functions of this package share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smae.train.run_folder import Run

Say = Callable[[str], None]
RUNS = Path("runs")


def silent(*args: object) -> None:
    """Take progress and say nothing."""


def find_checkpoint(path: Path | str | None) -> tuple[Run, Path | None]:
    """See ``smae.train.run_folder.find_checkpoint``."""
    from smae.train import run_folder

    return run_folder.find_checkpoint(path)
