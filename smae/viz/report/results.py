"""Evaluation results as a chart with intervals and a table, and their confusion matrices."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smae.eval.records import LAST, Row
from smae.eval.results import RULE, Result, choose, differences
from smae.viz.report.page import bars, missing, note, percent, table

SMALL = 20
"""Largest number of classes for which cells show their number."""
SHADES = 12
"""Steps of a cell's shade; cells of one shade are one path, which keeps large matrices small."""
_LABEL = 24
_WORST = 8
_MODES = {
    "linear": "--probe linear --probe knn",
    "finetune": "--probe finetune",
    "semi-1": "--probe semi",
    "scratch": "--probe scratch",
}
"""Modes that the page asks for while they are missing, and the options that add them."""


def headline(results: Sequence[Result]) -> str:
    """Return the first result beside its baselines in large figures; nothing without results."""
    if not results:
        return ""
    result, body = results[0], ""
    lead = result.lead
    others = [row for row in result.rows if row is not lead and row.selection == LAST]
    for row in (lead, *others):
        own = " own" * (row is lead)
        body += f'<div class="figure{own}"><b>{percent(row.top1)}</b>{escape(row.what)}</div>'
    about = " · ".join([f"{result.name} · top-1", *result.notes])
    return f'<p class="over">{escape(about)}</p><div class="figures">{body}</div>'


def draw_results(results: Sequence[Result], run: Path, protocol: str) -> str:
    """Return chart and table of all results, and the command that adds missing ones."""
    command = f"smae eval --run {run} --protocol {protocol}"
    if not results:
        return missing("Not evaluated yet.", f"{command} --probe linear --probe knn")
    modes = {result.mode for result in results}
    others = [options for mode, options in _MODES.items() if mode not in modes]
    # With the settings in which results of a probe differ.
    pairs = zip(results, differences(results), strict=True)
    titles = [f"{one.title} · {words}" if words else one.title for one, words in pairs]
    lists = [(title, result.rows) for title, result in zip(titles, results, strict=True)]
    body = warnings_of(results) + draw_accuracies(lists) + results_table(results, titles)
    if len(choose(results)) < len(results):
        body += note(f"Of several results of a probe, the first one counts: {RULE}.")
    if others:
        body += missing("More evaluations:", f"{command} {' '.join(others)}")
    return body


def warnings_of(results: Iterable[Result]) -> str:
    """Return what makes figures less than they seem, each once."""
    words = dict.fromkeys(f"{one.protocol}: {line}" for one in results for line in one.warnings)
    return "".join(f'<p class="warning">{escape(line)}</p>' for line in words)


def draw_accuracies(groups: Iterable[tuple[str, Iterable[Row]]]) -> str:
    """Return accuracies as dots with their 95 % intervals, all on one scale from 0."""
    groups = [(name, list(rows)) for name, rows in groups]
    highest = max(max(row.top1, *(row.interval or (0.0,))) for _, rows in groups for row in rows)
    top = min(1.0, np.ceil(highest * 5 + 1e-9) / 5)
    body = ""
    for name, rows in groups:
        lines = "".join(_dot(row, top) for row in rows)
        body += f'<div class="group"><h3>{escape(name)}</h3>{lines}</div>'
    ticks = "".join(f'<i style="left:{25 * n}%">{25 * n * top:.0f} %</i>' for n in range(5))
    axis = f'<span class="what"></span><span class="track">{ticks}</span><span class="value"></span>'
    return f'<div class="forest">{body}<div class="row axis">{axis}</div></div>' + note(
        "Dots: top-1 accuracy on the test clips. Bars: 95 % bootstrap interval over seeds and test clips."
    )


