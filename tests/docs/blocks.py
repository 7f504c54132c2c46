"""The fenced blocks of README and docs, in order; ``python -m tests.docs.blocks`` lists how each is tested."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MEASURED = [*sorted((DOCS / "results").glob("*.md")), *sorted((ROOT / "benchmarks/results").glob("*.md"))]
"""Pages that programs wrote, with the commands that take hours and made them: their blocks are not run."""
PAGES = [
    page
    for page in (*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), *sorted((ROOT / ".github").rglob("*.md")))
    if page not in MEASURED
]

BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n\s*)?"
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"\n]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PRINTS = "prints"
"""Title of a text block that shows what the block before it prints."""


@dataclass(frozen=True)
class Block:
    """One fenced block of a page.

    Attributes:
        page: where it stands.
        line: 1-based line of its first fence.
        language: what the fence says: ``sh``, ``console`` (commands after ``$`` and what they print), ``python``, ...
        title: the file that the block is, or ``prints``; empty where it has none.
        text: what stands in it.
        reason: why it is not run, from a comment above it; empty where it is.
    """

    page: Path
    line: int
    language: str
    title: str
    text: str
    reason: str

    @property
    def where(self) -> str:
        """Page and line, for messages."""
        return f"{name(self.page)}:{self.line}"

    @property
    def tested(self) -> str:
        """How the block is tested, in words."""
        if self.reason:
            return f"not run: {self.reason}"
        if self.title == PRINTS:
            return "compared with what the block before it prints"
        kinds = {"sh": "run", "python": "run", "console": "run, and what it prints compared"}
        kinds |= {"toml": "parsed", "json": "parsed"}
        file = f", written as {self.title}" if self.title else ""
        return kinds.get(self.language, "shown only") + file


def name(page: Path) -> str:
    """Return a page's path in the checkout."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return a page's blocks of some languages, or all, in order."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(
            page=page,
            line=text.count("\n", 0, match.start("language")) + 1,
            language=match["language"],
            title=match["title"] or "",
            text=match["text"],
            reason=match["reason"] or "",
        )
        for match in BLOCK.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def prose(page: Path) -> str:
    """Return a page without its blocks."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def commands(block: Block) -> list[str]:
    """Return the command lines of an ``sh`` or ``console`` block, comments left out."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


if __name__ == "__main__":
    for page in PAGES:
        for block in blocks(page):
            print(f"{block.where:32} {block.language:8} {block.tested}")
