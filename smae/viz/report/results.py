"""Evaluation results of a run as a picture with intervals and as a table, both HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from smae.eval.results import Result, Row
from smae.viz.report.markup import missing, percent

_WANTED = {"linear": "--mode linear --mode knn", "finetune": "--mode finetune", "semi-1": "--mode semi",
           "scratch": "--mode scratch"}  # fmt: skip
"""Modes whose absence is told, and what makes them."""


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