def _dot(row: Row, top: float) -> str:
    name, value, kind, span = escape(row.what), percent(row.top1), "", ""
    tip = f"{name}: {value}"
    if row.interval:
        low, high = (100 * edge / top for edge in row.interval)
        span = f'<i class="span" style="left:{low:.1f}%;width:{max(0.3, high - low):.1f}%"></i>'
        tip += f", 95 % interval {percent(row.interval[0])} to {percent(row.interval[1])}"
    if row.slot >= 0:
        kind = f" s{row.slot}"
    elif row.own:
        kind = " own"
    return (
        f'<div class="row{kind}" title="{tip}"><span class="what">{name}</span>'
        f'<span class="track">{span}<i class="dot" style="left:{100 * row.top1 / top:.1f}%"></i></span>'
        f'<span class="value">{value}</span></div>'
    )


def row_numbers(row: Row) -> tuple[str, str, str, str]:
    """Return a row's top-1 ± deviation, interval, mean class accuracy, top-5, in per cent."""
    top1, interval = percent(row.top1, ""), "–"
    if row.std is not None:
        top1 += f" ± {100 * row.std:.1f}"
    if row.interval:
        interval = " to ".join(percent(edge, "") for edge in row.interval)
    return top1, interval, percent(row.mean_class, ""), percent(row.top5, "")


