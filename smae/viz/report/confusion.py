"""What is taken for what: the confusion matrix as SVG, the commonest confusions, and each class's accuracy, sorted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from smae.viz.report.markup import bars, table

SMALL = 20
"""Up to so many classes, cells have room for their number."""

SHADES = 12
"""Steps of a cell's shade; cells of one shade are one path, so that a large matrix stays small."""

_LABEL = 24
_WORST = 8


def draw_confusion(names: Sequence[str], matrix: NDArray[np.int64]) -> str:
    """Return all of it for one result.

    Args:
        names: K classes as people read them; their first word stands on the columns.
        matrix: int [K, K] of test clips, true class by predicted class.
    """
    total = matrix.sum(axis=1)
    return (
        f'<div class="scroll">{confusion_chart(names, matrix)}</div>'
        '<p class="note cell" aria-live="polite">Rows: true class; columns: predicted. Shade: share of the row. Point '
        f"at a cell for its pair and count.</p>{_worst(names, matrix)}"
        f"<h3>Accuracy by class</h3>{_by_class(names, matrix, total)}"
    )


def confusion_chart(names: Sequence[str], matrix: NDArray[np.int64]) -> str:
    """Return an SVG of the matrix; its script tells the pair under the pointer."""
    count = len(names)
    cell, text = (26, 12) if count <= SMALL else (13, 10) if count <= 60 else (9, 8)
    shown = [_cut(name) for name in names]
    left = int(text * 0.56 * max(map(len, shown))) + 12
    short = [name.split(" ")[0][:8] for name in names]
    top = int(text * 0.62 * max(map(len, short))) + 12
    share = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    width, height = left + cell * count + 2, top + cell * count + 2
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
    least = min(width, max(340, 3 * width // 4))  # smaller than that it scrolls, since nobody could read it
    sparse = [[row, column, int(matrix[row, column])] for row, column in np.argwhere(matrix).tolist()]
    told = escape(json.dumps({"left": left, "top": top, "cell": cell, "names": list(names), "cells": sparse}))
    side = cell * count
    return (
        f'<svg class="confusion" viewBox="0 0 {width} {height}" style="width:{width}px;'
        f'min-width:{least}px;font-size:{text}px" role="img" aria-label="confusion matrix" '
        f'data-matrix="{told}"><rect class="frame" x="{left - 1}" y="{top - 1}" '
        f'width="{side + 1}" height="{side + 1}"/><g class="names">{labels}</g>{_cells(share, left, top, cell)}'
        f'<g class="numbers">{numbers}</g><rect class="cursor" width="{cell}" height="{cell}" hidden=""/></svg>'
    )


def _cells(share: NDArray[np.float64], left: int, top: int, cell: int) -> str:
    """Return the cells that hold something, one path a shade and kind."""
    step = np.ceil(share * SHADES).astype(int)
    paths = ""
    for kind, right in (("wrong", False), ("right", True)):
        fitting = np.where(np.eye(len(share), dtype=bool) == right, step, 0)
        for level in np.unique(fitting[fitting > 0]).tolist():
            drawn = "".join(
                f"M{left + cell * column} {top + cell * row}h{cell - 1}v{cell - 1}h{1 - cell}z"
                for row, column in np.argwhere(fitting == level).tolist()
            )
            paths += f'<path class="{kind}" fill-opacity="{0.1 + 0.9 * level / SHADES:.2f}" d="{drawn}"/>'
    return paths


def _worst(names: Sequence[str], matrix: NDArray[np.int64]) -> str:
    """Return the pairs that are confused most often, as shares of the true class."""
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    share = wrong / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    order = np.argsort(-share, axis=None, kind="stable")[:_WORST]
    pairs = [divmod(int(flat), len(matrix)) for flat in order if share.flat[flat] > 0]
    if not pairs:
        return ""
    rows = [
        (
            names[true],
            names[taken],
            f"{wrong[true, taken]:,} of {matrix[true].sum():,}",
            f"{100 * share[true, taken]:.0f} %",
        )
        for true, taken in pairs
    ]
    return f"<h3>Confused most often</h3>{table(('true class', 'taken for', 'clips', 'share'), rows, kind='pairs')}"


def _by_class(names: Sequence[str], matrix: NDArray[np.int64], total: NDArray[np.int64]) -> str:
    right = np.diag(matrix)
    share = right / np.maximum(1, total)
    order = [int(number) for number in np.argsort(-share, kind="stable") if total[number]]
    lines = bars(
        ((names[n], float(share[n]), f"{100 * share[n]:.0f} %  {right[n]:,}/{total[n]:,}") for n in order), most=1.0
    )
    absent = len(names) - len(order)
    left_out = f'<p class="note">{absent} classes have no test clip.</p>' if absent else ""
    return f'<div class="columns">{lines}</div>{left_out}'


def _cut(name: str) -> str:
    return name if len(name) <= _LABEL else name[: _LABEL - 1].rstrip() + "…"
