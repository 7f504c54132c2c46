"""What the functions of this package share: silence, and which run is meant."""

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
    """Return the run at ``path``, or the newest one, and the checkpoint that ``path`` names, if it names one."""
    from smae.train.run_folder import find_run

    path = Path(path) if path is not None else None
    step = path if path is not None and path.name.startswith("step-") else None
    return find_run(step.parent.parent if step is not None else path, root=RUNS), step
