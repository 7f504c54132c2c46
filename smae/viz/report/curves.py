"""How training went: loss, learning rate, throughput and memory over steps, from the log of each run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smae.train.metrics_log import read_log
from smae.train.run_folder import Run
from smae.viz.report.charts import Floats, Series, line_chart
from smae.viz.report.markup import missing

STRETCHES = 120
"""Points of the throughput curve; each is the mean over its share of the steps."""

_MEMORY = {"host_bytes": "host", "device_bytes": "device"}
_PAUSE = 20.0
"""A step that took so many times the median one holds an interruption or a checkpoint, and says nothing of pace."""


@dataclass(frozen=True)
class Curves:
    """What a run's log says.

    Attributes:
        step, loss, lr: [P], a point a step.
        pace: clips a second over steps: (x, y).
        memory: peak GB so far over steps, by where: (x, y).
        seconds: of training.
        epochs: begun.
    """

    step: Floats
    loss: Floats
    lr: Floats
    pace: tuple[Floats, Floats]
    memory: dict[str, tuple[Floats, Floats]]
    seconds: float
    epochs: int


def read_curves(run: Run, *, say: Callable[[str], None]) -> Curves | None:
    """Return the curves of a run; None where it has logged no step."""
    lines = [line for line in read_log(run.log, note=say) if isinstance(line, dict) and "step" in line]
    if not lines:
        return None
    return Curves(
        step=_column(lines, "step"),
        loss=_column(lines, "loss"),
        lr=_column(lines, "lr"),
        pace=_pace(lines),
        memory={name: _memory(lines, key) for key, name in _MEMORY.items() if any(key in line for line in lines)},
        seconds=float(lines[-1].get("seconds", 0.0)),
        epochs=int(lines[-1].get("epoch", 0)) + 1,
    )


def draw_curves(
    runs: Sequence[tuple[str, Curves | None]], *, losses: Sequence[Sequence[int]] | None = None, command: str = ""
) -> str:
    """Return the charts of one run, or of several over each other.

    Args:
        runs: name and curves of each.
        losses: numbers of runs whose losses are on one scale, a chart each; all in one when left out.
        command: trains a run that has not begun.
    """
    found = [(slot, name, curves) for slot, (name, curves) in enumerate(runs) if curves is not None]
    if not found:
        return missing("No step was logged yet.", command)
    charts = []
    for group in losses or [range(len(runs))]:
        lines = [Series(name, c.step, c.loss, slot) for slot, name, c in found if slot in group]
        alone = f" of {', '.join(line.name for line in lines)}" if len(lines) < len(found) else ""
        charts.append(line_chart(f"loss{alone}", lines, smooth=True))
    charts.append(line_chart("learning rate", [Series(name, c.step, c.lr, slot) for slot, name, c in found]))
    charts.append(line_chart("clips per second", [Series(name, *c.pace, slot) for slot, name, c in found], zero=True))
    several = len(found) > 1
    held = [
        Series(f"{name}, {where}" if several else where, *line, slot if several else place)
        for slot, name, c in found
        for place, (where, line) in enumerate(c.memory.items())
    ]
    charts.append(
        line_chart("memory, peak so far (GB)", held, zero=True)
        if held
        else missing("This run's log holds no memory: it was written before smae noted it.")
    )
    return f'<div class="charts">{"".join(charts)}</div>'


def _column(lines: list[dict[str, Any]], key: str) -> Floats:
    return np.array([float(line.get(key, np.nan)) for line in lines])


def _memory(lines: list[dict[str, Any]], key: str) -> tuple[Floats, Floats]:
    told = [line for line in lines if key in line]
    return _column(told, "step"), _column(told, key) / 1e9


def _pace(lines: list[dict[str, Any]]) -> tuple[Floats, Floats]:
    """Return clips a second of stretches of steps, without those that hold a pause."""
    steps, clips = _column(lines, "step"), _column(lines, "clips")
    took = np.diff(_column(lines, "seconds"), prepend=np.nan)
    good = took > 0  # the first step, whose beginning was not noted, is not: it is NaN
    good &= took <= _PAUSE * (np.median(took[good]) if good.any() else 0.0)
    if not good.any():
        return np.zeros(0), np.zeros(0)
    pieces = np.array_split(np.flatnonzero(good), min(STRETCHES, max(1, int(good.sum()) // 4)))
    return (
        np.array([steps[piece].mean() for piece in pieces]),
        np.array([clips[piece].sum() / took[piece].sum() for piece in pieces]),
    )