def results_table(results: Sequence[Result], titles: Sequence[str]) -> str:
    """Return every row as numbers, each result with the settings and origin of its own record."""
    body = ""
    for result, title in zip(results, titles, strict=True):
        lines = "".join(f"<small>{escape(line)}</small>" for line in (*result.notes, *provenance(result)))
        body += f'<tr class="group"><th colspan="5" scope="rowgroup">{escape(title)}{lines}</th></tr>'
        for row in result.rows:
            name, own = escape(row.what), ' class="own"' * row.own
            if row.selection != LAST:
                name += f" ({escape(row.selection)})"
            cells = "".join(f"<td>{cell}</td>" for cell in (name, *row_numbers(row)))
            body += f"<tr{own}>{cells}</tr>"
    names = ("in per cent", "top-1", "95 %", "mean class", "top-5")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return (
        f'<div class="scroll"><table class="results"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def provenance(result: Result, *, without: tuple[str, ...] = ()) -> list[str]:
    """Return settings of a result, its augmentation, and when, how and with what it was made."""
    groups: dict[bool, list[str]] = {False: [], True: []}
    for key, value in result.settings.items():
        if key in without:
            continue
        groups[key.startswith("augment.")].append(f"{key.removeprefix('augment.')} {value}")
    made: dict[str, str] = {}
    for record in result.records:
        about = record.content
        versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        commit = f"commit {about['commit']}" * bool(about["commit"])
        how = " · ".join(filter(None, [commit, versions, about["device"], about["command"]]))
        made.setdefault(how, about["date"][:16].replace("T", " "))
    lines = [f"{date} UTC · {how}" for how, date in made.items()]
    return [", ".join(groups[False]), f"augmentation: {', '.join(groups[True])}", *lines]


def draw_confusion(names: Sequence[str], matrix: NDArray[np.int64]) -> str:
    """Return one result's confusion matrix, its most frequent confusions and the accuracy by class.

    Args:
        names: K classes; their first word labels the columns.
        matrix: int [K, K] of test clips, true class by predicted class.
    """
    hint = note(
        "Rows: true class; columns: predicted class. Shade: share of the row. Hover over a cell "
        "for its classes and count."
    )
    chart = f'<div class="scroll">{confusion_chart(names, matrix)}</div>'
    return f"{chart}{hint}{_worst(names, matrix)}<h3>Accuracy by class</h3>{_by_class(names, matrix)}"


def confusion_chart(names: Sequence[str], matrix: NDArray[np.int64]) -> str:
    """Return an SVG of the matrix with the data of its tooltips."""
    count = len(names)
    sizes = {SMALL: (26, 12), 60: (13, 10), count: (9, 8)}
    cell, text = next(size for limit, size in sizes.items() if count <= limit)
    shown = [name if len(name) <= _LABEL else name[: _LABEL - 1].rstrip() + "…" for name in names]
    left = int(text * 0.56 * max(map(len, shown))) + 12
    short = [name.split(" ")[0][:8] for name in names]
    top = int(text * 0.62 * max(map(len, short))) + 12
    share = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    side = cell * count
    width, height = left + side + 2, top + side + 2
    middle = [cell * (number + 0.5) + text / 3 for number in range(count)]
    labels = "".join(
        f'<text x="{left - 6}" y="{top + at:.1f}" text-anchor="end">{escape(name)}</text>'
        f'<text transform="translate({left + at:.1f} {top - 5}) rotate(-90)">{escape(brief)}</text>'
        for at, name, brief in zip(middle, shown, short, strict=True)
    )
    numbers = ""
    if count <= SMALL:
        numbers = "".join(
            f'<text class="{"on" if share[row, column] > 0.5 else "off"}" x="{left + cell * (column + 0.5) - 0.5:g}" '
            f'y="{top + cell * (row + 0.5) + 4:g}">{100 * share[row, column]:.0f}</text>'
            for row, column in np.argwhere(share >= 0.005).tolist()
        )
    # Below this width the matrix scrolls, since it could not be read.
    least = min(width, max(340, 3 * width // 4))
    sparse = [[*cell_, int(matrix[tuple(cell_)])] for cell_ in np.argwhere(matrix).tolist()]
    data = {"left": left, "top": top, "cell": cell, "names": list(names), "cells": sparse}
    return (
        f'<svg class="confusion" viewBox="0 0 {width} {height}" style="width:{width}px;'
        f'min-width:{least}px;font-size:{text}px" role="img" aria-label="confusion matrix" '
        f'data-matrix="{escape(json.dumps(data))}"><rect class="frame" x="{left - 1}" y="{top - 1}" '
        f'width="{side + 1}" height="{side + 1}"/><g class="names">{labels}</g>{_cells(share, left, top, cell)}'
        f'<g class="numbers">{numbers}</g><rect class="cursor" width="{cell}" height="{cell}" hidden=""/></svg>'
    )


def _cells(share: NDArray[np.float64], left: int, top: int, cell: int) -> str:
    """Return the cells that are not empty, one path a shade, correct ones apart."""
    step = np.ceil(share * SHADES).astype(int)
    paths = ""
    for kind, correct in (("wrong", False), ("right", True)):
        levels = np.where(np.eye(len(share), dtype=bool) == correct, step, 0)
        for level in np.unique(levels[levels > 0]).tolist():
            drawn = "".join(
                f"M{left + cell * column} {top + cell * row}h{cell - 1}v{cell - 1}h{1 - cell}z"
                for row, column in np.argwhere(levels == level).tolist()
            )
            paths += f'<path class="{kind}" fill-opacity="{0.1 + 0.9 * level / SHADES:.2f}" d="{drawn}"/>'
    return paths


def _worst(names: Sequence[str], matrix: NDArray[np.int64]) -> str:
    """Return the pairs that are confused most often, as shares of the true class."""
    wrong, total = matrix * ~np.eye(len(matrix), dtype=bool), matrix.sum(axis=1)
    share = wrong / np.maximum(1, total[:, None])
    rows = []
    for flat in np.argsort(-share, axis=None, kind="stable")[:_WORST].tolist():
        true, other = divmod(flat, len(matrix))
        clips, part = f"{wrong[true, other]:,} of {total[true]:,}", f"{100 * share[true, other]:.0f} %"
        if wrong[true, other]:
            rows.append((names[true], names[other], clips, part))
    if not rows:
        return ""
    head = ("true class", "predicted as", "clips", "share")
    return f"<h3>Most frequent confusions</h3>{table(head, rows, kind='pairs')}"


def _by_class(names: Sequence[str], matrix: NDArray[np.int64]) -> str:
    correct, total = np.diag(matrix), matrix.sum(axis=1)
    share = correct / np.maximum(1, total)
    order = [number for number in np.argsort(-share, kind="stable").tolist() if total[number]]
    rows = [(names[n], float(share[n]), f"{100 * share[n]:.0f} %  {correct[n]:,}/{total[n]:,}") for n in order]
    body, absent = f'<div class="columns">{bars(rows, full=1.0)}</div>', len(names) - len(order)
    return body + note(f"{absent} classes have no test clip.") if absent else body
