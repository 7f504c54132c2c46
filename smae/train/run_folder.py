"""A run's folder: what it is called, where its parts lie, how it is found again.

``runs/<name>/`` holds ``run.json`` (settings, store, versions), ``log.jsonl``, ``checkpoints/``, ``tensorboard/``,
``eval/``, ``heads/`` and ``report.html``; ``.lock`` while it is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smae.atomic_io import read_json
from smae.data.store.store import Store
from smae.errors import ConfigError, DataError
from smae.registry import nearest

VERSION = 1
RUNS = Path("runs")


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    path: Path

    @property
    def log(self) -> Path:
        """JSON lines, one per step."""
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints, one folder a step."""
        return self.path / "checkpoints"

    @property
    def lock(self) -> Path:
        """Held by the process that trains the run."""
        return self.path / ".lock"

    @property
    def results(self) -> Path:
        """Folder of evaluation results."""
        return self.path / "eval"

    @property
    def heads(self) -> Path:
        """Folder of classifiers that evaluation trained, one folder each."""
        return self.path / "heads"

    def describe(self) -> dict[str, Any]:
        """Return ``run.json``.

        Raises:
            DataError: the folder holds no readable run, or one of a newer version.
        """
        remedy = "name a folder that smae pretrain wrote"
        about = read_json(self.path / "run.json", what="run", remedy=remedy)
        if about.get("version") != VERSION:
            raise DataError(
                f"{self.path}: run format {about.get('version')!r}, this smae reads {VERSION}: use the one it came from"
            )
        missing = [key for key in ("config", "store", "versions", "device") if not isinstance(about.get(key), dict)]
        if missing:
            raise DataError(f"{self.path}: its run.json lacks {', '.join(missing)}: {remedy}")
        return about

    def check_layout(self, store: Store) -> None:
        """Refuse a store whose joints are laid out otherwise than those the run was trained on.

        Raises:
            DataError: another layout, or no readable run.
        """
        trained = self.describe()["store"].get("layout")
        if trained != store.layout.name:
            raise DataError(
                f"{self.path} was trained on layout {trained}, {store.path} holds {store.layout.name}: its weights "
                "know the joints of that layout alone; give a store of the same layout with --data"
            )


def new_run(root: Path, stem: str) -> Run:
    """Return the first free ``root/stem-NNN``, created."""
    for number in range(1, 10_000):
        path = root / f"{stem}-{number:03d}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return Run(path)
    raise ConfigError(f"{root}: 9,999 runs called {stem} are there: name yours with --out")


def find_run(path: Path | None, *, root: Path) -> Run:
    """Return the run at ``path``, or the newest under ``root`` when no path is given.

    Raises:
        DataError: there is none.
    """
    if path is not None:
        known = [entry.parent.name for entry in path.parent.glob("*/run.json")]
        if not (path / "run.json").is_file():
            raise DataError(f"{path}: no run there (no run.json){nearest(path.name, known)}")
        return Run(path)
    found = [entry.parent for entry in root.glob("*/run.json")]
    if not found:
        raise DataError(f"{root}: no run found: train one with `smae pretrain`, or name one with --checkpoint")
    return Run(max(found, key=lambda folder: (_changed(folder), folder.name)))


def find_checkpoint(path: Path | str | None) -> tuple[Run, Path | None]:
    """Return the run at ``path``, or the newest one, and the checkpoint that ``path`` names, if it names one."""
    path = Path(path) if path is not None else None
    step = path if path is not None and path.name.startswith("step-") else None
    return find_run(step.parent.parent if step is not None else path, root=RUNS), step


def _changed(folder: Path) -> int:
    return max((entry.stat().st_mtime_ns for entry in [folder / "run.json", *folder.glob("checkpoints/*")]), default=0)
