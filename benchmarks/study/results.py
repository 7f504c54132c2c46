"""What came out of one row with one seed, as a small JSON file: read again, it is never trained again."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import machine
from smae.atomic_io import write_json

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"


@dataclass(frozen=True)
class Score:
    """The share of test clips that were right, of one thing under one mode."""

    mode: str
    what: str
    top1: float


@dataclass(frozen=True)
class ProbeResults:
    """What came out of one evaluation: its probes, their settings, wall time, scores; modes carry its name."""

    modes: tuple[str, ...]
    sets: tuple[str, ...]
    seconds: float
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Result:
    """One row with one seed.

    Attributes:
        row, seed: which.
        steps, loss, seconds: of pre-training: how many, the last one's, wall time.
        evaluated: one for each evaluation.
        config: all settings of the run.
        store: the store's fingerprint.
        commit: of the code; with a ``+``, changed since.
        machine: processor, system and versions.
    """

    row: str
    seed: int
    steps: int
    loss: float
    seconds: float
    evaluated: tuple[ProbeResults, ...]
    config: dict[str, Any]
    store: str
    commit: str
    machine: dict[str, str]

    @property
    def evaluation_seconds(self) -> float:
        """Seconds that all evaluations took."""
        return sum(one.seconds for one in self.evaluated)

    def top1(self, mode: str, what: str) -> float | None:
        """Return the share right, or None where that was not evaluated."""
        scores = (score for one in self.evaluated for score in one.scores)
        return next((score.top1 for score in scores if (score.mode, score.what) == (mode, what)), None)


def path_of(study: str, row: str, seed: int, *, folder: Path = RESULTS) -> Path:
    """Return where a row's result is kept."""
    return folder / study / f"{row}-{seed}.json"


def keep(result: Result, path: Path) -> None:
    """Write a result in one rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(result))


def read(path: Path) -> Result | None:
    """Return a result, or None where there is none."""
    if not path.is_file():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    evaluated = tuple(
        ProbeResults(
            tuple(one["modes"]), tuple(one["sets"]), one["seconds"], tuple(Score(**score) for score in one["scores"])
        )
        for one in values["evaluated"]
    )
    return Result(**values | {"evaluated": evaluated})


def commit() -> str:
    """Return the commit of the code that runs, with a ``+`` where the code was changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "smae", "benchmarks")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if changed else "")


def here() -> dict[str, str]:
    """Return what a figure depends on besides the code: processor, system, versions."""
    return {key: value for key, value in machine("torch", "numpy").items() if not key.startswith("load")}
