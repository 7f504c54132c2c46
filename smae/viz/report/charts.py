"""Line charts, drawn by hand as SVG text: one or several lines over steps, which tell their values when pointed at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 20, 30, 34
_POINTS = 300


@dataclass(frozen=True)
class Series:
    """One line: ``x`` ascending and ``y``, both [P]; ``slot`` chooses its colour, ``name`` is told when pointed at."""

    name: str
    x: Floats
    y: Floats
    slot: int = 0


def line_chart(
    title: str, lines: Sequence[Series], *, of: str = "step", smooth: bool = False, zero: bool = False
) -> str:
    """Return an SVG of lines over ``of``; a log scale where smooth values span more than a factor of 10.

    Args:
        title: what stands above it.
        lines: those with no finite point are left out.
        of: what runs to the right.
        smooth: draw the points faintly, with their running mean on top.
        zero: begin the vertical axis with 0.
    """
    lines = [thin for line in lines if len((thin := _thin(line)).x)]
    if not lines:
        return ""
    every_x, every_y = np.concatenate([line.x for line in lines]), np.concatenate([line.y for line in lines])
    log = bool(smooth and every_y.min() > 0 and every_y.max() > 10 * every_y.min())
    across = Axis.over(every_x, start=_LEFT, stop=WIDTH - _RIGHT, tight=True)
    up = Axis.over(np.append(every_y, 0.0) if zero else every_y, start=HEIGHT - _BOTTOM, stop=_TOP, log=log)
    grid = "".join(
        f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
        for y, label in up.ticks
    ) + "".join(
        f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 17}" text-anchor="middle">{label}</text>'
        for x, label in across.ticks
    )
    drawn = "".join(_line(line, across, up, smooth=smooth) for line in lines)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over {escape(of)}" '
        f'data-of="{escape(of)}"><text class="name" x="{_LEFT}" y="16">{escape(title)}{" (log)" if log else ""}</text>'
        f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(of)}</text>'
        f'<g class="grid">{grid}</g>{drawn}<line class="cursor" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}" hidden=""/></svg>'
    )


@dataclass(frozen=True)
class Axis:
    """One axis: values ``low`` to ``high`` lie at pixels ``start`` to ``stop``; ``ticks`` are (pixel, label)."""

    low: float
    high: float
    start: float
    stop: float
    log: bool
    ticks: list[tuple[float, str]]

    @classmethod
    def over(cls, values: Floats, *, start: float, stop: float, log: bool = False, tight: bool = False) -> Axis:
        """Return the axis of ``values``; ``tight`` ends it with them, else it ends with the ticks around them."""
        low, high = float(values.min()), float(values.max())
        ticks = _log_ticks(low, high) if log else _ticks(low, high)
        if tight and high > low:
            ticks = [tick for tick in ticks if low <= tick <= high]
        else:
            low, high = min(low, ticks[0]), max(high, ticks[-1])
        bare = cls(low, high, start, stop, log, [])
        return cls(low, high, start, stop, log, [(float(bare.place(np.array(tick))), _label(tick)) for tick in ticks])

    def place(self, values: Floats) -> Floats:
        """Return the pixels of values."""
        bent, ends = (
            (np.log10(values), np.log10([self.low, self.high])) if self.log else (values, [self.low, self.high])
        )
        placed: Floats = self.start + (bent - ends[0]) / (ends[1] - ends[0] or 1.0) * (self.stop - self.start)
        return placed


def _thin(line: Series) -> Series:
    """Return the finite points, at most ``_POINTS``, each the mean of its stretch."""
    finite = np.isfinite(line.y)
    x, y = line.x[finite], line.y[finite]
    if len(x) > _POINTS:
        pieces = np.array_split(np.arange(len(x)), _POINTS)
        x, y = np.array([x[piece].mean() for piece in pieces]), np.array([y[piece].mean() for piece in pieces])
    return Series(line.name, x, y, line.slot)


def _line(line: Series, across: Axis, up: Axis, *, smooth: bool) -> str:
    xs, ys = across.place(line.x), up.place(line.y)
    told = json.dumps([[_exact(x), _exact(y)] for x, y in zip(line.x.tolist(), line.y.tolist(), strict=True)])
    faint = _path(xs, ys, "faint") if smooth else ""
    body = faint + _path(xs, _running_mean(ys) if smooth else ys, "line")
    return f'<g class="s{line.slot}" data-name="{escape(line.name)}" data-points="{escape(told)}">{body}</g>'


def _exact(value: float) -> float:
    return float(f"{value:.5g}")


def _running_mean(values: Floats) -> Floats:
    """Return the mean of the neighbourhood of each value, about a twelfth of the curve wide and cut at its ends."""
    half = max(1, len(values) // 24)
    total = np.concatenate([[0.0], np.cumsum(values)])
    centre = np.arange(len(values))
    reach = np.minimum(half, np.minimum(centre, len(values) - 1 - centre))
    mean: Floats = (total[centre + reach + 1] - total[centre - reach]) / (2 * reach + 1)
    return mean


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
