"""What ``smae eval`` found: read from a run's folder and checked, as a picture with intervals, and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.errors import DataError
from smae.train.report.markup import missing, percent
from smae.train.run import Run, read_json

PRETRAINED = "pre-trained encoder"
RANDOM = "random encoder"
SUPERVISED = "supervised from scratch"
LAST = "last"

MODES = ("finetune", "linear", "knn", "semi-1", "semi-2", "semi-5", "semi-10", "transfer", "scratch")
"""Known modes; the first that was judged leads the page."""

_WANTED = {"linear": "--mode linear --mode knn", "finetune": "--mode finetune", "semi-1": "--mode semi",
           "scratch": "--mode scratch"}  # fmt: skip
"""Modes whose absence is told, and what makes them."""


@dataclass(frozen=True)
class Row:
    """One line: what was judged, its accuracies in [0, 1], how they vary over seeds and test clips, a remark.

    ``slot`` gives it a colour of its own where several runs are compared.
    """

    what: str
    top1: float
    top5: float | None = None
    std: float | None = None
    interval: tuple[float, float] | None = None
    seeds: int = 1
    note: str = ""
    slot: int = -1

    @property
    def own(self) -> bool:
        """Whether it is a result, and no baseline."""
        return self.what == PRETRAINED


@dataclass(frozen=True, eq=False)
class Result:
    """What one probe found under one protocol.

    Attributes:
        protocol, mode: how it was judged.
        rows: the result and its baselines.
        classes: ids, by label.
        confusion: int64 [K, K], true class by predicted class.
        test, label, predicted: int64 [n]: clip numbers, true and predicted classes of the first seed.
        store: fingerprint of the store that was judged on.
    """

    protocol: str
    mode: str
    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    test: NDArray[np.int64]
    label: NDArray[np.int64]
    predicted: NDArray[np.int64]
    store: str

    @property
    def name(self) -> str:
        """How people call it."""
        return f"{self.protocol} · {self.mode}"

    @property
    def title(self) -> str:
        """The same, with the number of seeds that rows are the mean of."""
        return f"{self.name}, {self.lead.seeds} seeds" if self.lead.seeds > 1 else self.name

    @property
    def lead(self) -> Row:
        """The row that matters: the pre-trained encoder's, or the supervised one's of ``scratch``."""
        return next((row for row in self.rows if row.what in (PRETRAINED, SUPERVISED)), self.rows[0])


def read_results(run: Run, *, mode: str) -> list[Result]:
    """Return what was found of a run, the leading probe first.

    Args:
        run: whose.
        mode: how the store of the run was cleaned; results on another say so.

    Raises:
        DataError: a file that is no result of ``smae eval``.
    """
    found = [_read(path, mode=mode) for path in sorted(run.results.glob("*.json"))]
    return sorted(found, key=lambda one: (one.protocol, MODES.index(one.mode) if one.mode in MODES else len(MODES)))


def _read(path: Path, *, mode: str) -> Result:
    said = read_json(path, what="results", remedy="run smae eval again")
    try:
        result = Result(
            protocol=str(said["protocol"]),
            mode=str(said["mode"]),
            rows=tuple(_row(row, said, mode=mode) for row in said["rows"]),
            classes=tuple(map(str, said["classes"])),
            confusion=np.array(said["confusion"], np.int64),
            test=np.array(said["test"], np.int64),
            label=np.array(said["label"], np.int64),
            predicted=np.array(said["predicted"], np.int64),
            store=str(said.get("store", "")),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: no result of smae eval ({type(error).__name__}: {error}): run it again") from None
    count = len(result.classes)
    if result.confusion.shape != (count, count) or not result.rows:
        raise DataError(
            f"{path}: expected rows and a confusion matrix of shape {(count, count)}, found {len(result.rows)} rows "
            f"and {result.confusion.shape}: run smae eval again"
        )
    if not result.test.shape == result.label.shape == result.predicted.shape == (len(result.test),):
        raise DataError(f"{path}: clips, labels and predictions are not as many: run smae eval again")
    return result


def _row(row: dict[str, Any], said: dict[str, Any], *, mode: str) -> Row:
    seen, notes = said.get("seen_in_training", 0), []
    if seen and row["what"] == PRETRAINED:
        notes.append(f"{seen:,} test clips were seen in pre-training")
    if said.get("store_mode", mode) != mode:
        notes.append(f"on a store in {said['store_mode']} mode")
    if row.get("selection", LAST) != LAST:
        notes.append(f"epoch chosen: {row['selection']}")
    shares = {"top1": row["top1"], "top5": row.get("top5")} | dict(enumerate(row.get("interval") or ()))
    for share in shares.values():
        if share is not None and not 0 <= float(share) <= 1:
            raise ValueError(f"expected a share in [0, 1], found {share}")
    low_high = row.get("interval")
    return Row(
        what=str(row["what"]),
        top1=float(row["top1"]),
        top5=None if row.get("top5") is None else float(row["top5"]),
        std=None if row.get("std") is None else float(row["std"]),
        interval=None if low_high is None else (float(low_high[0]), float(low_high[1])),
        seeds=int(row.get("seeds", 1)),
        note="; ".join(notes),
    )


def headline(results: Sequence[Result]) -> str:
    """Return the first result beside its baselines, as large figures; nothing without any."""
    if not results:
        return ""
    lead = results[0]
    figures = "".join(
        f'<div class="figure{" own" if row is lead.lead else ""}"><b>{percent(row.top1)}</b>{escape(row.what)}</div>'
        for row in (lead.lead, *(row for row in lead.rows if row is not lead.lead and "epoch chosen" not in row.note))
    )
    return f'<p class="over">{escape(lead.name)} · top-1</p><div class="figures">{figures}</div>'


def draw_results(results: Sequence[Result], *, run: str, protocol: str) -> str:
    """Return the picture and the table of all results, and how to get those that are missing."""
    command = f"smae eval --checkpoint {run} --protocol {protocol}"
    if not results:
        return missing("Nothing was judged yet.", f"{command} --mode linear --mode knn")
    judged = {result.mode for result in results}
    others = [flags for mode, flags in _WANTED.items() if mode not in judged]
    more = missing("Not judged yet, but could be:", f"{command} {' '.join(others)}") if others else ""
    return f"{picture([(one.title, one.rows) for one in results])}{results_table(results)}{more}"


def picture(groups: Iterable[tuple[str, Iterable[Row]]]) -> str:
    """Return accuracies as dots on a common scale from 0, with their 95 % intervals."""
    groups = [(name, list(rows)) for name, rows in groups]
    highest = max(max(row.top1, row.interval[1] if row.interval else 0.0) for _, rows in groups for row in rows)
    top = min(1.0, np.ceil(highest * 5 + 1e-9) / 5)
    body = ""
    for name, rows in groups:
        lines = "".join(_dot(row, top) for row in rows)
        body += f'<div class="group"><h3>{escape(name)}</h3>{lines}</div>'
    ticks = "".join(f'<i style="left:{25 * n}%">{25 * n * top:.0f} %</i>' for n in range(5))
    return (
        f'<div class="forest">{body}<div class="row axis"><span class="what"></span><span class="track">{ticks}</span>'
        '<span class="value"></span></div></div><p class="note">Dots: top-1 accuracy on the test clips. Bars: 95 % '
        "interval, a bootstrap over seeds and test clips.</p>"
    )


def points(share: float | None) -> str:
    """Return a share in per cent, without the sign, for tables."""
    return "–" if share is None else f"{100 * share:.1f}"


def _dot(row: Row, top: float) -> str:
    span = ""
    if row.interval:
        low, high = (100 * edge / top for edge in row.interval)
        span = f'<i class="span" style="left:{low:.1f}%;width:{max(0.3, high - low):.1f}%"></i>'
    between = f", 95 % {percent(row.interval[0])} to {percent(row.interval[1])}" if row.interval else ""
    kind = f" s{row.slot}" if row.slot >= 0 else " own" if row.own else ""
    tip = escape(f"{row.what}: {percent(row.top1)}{between}")
    return (
        f'<div class="row{kind}" title="{tip}"><span class="what">{escape(row.what)}</span>'
        f'<span class="track">{span}<i class="dot" style="left:{100 * row.top1 / top:.1f}%"></i></span>'
        f'<span class="value">{percent(row.top1)}</span></div>'
    )


def results_table(results: Iterable[Result]) -> str:
    """Return every row as numbers."""
    body = ""
    for result in results:
        body += f'<tr class="group"><th colspan="4" scope="rowgroup">{escape(result.title)}</th></tr>'
        for row in result.rows:
            own = ' class="own"' if row.own else ""
            small = f"<small>{escape(row.note)}</small>" if row.note else ""
            spread = f" ± {100 * row.std:.1f}" if row.std is not None else ""
            between = f"{100 * row.interval[0]:.1f} to {100 * row.interval[1]:.1f}" if row.interval else "–"
            body += (
                f"<tr{own}><td>{escape(row.what)}{small}</td>"
                f"<td>{points(row.top1)}{spread}</td><td>{between}</td><td>{points(row.top5)}</td></tr>"
            )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("in per cent", "top-1", "95 %", "top-5"))
    return f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
