"""Charts of the run page, drawn by hand as SVG text: a line over steps, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_WIDTH, _HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 30, 34
_POINTS = 400
_LABEL = 30


def line_chart(title: str, step: Floats, value: Floats, *, smooth: bool = False) -> str:
    """Return an SVG of ``value`` [P] over ``step`` [P]; a log scale where values span more than a factor of 10.

    Args:
        title: what stands above it.
        step: ascending.
        value: points that are not finite are left out.
        smooth: draw the points faintly, with their running mean on top.
    """
    finite = np.isfinite(value)
    step, value = _thin(step[finite], value[finite])
    if not len(value):
        return ""
    log = bool(value.min() > 0 and value.max() > 10 * value.min()) and smooth
    xs, x_ticks = _scale(step, start=_LEFT, stop=_WIDTH - _RIGHT, tight=True)
    ys, y_ticks = _scale(value, start=_HEIGHT - _BOTTOM, stop=_TOP, log=log)
    grid = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
        for y, label in y_ticks
    ) + "".join(
        f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{label}</text>' for x, label in x_ticks
    )
    lines = _path(xs, ys, "faint") + _path(xs, _running_mean(ys), "line") if smooth else _path(xs, ys, "line")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)} over steps">'
        f'<text class="name" x="{_LEFT}" y="16">{escape(title)}{" (log)" if log else ""}</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">step</text>'
        f'<g class="grid">{grid}</g>{lines}</svg>'
    )


def _thin(step: Floats, value: Floats) -> tuple[Floats, Floats]:
    """Return at most ``_POINTS`` points, each the mean of its stretch."""
    if len(step) <= _POINTS:
        return step, value
    pieces = np.array_split(np.arange(len(step)), _POINTS)
    return np.array([step[piece].mean() for piece in pieces]), np.array([value[piece].mean() for piece in pieces])


def _running_mean(values: Floats) -> Floats:
    """Return the mean of the neighbourhood of each value, about a twelfth of the curve wide and cut at its ends."""
    half = max(1, len(values) // 24)
    total = np.concatenate([[0.0], np.cumsum(values)])
    centre = np.arange(len(values))
    reach = np.minimum(half, np.minimum(centre, len(values) - 1 - centre))
    mean: Floats = (total[centre + reach + 1] - total[centre - reach]) / (2 * reach + 1)
    return mean


def _scale(
    values: Floats, *, start: float, stop: float, log: bool = False, tight: bool = False
) -> tuple[Floats, list[tuple[float, str]]]:
    """Return pixel places of ``values`` between ``start`` and ``stop``, and ticks as (place, label).

    ``tight`` ends the axis with the values; otherwise it ends with the ticks around them.
    """
    low, high = float(values.min()), float(values.max())
    ticks = _log_ticks(low, high) if log else _ticks(low, high)
    if tight and high > low:
        ticks = [tick for tick in ticks if low <= tick <= high]
    else:
        low, high = min(low, ticks[0]), max(high, ticks[-1])

    def place(value: Floats) -> Floats:
        bent, ends = (np.log10(value), np.log10([low, high])) if log else (value, np.array([low, high]))
        spread = ends[1] - ends[0] or 1.0
        placed: Floats = start + (bent - ends[0]) / spread * (stop - start)
        return placed

    return place(values), [(float(place(np.array(tick))), _label(tick)) for tick in ticks]


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers that cover [low, high]."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / 4
    unit = 10.0 ** np.floor(np.log10(rough))
    step = unit * next(m for m in (1, 2, 2.5, 5, 10) if m * unit >= rough * (1 - 1e-9))
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [float(n * step) for n in np.arange(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten that cover [low, high], only the powers where there are many."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    steps = (1,) if len(powers) > 3 else (1, 2, 5)
    ticks = [m * 10.0**p for p in powers for m in steps]
    first = max((i for i, tick in enumerate(ticks) if tick <= low), default=0)
    last = next((i for i, tick in enumerate(ticks) if tick >= high), len(ticks) - 1)
    return ticks[first : last + 1]


def _label(value: float) -> str:
    if value and abs(value) < 0.01:
        power = int(np.floor(np.log10(abs(value)) + 1e-9))
        return f"{value / 10.0**power:.3g}e{power}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _path(xs: Floats, ys: Floats, name: str) -> str:
    if len(xs) == 1:
        return f'<circle class="{name}" cx="{xs[0]:.1f}" cy="{ys[0]:.1f}" r="3"/>'
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    return f'<polyline class="{name}" points="{points}"/>'


def _cut(name: str) -> str:
    return name if len(name) <= _LABEL else name[: _LABEL - 1].rstrip() + "…"


def confusion_chart(classes: Sequence[str], matrix: NDArray[np.int64]) -> str:
    """Return an SVG of ``matrix`` int [K, K] (true by predicted), each cell shaded by its share of the row."""
    count = len(classes)
    cell = 30 if count <= 20 else 14
    text = 12 if count <= 20 else 9
    shown = [_cut(name) for name in classes]
    margin = int(text * 0.58 * max(map(len, shown))) + 14
    side = margin + cell * count
    total = np.maximum(matrix.sum(axis=1), 1)
    cells, labels = [], []
    for row, name in enumerate(classes):
        middle = margin + cell * (row + 0.5)
        label = escape(shown[row])
        labels.append(f'<text x="{margin - 6}" y="{middle + text / 3:.1f}" text-anchor="end">{label}</text>')
        labels.append(f'<text transform="translate({middle + text / 3:.1f} {margin - 6}) rotate(-90)">{label}</text>')
        for column in np.flatnonzero(matrix[row]).tolist():
            number = int(matrix[row, column])
            share = number / total[row]
            tip = f"{name} taken for {classes[column]}" if row != column else f"{name} recognised"
            x, y = margin + cell * column, margin + cell * row
            kind = "right" if row == column else "wrong"
            cells.append(
                f'<rect class="{kind}" x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" '
                f'fill-opacity="{0.08 + 0.92 * share:.2f}">'
                f"<title>{escape(tip)}: {number} of {int(total[row])} ({100 * share:.0f} %)</title></rect>"
            )
            if count <= 20 and share >= 0.01:
                strong = ' class="on"' if share > 0.5 else ""
                cells.append(f'<text{strong} x="{x + cell / 2 - 0.5}" y="{y + cell / 2 + 4}">{100 * share:.0f}</text>')
    large = "" if count <= 20 else " large"
    return (
        f'<svg class="confusion{large}" viewBox="0 0 {side + 2} {side + 2}" '
        f'style="width:{side + 2}px;font-size:{text}px" role="img" '
        f'aria-label="confusion matrix"><rect class="frame" x="{margin - 1}" y="{margin - 1}" '
        f'width="{cell * count + 1}" height="{cell * count + 1}"/><g class="names">{"".join(labels)}</g>'
        f'<g class="cells">{"".join(cells)}</g></svg>'
    )
