"""Links between the pages lead somewhere, and the architecture page names classes that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.blocks import DOCS, MEASURED, PAGES, ROOT, name, prose

LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", [*PAGES, *MEASURED], ids=name)
def test_relative_links_resolve(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name(page)} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{name(page)} links to {target}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def linked(page: Path) -> set[Path]:
    targets = {target.partition("#")[0] for target in LINK.findall(prose(page)) if "://" not in target}
    return {(page.parent / target).resolve() for target in targets}


def test_every_page_is_two_clicks_from_the_readme() -> None:
    first = linked(ROOT / "README.md")
    second = {target for page in first if page.suffix == ".md" for target in linked(page)}
    pages = {path for path in DOCS.iterdir() if path.suffix in (".md", ".ipynb")}
    assert pages - first - second == set()


@pytest.mark.parametrize("page", [page for page in [*PAGES, *MEASURED] if page.is_relative_to(DOCS)], ids=name)
def test_a_page_begins_with_its_readers_question(page: Path) -> None:
    title, question = page.read_text(encoding="utf-8").split("\n\n")[:2]
    assert re.fullmatch(r"# .+", title)
    assert question.endswith("?")
    assert "\n" not in question


@pytest.mark.parametrize("page", MEASURED[: len(list((DOCS / "results").glob("*.md")))], ids=name)
def test_results_begin_with_five_lines(page: Path) -> None:
    said, lines = page.read_text(encoding="utf-8").split("\n\n")[2:4]
    assert said.startswith("In five lines")
    assert [line[:2] for line in lines.splitlines()] == ["- "] * 5
