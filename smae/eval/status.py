"""State of runs: running, finished or interrupted, steps, loss, results; no weights are loaded."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from smae.atomic_io import is_locked
from smae.data.prepare.workspace import Unfinished, find_unfinished
from smae.errors import ConfigError, DataError
from smae.eval.results import choose, read_results
from smae.tables import Grid, as_html, as_text
from smae.train.run_folder import RUNS, Run, read_log_line

_TAIL = 1 << 16
"""Bytes at the end of a log that are searched for its last whole line."""


@dataclass(frozen=True)
class Score:
    """The result of a protocol and probe that counts (``results.RULE``); ``top1`` in [0, 1].

    Attributes:
        notes: another store, an older checkpoint, clips seen before.
        others: how many other results of the same protocol and probe there are.
    """

    protocol: str
    mode: str
    top1: float
    notes: tuple[str, ...] = ()
    others: int = 0


@dataclass(frozen=True)
class RunState:
    """State of a run.

    Attributes:
        path: its folder.
        state: ``running``, ``finished``, ``interrupted``, ``no checkpoint`` (it stopped before it
            wrote one) or ``unreadable``.
        step, steps: steps done and planned; 0 if unknown.
        loss: of the last step; None before the first.
        updated: time of the last step, UTC, ISO 8601; empty before the first.
        pid, host: of the process that trains it; 0 and empty without one.
        resumable: whether it was interrupted and has a checkpoint.
        scores: results of ``smae eval``.
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


class Status(NamedTuple):
    """Runs with their state, the last updated at the end, and unfinished preparations."""

    runs: list[RunState]
    unfinished: list[Unfinished]

    def _grid(self) -> Grid:
        rows = [
            (str(one.path), one.state, f"{one.step:,} of {one.steps:,}", "" if one.loss is None else f"{one.loss:.4f}")
            for one in self.runs
        ]
        waiting = [(str(one.out), one.state, f"{one.done:,} of {one.total:,} samples", "") for one in self.unfinished]
        return Grid(("run", "state", "done", "loss"), rows + waiting)

    def __str__(self) -> str:
        return as_text(self._grid())

    def _repr_html_(self) -> str:
        return as_html(self._grid())


def status(folder: Path | str = ".") -> Status:
    """Return the state of the runs in a folder and its ``runs/``, and unfinished preparations.

    Raises:
        ConfigError: no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ConfigError(f"{root}: no folder there: name one that holds runs/ or runs")
    return Status(run_states(root / RUNS) + run_states(root), find_unfinished(root))


def run_states(root: Path) -> list[RunState]:
    """Return the state of every run in a folder, the one that was updated last at the end."""
    states = [_state(Run(entry.parent)) for entry in sorted(root.glob("*/run.json"))]
    return sorted(states, key=lambda state: state.updated)


def _state(run: Run) -> RunState:
    try:
        about = run.describe()
    except DataError as error:
        return RunState(run.path, "unreadable", problem=str(error))
    last, updated, loss = _last_step(run.log), "", None
    step, steps = last.get("step", 0), about.get("steps", 0)
    if last:
        changed = datetime.fromtimestamp(run.log.stat().st_mtime, UTC)
        updated = changed.isoformat(timespec="seconds")
    if "loss" in last:
        loss = float(last["loss"])
    saved = run.newest_checkpoint() is not None
    state, process = "interrupted" if saved else "no checkpoint", dict[str, Any]()
    if is_locked(run.lock):
        state, process = "running", about.get("process", {})
    elif saved and 0 < steps <= step:
        state = "finished"
    return RunState(
        run.path,
        state,
        step,
        steps,
        loss,
        updated,
        pid=process.get("pid", 0),
        host=process.get("host", ""),
        resumable=saved and state == "interrupted",
        scores=tuple(_scores(run)),
    )


def _last_step(log: Path) -> dict[str, Any]:
    """Return the last whole line of a log; empty if there is none."""
    if not log.is_file():
        return {}
    with open(log, "rb") as source:
        source.seek(max(0, os.fstat(source.fileno()).st_size - _TAIL))
        lines = source.read().splitlines()
    for text in reversed(lines):
        if (line := read_log_line(text)) is not None:
            return line
    return {}


def _scores(run: Run) -> list[Score]:
    results = read_results(run, strict=False)  # smae report names damaged ones
    count = Counter((one.protocol, one.mode) for one in results)
    return [
        Score(one.protocol, one.mode, one.top1, one.notes, count[one.protocol, one.mode] - 1) for one in choose(results)
    ]
