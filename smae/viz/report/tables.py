"""The tables of a page as files: CSV for programs, LaTeX for papers."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

from smae.atomic_io import atomic_folder

_NAME = re.compile(r"[a-z]+-\d+\.(csv|tex)")
_SPECIAL = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "±": r"$\pm$",
    "·": r"$\cdot$",
}


def write_tables(page: str, folder: Path) -> None:
    """Write every table of a page as ``<section>-<number>.csv`` and ``.tex`` to a folder."""
    parser = _Tables()
    parser.feed(page)
    with atomic_folder(folder) as partial:
        for name, rows in parser.tables:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(rows)
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
