"""What is around: runs and their state, unfinished preparations, the machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from smae.api.common import RUNS
from smae.errors import ConfigError

if TYPE_CHECKING:
    from smae.data.prepare.workspace import Unfinished
    from smae.diagnostics import Diagnosis
    from smae.eval.status import RunState


def status(folder: Path | str = ".") -> tuple[list[RunState], list[Unfinished]]:
    """Return the runs of a folder (its own, and those of its ``runs/``) with their state, and unfinished preparations.

    Raises:
        ConfigError: no such folder.
    """
    from smae.data.prepare.workspace import find_unfinished
    from smae.eval.status import run_states

    root = Path(folder)
    if not root.is_dir():
        raise ConfigError(f"{root}: no folder there: name one that holds runs/ or runs")
    return run_states(root / RUNS) + run_states(root), find_unfinished(root)


def doctor(folder: Path | str = ".") -> Diagnosis:
    """Look at this machine and environment; ``folder`` is where stores and runs would be written.

    Raises:
        ConfigError: no such folder.
    """
    from smae.diagnostics import examine

    if not Path(folder).is_dir():
        raise ConfigError(f"{folder}: no folder there: name the one that stores and runs are to be written to")
    return examine(Path(folder))
