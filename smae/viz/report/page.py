"""What the parts of a report share: HTML, line charts as SVG, training curves; the page around them.

The tables of a page can be written as files too.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smae.atomic_io import atomic_folder
from smae.eval.records import circumstances
from smae.train.metrics_log import read_log
from smae.train.run_folder import Run
from smae.viz.drawing import as_json, fill_template, page_data, page_file
from smae.viz.scene import Scene

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z]+-\d+\.(csv|tex)")
_SPECIAL = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "±": r"$\pm$",
    "·": r"$\cdot$",
}


class PageSection(NamedTuple):
    """A section of the page: its anchor, its title, its HTML."""

    name: str
    title: str
    body: str


def render(title: str, *, head: str, sections: Sequence[PageSection], scenes: Sequence[Scene] = ()) -> str:
    """Return a page as one HTML string, with ``head`` below its title and the data of its players.

    Its content security policy lets it load nothing.
    """
    made = circumstances()
    words = [f"commit {made['commit']}" * bool(made["commit"]), f"smae {made['versions']['smae']}", made["command"]]
    parts = {
        "title": escape(title),
        "head": head,
        "links": "".join(f'<a href="#{part.name}">{escape(part.title)}</a>' for part in sections),
        "sections": "".join(
            f'<section id="{name}"><h2>{escape(title)}</h2>{body}</section>' for name, title, body in sections
        ),
        "style": page_file("player.css") + _file("page.css"),
        "script": page_file("player.js") + _file("page.js"),
        "made": escape(" · ".join(filter(None, [made["date"][:16].replace("T", " ") + " UTC", *words]))),
        "data": as_json([page_data(scene) for scene in scenes]),
    }
    return fill_template(_file("page.html"), parts)


def _file(name: str) -> str:
    return files("smae.viz.report").joinpath(name).read_text("utf-8")


def percent(share: float | None, unit: str = " %") -> str:
    """Return a share in per cent with one decimal; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f}{unit}"


def missing(words: str, command: str = "") -> str:
    """Return a paragraph that says what is missing, and the command that adds it."""
    if command:
        # A box a word: a line of a narrow page ends between words, never inside `--probe`.
        boxes = " ".join(f"<span>{escape(word)}</span>" for word in command.split())
        return f'<p class="missing">{escape(words)} <code>{boxes}</code></p>'
    return f'<p class="missing">{escape(words)}</p>'


