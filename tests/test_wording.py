"""Plain English: words that readers had to learn, or that no longer belong to everyday English, stay out."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORDS = """
told tell tells telling nobody whoever whomever whence thence whatever parted borne bear house room rooms floors
workshop workplace exam exams shelf judge judged judges judging travel travels travelled journey reckon reckoned
spoil spoiled spoilt honest honesty outright
"""
BANNED = [spelling for word in WORDS.split() for spelling in (word, word.capitalize())]
PATTERN = re.compile(rf"(?<![A-Za-z.])({'|'.join(BANNED)})(?![a-z])")
ENDINGS = (".py", ".md", ".html", ".js", ".css", ".toml", ".yml", ".yaml")


def files() -> list[Path]:
    """Return the files of the project whose words people read; without git, those of the package alone."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        paths = [ROOT / name for name in listed.stdout.splitlines()]
    else:
        paths = [path for folder in ("smae", "cli") for path in (ROOT / folder).rglob("*")]
    return [path for path in paths if path.suffix in ENDINGS and path.is_file() and path != Path(__file__)]


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_banned_word(path: Path) -> None:
    # A file's position is Python's name for it.
    lines = path.read_text(encoding="utf-8").replace(".tell()", "").splitlines()
    found = [
        f"{path.name}:{number}: {match[0]}" for number, line in enumerate(lines, 1) for match in PATTERN.finditer(line)
    ]
    assert found == []
