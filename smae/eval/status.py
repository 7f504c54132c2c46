"""What state runs are in: running, finished or interrupted, how far, with what loss and results; loads no weights."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from smae.atomic_io import read_json
from smae.errors import DataError
from smae.eval.results import PRETRAINED
from smae.locks import is_locked
from smae.train.run_folder import Run

_TAIL = 1 << 16
"""Bytes at a log's end that are looked through for its last whole line."""


@dataclass(frozen=True)
class Score:
    """One result of a run's encoder; ``top1`` in [0, 1]."""

    protocol: str
    mode: str
    top1: float


@dataclass(frozen=True)
class RunState:
    """What state a run is in.

    Attributes:
        path: its folder.
        state: ``running``, ``finished``, ``interrupted`` or ``unreadable``.
        step, steps: done, and planned; 0 where unknown.
        loss: of the last step, None before the first.
        updated: when it last wrote a step, UTC, ISO 8601; empty before the first.
        pid, host: of the process that runs it; 0 and empty where none does.
        resumable: it was interrupted and has a checkpoint.
        scores: what ``smae eval`` found.
        problem: why it is unreadable.
    """

    path: Path
    state: str
    step: int = 0
    steps: int = 0
    loss: float | None = None
    updated: str = ""
    pid: int = 0
    host: str = ""
    resumable: bool = False
    scores: tuple[Score, ...] = ()
    problem: str = ""


def run_states(root: Path) -> list[RunState]:
    """Return the state of every run in a folder of runs, the one that wrote last at the end."""
    found = [_state(Run(entry.parent)) for entry in sorted(root.glob("*/run.json"))]
    return sorted(found, key=lambda run: run.updated)


def _state(run: Run) -> RunState:
    try:
        about = run.describe()
    except DataError as error:
        return RunState(run.path, "unreadable", problem=str(error))
    last = _last_line(run.log)
    step, steps = int(last.get("step", 0)), int(about.get("steps", 0))
    running = is_locked(run.lock)
    process: dict[str, Any] = about.get("process", {}) if running else {}
    saved = any(run.checkpoints.glob("step-*"))
    finished = saved and 0 < steps <= step
    return RunState(
        run.path,
        "running" if running else "finished" if finished else "interrupted",
        step,
        steps,
        loss=float(last["loss"]) if "loss" in last else None,
        updated=datetime.fromtimestamp(run.log.stat().st_mtime, UTC).isoformat(timespec="seconds") if last else "",
        pid=int(process.get("pid", 0)),
        host=str(process.get("host", "")),
        resumable=saved and not finished and not running,
        scores=tuple(_scores(run)),
    )


def _last_line(log: Path) -> dict[str, Any]:
    """Return the last step that the log holds whole; an empty one where there is none."""
    if not log.is_file():
        return {}
    with open(log, "rb") as source:
        source.seek(max(0, os.fstat(source.fileno()).st_size - _TAIL))
        lines = source.read().splitlines()
    for text in reversed(lines):
        try:
            line = json.loads(text)
        except ValueError:
            continue  # cut short by a crash, or by where the tail begins
        if isinstance(line, dict):
            return line
    return {}


def _scores(run: Run) -> list[Score]:
    scores = []
    for path in sorted(run.results.glob("*.json")):
        try:
            result = read_json(path, what="results", remedy="run smae eval again")
            own = next(row for row in result["rows"] if row["what"] == PRETRAINED)
            scores.append(Score(str(result["protocol"]), str(result["mode"]), float(own["top1"])))
        except (DataError, KeyError, TypeError, ValueError, StopIteration):
            continue  # a file of somebody else's, or damaged: smae report says which
    return scores