def note(words: str) -> str:
    """Return a paragraph in small print; nothing for an empty text."""
    return f'<p class="note">{escape(words)}</p>' if words else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """Return a table of plain text that scrolls by itself where it is too wide."""
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    # A phone shows a row as a card, in which each cell has the name of its column.
    names = [f' data-column="{escape(name)}"' * bool(number) for number, name in enumerate(head)]
    lines = ("".join(f"<td{name}>{escape(cell)}</td>" for name, cell in zip(names, row, strict=True)) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    head_and_body = f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll"><table class="{kind}">{head_and_body}</table></div>'


def facts(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """Return a card of (label, value) pairs."""
    pairs = "".join(f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>" for label, value in rows)
    return f'<div class="card"><h3>{escape(title)}</h3><dl>{pairs}</dl></div>'


def tabs(panels: Sequence[tuple[str, str]], *, label: str) -> str:
    """Return panels (name, HTML) of which buttons show one, by default the first."""
    if len(panels) == 1:
        return panels[0][1]
    buttons = bodies = ""
    for number, (name, body) in enumerate(panels):
        pressed = "false" if number else "true"
        buttons += f'<button type="button" aria-pressed="{pressed}">{escape(name)}</button>'
        bodies += f'<div data-choice="{number}"{" hidden" if number else ""}>{body}</div>'
    group = f'<div class="buttons" role="group" aria-label="{escape(label)}">{buttons}</div>'
    return f'<div class="choices">{group}{bodies}</div>'


def bars(rows: Iterable[tuple[str, float, str]], *, full: float) -> str:
    """Return bars of (name, value, text); a bar of the value ``full`` fills its width."""
    lines = "".join(
        f'<li><span class="what">{escape(name)}</span><span class="bar"><i style="width:{100 * value / full:.1f}%"></i>'
        f'</span><span class="value">{escape(words)}</span></li>'
        for name, value, words in rows
    )
    return f'<ul class="bars">{lines}</ul>'


def write_tables(page: str, folder: Path) -> None:
    """Write every table of a page as ``<section>-<number>.csv`` and ``.tex`` to a folder."""
    parser = _Tables()
    parser.feed(page)
    with atomic_folder(folder) as partial:
        for name, rows in parser.tables:
            text = io.StringIO()
            # A dash is for people; programs read an empty cell as missing.
            cells = [["" if cell == "–" else cell for cell in row] for row in rows]
            csv.writer(text, lineterminator="\n").writerows(cells)
            (partial / f"{name}.csv").write_text(text.getvalue(), encoding="utf-8")
            (partial / f"{name}.tex").write_text(latex(rows), encoding="utf-8")


def is_tables(path: Path) -> bool:
    """Return whether ``path`` is a folder that holds tables only."""
    return path.is_dir() and all(_NAME.fullmatch(entry.name) for entry in path.iterdir())


def latex(rows: list[list[str]]) -> str:
    """Return a ``tabular`` of rows of text, the first one its head; it needs no package."""
    lines = [" & ".join("".join(_SPECIAL.get(one, one) for one in cell) for cell in row) + r" \\" for row in rows]
    body = "\n".join([r"\hline", lines[0], r"\hline", *lines[1:], r"\hline"])
    return f"\\begin{{tabular}}{{{'l' * len(rows[0])}}}\n{body}\n\\end{{tabular}}\n"


class _Tables(HTMLParser):
    """Collects tables; the heading of a group of rows becomes their first cell."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[tuple[str, list[list[str]]]] = []
        self._section, self._row, self._group, self._small, self._spans = "", list[str](), "", False, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._section = dict(attrs).get("id") or ""
        elif tag == "table":
            number = sum(name.startswith(f"{self._section}-") for name, _ in self.tables) + 1
            self.tables.append((f"{self._section}-{number}", []))
            self._group = ""
        elif tag == "tr":
            self._row, self._spans = [], False
        elif tag in ("td", "th"):
            self._row.append("")
            self._spans |= "colspan" in dict(attrs)
        self._small = tag == "small"

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr" and self._spans:
            self._group = self._row[0]
        elif tag == "tr":
            self.tables[-1][1].append([self._group, *self._row])
        elif tag == "table" and not self._group:
            self.tables[-1][1][:] = [row[1:] for row in self.tables[-1][1]]
        self._small = False

    def handle_data(self, data: str) -> None:
        if self._row and not self._small:
            self._row[-1] += data


# Line charts and training curves.

Floats = NDArray[np.float64]
WIDTH, HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 30, 34
_POINTS = 300
INTERVALS = 120
"""Points of the throughput curve; each is the mean over its share of the steps."""
_PAUSE = 20.0
"""A step this many times slower than the median had an interruption, and is left out."""


@dataclass(frozen=True)
class Series:
    """One line: its name, ``x`` ascending and ``y``, both [P], and the number of its colour."""

    name: str
    x: Floats
    y: Floats
    slot: int = 0


def line_chart(
    title: str, lines: Sequence[Series], *, x_label: str = "step", smooth: bool = False, from_zero: bool = False
) -> str:
    """Return an SVG of lines; empty without a finite point.

    With ``smooth``, points are faint below their running mean, and the scale is logarithmic where
    they span more than a factor of 10.
    """
    lines = [thin for line in lines if len((thin := _thin(line)).x)]
    if not lines:
        return ""
    x, y = (np.concatenate([getattr(line, name) for line in lines]) for name in ("x", "y"))
    name, label = escape(title), escape(x_label)
    log = bool(smooth and y.min() > 0 and y.max() > 10 * y.min())
    if from_zero:
        y = np.append(y, 0.0)
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    to_x, x_ticks = _axis(x, _LEFT, right, tight=True)
    to_y, y_ticks = _axis(y, bottom, _TOP, log=log)
    grid = "".join(
        f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        for y, text in y_ticks
    ) + "".join(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{text}</text>' for x, text in x_ticks)
    drawn = "".join(_line(line, to_x(line.x), to_y(line.y), smooth=smooth) for line in lines)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name} over {label}" '
        f'data-of="{label}"><text class="name" x="{_LEFT}" y="16">{name}{" (log)" * log}</text>'
        f'<text x="{right}" y="{HEIGHT - 3}" text-anchor="end">{label}</text><g class="grid">{grid}</g>'
        f'{drawn}<line class="cursor" y1="{_TOP}" y2="{bottom}" hidden=""/></svg>'
    )


def _axis(
    values: Floats, start: float, stop: float, *, log: bool = False, tight: bool = False
) -> tuple[Callable[[Floats], Floats], list[tuple[float, str]]]:
    """Return the function from values to pixels, and ticks (pixel, label).

    The axis ends at the values if ``tight``, else at the ticks around them.
    """
    low, high, scale = float(values.min()), float(values.max()), np.log10 if log else np.asarray
    ticks = (_log_ticks if log else _ticks)(low, high)
    if tight and high > low:
        ticks = [tick for tick in ticks if low <= tick <= high]
    else:
        low, high = min(low, ticks[0]), max(high, ticks[-1])

    def pixels(values: Floats) -> Floats:
        share: Floats = (scale(values) - scale(low)) / (scale(high) - scale(low) or 1.0)
        return start + share * (stop - start)

    return pixels, [(float(pixels(np.array(tick))), _label(tick)) for tick in ticks]


def _thin(line: Series) -> Series:
    """Return the finite points, reduced to ``_POINTS`` means of neighbours where there are more."""
    finite = np.isfinite(line.y)
    x, y = line.x[finite], line.y[finite]
    if len(x) > _POINTS:
        groups = np.array_split(np.arange(len(x)), _POINTS)
        x, y = (np.array([values[group].mean() for group in groups]) for values in (x, y))
    return Series(line.name, x, y, line.slot)


def _line(line: Series, xs: Floats, ys: Floats, *, smooth: bool) -> str:
    points = [[float(f"{value:.5g}") for value in point] for point in zip(line.x, line.y, strict=True)]
    data, body = escape(json.dumps(points)), ""
    if smooth:
        body, ys = _path(xs, ys, "faint"), _running_mean(ys)
    body += _path(xs, ys, "line")
    return f'<g class="s{line.slot}" data-name="{escape(line.name)}" data-points="{data}">{body}</g>'


def _running_mean(values: Floats) -> Floats:
    """Return the mean around each value, over about a twelfth of the curve, less at its ends."""
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
    """Return powers of ten that cover [low, high], of few powers also 2 and 5 times them."""
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


@dataclass(frozen=True)
class Curves:
    """Training curves: step, loss, lr [P]; clips/s and peak memory in GB as (step, value)."""

    step: Floats
    loss: Floats
    lr: Floats
    throughput: tuple[Floats, Floats]
    memory: dict[str, tuple[Floats, Floats]]
    seconds: float
    epochs: int


def read_curves(run: Run) -> Curves | None:
    """Return the curves of a run; None where it has logged no step."""
    lines = read_log(run.log)
    if not lines:
        return None
    memory = {}
    for name in ("host", "device"):
        logged = [line for line in lines if f"{name}_bytes" in line]
        if logged:
            memory[name] = _column(logged, "step"), _column(logged, f"{name}_bytes") / 1e9
    return Curves(
        step=_column(lines, "step"),
        loss=_column(lines, "loss"),
        lr=_column(lines, "lr"),
        throughput=_throughput(lines),
        memory=memory,
        seconds=float(lines[-1].get("seconds", 0.0)),
        epochs=int(lines[-1].get("epoch", 0)) + 1,
    )


def _column(lines: list[dict[str, Any]], key: str) -> Floats:
    return np.array([float(line.get(key, np.nan)) for line in lines])


def _throughput(lines: list[dict[str, Any]]) -> tuple[Floats, Floats]:
    """Return clips per second over groups of steps, without steps that hold a pause."""
    steps, clips = _column(lines, "step"), _column(lines, "clips")
    # NaN for the first step, whose start was not logged.
    seconds = np.diff(_column(lines, "seconds"), prepend=np.nan)
    good = seconds > 0
    if good.any():
        good &= seconds <= _PAUSE * np.median(seconds[good])
    if not good.any():
        return np.zeros(0), np.zeros(0)
    groups = np.array_split(np.flatnonzero(good), min(INTERVALS, max(1, int(good.sum()) // 4)))
    return (
        np.array([steps[group].mean() for group in groups]),
        np.array([clips[group].sum() / seconds[group].sum() for group in groups]),
    )


def draw_curves(
    runs: Sequence[tuple[str, Curves | None]],
    *,
    losses: Sequence[Sequence[int]] | None = None,
    colours: Sequence[int] = (),
    command: str = "",
) -> str:
    """Return the charts of one run, or of several over each other.

    ``losses`` are groups of run numbers whose losses share a chart, by default all; ``colours`` are
    numbers of colours, by default those of the runs. ``command`` is shown where no run has begun.
    """
    numbers = [number for number, (_, curves) in enumerate(runs) if curves is not None]
    slots = dict(enumerate(colours or range(len(runs))))
    found = [(slots[number], name, curves) for number, (name, curves) in enumerate(runs) if curves is not None]
    if not found:
        return missing("No step has been logged yet.", command)
    charts = []
    for group in losses or [range(len(runs))]:
        chosen = [one for number, one in zip(numbers, found, strict=True) if number in group]
        lines = [Series(name, c.step, c.loss, slot) for slot, name, c in chosen]
        title = "loss"
        if len(lines) < len(found):
            title += f" of {lines[0].name}" if len(lines) == 1 else f" of {len(lines)} runs"
        charts.append(line_chart(title, lines, smooth=True))
    rates = [Series(name, c.step, c.lr, slot) for slot, name, c in found]
    charts.append(line_chart("learning rate", rates))
    throughput = [Series(name, *c.throughput, slot) for slot, name, c in found]
    charts.append(line_chart("clips per second", throughput, from_zero=True))
    memory = []
    for slot, name, curves in found:
        for number, (kind, (x, y)) in enumerate(curves.memory.items()):
            # Kinds of memory of one run differ in colour; several runs keep their colours.
            if len(found) > 1:
                kind, number = f"{name}, {kind}", slot
            memory.append(Series(kind, x, y, number))
    charts.append(
        line_chart("memory, peak so far (GB)", memory, from_zero=True)
        or missing("The log has no memory use: it was written by an older version of smae.")
    )
    return f'<div class="charts">{"".join(charts)}</div>'
