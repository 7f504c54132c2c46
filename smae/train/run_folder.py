"""A run's folder: its files, naming and lookup.

``runs/<name>/`` holds ``run.json`` (settings, store, versions), ``log.jsonl``, ``checkpoints/``,
``tensorboard/``, ``eval/``, ``heads/`` and ``report.html``; ``.lock`` while it is trained.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smae.atomic_io import MAX_INTEGER, read_json
from smae.errors import ConfigError, DataError
from smae.registry import nearest

if TYPE_CHECKING:
    from smae.data.store.store import Store

VERSION = 1
RUNS = Path("runs")
"""Folder for runs that are not named."""
_ABOUT = {"steps": int, "process": dict}
_PARTS: dict[str, dict[str, type]] = {
    "store": {"path": str, "layout": str, "dataset": str, "mode": str, "fingerprint": str, "clips": int},
    "process": {"pid": int, "host": str},
    "config": {"protocol": str, "objective": dict, "augment": dict},
}
"""Values of ``run.json`` that are read, where they are there."""
_NUMBERS = ("step", "epoch", "loss", "lr", "clips", "seconds", "host_bytes", "device_bytes")


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    path: Path

    @property
    def log(self) -> Path:
        """Training curves: JSON lines, one per step."""
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints, one folder a step."""
        return self.path / "checkpoints"

    @property
    def lock(self) -> Path:
        """Lock held by the process that trains the run."""
        return self.path / ".lock"

    @property
    def results(self) -> Path:
        """Evaluation results."""
        return self.path / "eval"

    @property
    def heads(self) -> Path:
        """Classifiers trained by evaluation, one folder each."""
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
        wrong = [key for key in ("config", "store", "versions", "device") if not isinstance(about.get(key), dict)]
        wrong = wrong or _of_other_kinds(about, _ABOUT)
        wrong = wrong or [
            f"{part}.{key}" for part, kinds in _PARTS.items() for key in _of_other_kinds(about.get(part, {}), kinds)
        ]
        if wrong:
            raise DataError(f"{self.path}: its run.json lacks {', '.join(wrong)}, or has another kind: {remedy}")
        return about

    def check_layout(self, store: Store) -> None:
        """Raise a ``DataError`` unless a store has the joint layout that the run was trained on."""
        trained = self.describe()["store"].get("layout")
        if trained != store.layout.name:
            raise DataError(
                f"{self.path} was trained on layout {trained}, {store.path} holds {store.layout.name}: its weights "
                "fit the joints of that layout only; give a store of the same layout with --data"
            )


def _of_other_kinds(values: dict[str, Any], kinds: dict[str, type]) -> list[str]:
    """Return the keys whose values are of another kind than they should be, or below 0."""
    found = {key: values[key] for key in kinds if key in values}
    return [
        key for key, value in found.items() if type(value) is not kinds[key] or (isinstance(value, int) and value < 0)
    ]


def read_log_line(text: str | bytes) -> dict[str, Any] | None:
    """Return a line of a run's log; None if it was cut off by a crash, or is none of a run."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return None
    numbers = [line[key] for key in _NUMBERS if key in line]
    sound = all(type(number) in (int, float) and abs(number) <= MAX_INTEGER for number in numbers)
    return line if sound else None


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


def find_run(path: Path | str | None = None, *, root: Path = RUNS) -> Run:
    """Return the run at ``path``; without a path, the newest under ``root``.

    Raises:
        DataError: there is none.
    """
    if path is not None:
        path = Path(path)
        if not (path / "run.json").is_file():
            known = [entry.parent.name for entry in path.parent.glob("*/run.json")]
            raise DataError(f"{path}: no run there (no run.json){nearest(path.name, known)}")
        return Run(path)
    runs = [entry.parent for entry in root.glob("*/run.json")]
    if not runs:
        raise DataError(f"{root}: no run found: train one with `smae pretrain`, or name one with --checkpoint")
    return Run(max(runs, key=lambda folder: (_last_change(folder), folder.name)))


def find_checkpoint(path: Path | str | None = None) -> tuple[Run, Path | None]:
    """Return a run and, if ``path`` is one of its checkpoints rather than the run, that checkpoint.

    Raises:
        DataError: there is no run.
    """
    if path is None or not Path(path).name.startswith("step-"):
        return find_run(path), None
    step = Path(path)
    return find_run(step.parent.parent), step


def _last_change(folder: Path) -> int:
    return max((entry.stat().st_mtime_ns for entry in [folder / "run.json", *folder.glob("checkpoints/*")]), default=0)
