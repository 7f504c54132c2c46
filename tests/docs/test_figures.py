"""A figure in README or docs/benchmarks.md stands in benchmarks/results, rounded: a new measurement must be copied."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import DOCS, ROOT

NUMBER = re.compile(r"(?<![\w.^-])\d[\d,]*(?:\.\d+)?")
CHOSEN = {"20,000", "2.5", "120", "750", "128", "16", "2", "80"}
"""What was measured on, and goals."""


def measured() -> list[float]:
    """Return every number of the result pages."""
    pages = (ROOT / "benchmarks/results").glob("*.md")
    return [float(text.replace(",", "")) for page in pages for text in NUMBER.findall(page.read_text())]


def figures(table: str) -> list[str]:
    """Return the numbers in a table's cells, its first column and links left out."""
    cells = [re.sub(r"\(.*?\.md\)|`.*?`", "", row).split("|")[2:] for row in table.splitlines()]
    return [text for row in cells for cell in row for text in NUMBER.findall(cell)]


@pytest.mark.parametrize(
    ("page", "heading"), [(ROOT / "README.md", "How it compares"), (DOCS / "benchmarks.md", "Benchmarks")]
)
def test_every_figure_was_measured(page, heading) -> None:
    text = page.read_text().partition(f"# {heading}\n")[2]
    match = re.search(r"^\| what .*\n\|---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert match
    shown = [figure for figure in figures(match[1]) if figure not in CHOSEN]
    assert len(shown) > 8
    known = measured()
    for figure in shown:
        value, digits = float(figure.replace(",", "")), len(figure.partition(".")[2])
        assert any(round(one, digits) == value for one in known), (
            f"{page.name} says {figure}, which no page of benchmarks/results holds: measured anew? then copy it"
        )
