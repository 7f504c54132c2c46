"""HTML that the parts of a report share, the page around them, and its tables as files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from html import escape
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from smae.atomic_io import atomic_folder
from smae.eval.records import circumstances
from smae.viz.drawing import as_json, fill_template, page_data, page_file
from smae.viz.scene import Scene

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
