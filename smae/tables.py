"""Results as tables: text for ``print``, HTML for notebooks; percentages, durations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple


class Grid(NamedTuple):
    """The cells of one table.

    Attributes:
        columns: headings; all empty for a table without.
        rows: cells as text, one for each column.
        title: a line above; empty for none.
        left: how many columns, from the first, are aligned to the left.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    title: str = ""
    left: int = 2


class Table(ABC):
    """Base of results: ``print`` shows their tables, and so does a notebook's cell."""

    @abstractmethod
    def tables(self) -> list[Grid]:
        """Return the result as tables."""

    def __str__(self) -> str:
        return "\n\n".join(map(as_text, self.tables()))

    def _repr_html_(self) -> str:
        return "".join(map(as_html, self.tables()))


def plain(title: str, lines: Iterable[str] = ()) -> list[Grid]:
    """Return a title and lines below it as tables."""
    return [Grid(("",), [(line,) for line in lines], title)]


def as_text(grid: Grid) -> str:
    """Return a table as lines of text; no cell is cut."""
    head = [grid.columns] * any(grid.columns)
    # A cell of several lines goes on under itself.
    lines = [line for row in [*head, *grid.rows] for line in _split(row)]
    widths = [max((len(line[n]) for line in lines), default=0) for n in range(len(grid.columns))]
    text = [grid.title] * bool(grid.title)
    for line in lines:
        cells = [
            cell.ljust(width) if n < grid.left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _split(row: Sequence[str]) -> list[list[str]]:
    cells = [cell.splitlines() or [""] for cell in row]
    height = max(map(len, cells))
    return [[cell[line] if line < len(cell) else "" for cell in cells] for line in range(height)]


def as_html(grid: Grid) -> str:
    """Return a table as HTML, every cell escaped."""

    def line(kind: str, cells: Sequence[str]) -> str:
        styled = [
            f'<{kind} style="text-align:{("left", "right")[n >= grid.left]}">{escape(cell)}</{kind}>'
            for n, cell in enumerate(cells)
        ]
        return f"<tr>{''.join(styled)}</tr>"

    head = line("th", grid.columns) if any(grid.columns) else ""
    caption = f"<caption>{escape(grid.title)}</caption>" if grid.title else ""
    body = "".join(line("td", row) for row in grid.rows)
    return f"<table>{caption}<thead>{head}</thead><tbody>{body}</tbody></table>"


def results(rows: Sequence[Any], *, title: str, interval: bool = False) -> Grid:
    """Return results of probes (``Row``) as a table, without columns of a single value.

    Args:
        rows: the results.
        title: a line above.
        interval: whether the interval over clips is shown of a single seed too.
    """
    epochs = any(row.selection != "last" for row in rows)
    seeds = interval or any(row.seeds != 1 for row in rows)
    columns = ["probe", "what", *["epoch"] * epochs, "top-1 %", *["95 % interval"] * seeds, "mean class %", "top-5 %"]
    cells: list[tuple[str, ...]] = []
    for row in rows:
        top1, between = accuracy(row)
        figures = [top1, *[between] * seeds, percent(row.mean_class), percent(row.top5)]
        cells.append((row.mode, row.what, *[row.selection] * epochs, *figures))
    return Grid(tuple(columns), cells, title)


def accuracy(row: Any) -> tuple[str, str]:
    """Return a result's accuracy ± deviation over seeds, and its interval, in per cent."""
    spread = "" if row.std is None else f" ± {percent(row.std)}"
    between = "-" if row.interval is None else " to ".join(map(percent, row.interval))
    return f"{percent(row.top1)}{spread}", between


def percent(share: float | None) -> str:
    """Return a share as a percentage with one decimal, or a dash."""
    return "-" if share is None else f"{100 * share:.1f}"


def clock(seconds: float) -> str:
    """Return a duration as people write it: ``45 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
