"""Size and density of the code: files, lines, functions, conditional expressions, comments.

``python -m tests.code_measures [FOLDER]`` prints them for a checkout, so that two versions can be compared.
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDE = 100
"""A line with more characters counts as wide."""


@dataclass(frozen=True)
class Measures:
    """Figures of the Python files of ``smae/`` and ``cli/``.

    Attributes:
        files: number of files.
        lines: of all files, blank ones included.
        median_file, longest_file: lines of a file.
        median_function, longest_function: lines of a function, docstring included.
        wide: share of lines with more than 100 characters, in per cent.
        conditionals: conditional expressions (``a if c else b``) in 1,000 lines that are not blank.
        comments: share of comment lines among lines that are neither blank nor docstrings, in per cent.
        unformatted: number of ``# fmt: skip`` and ``# fmt: off``.
        short_files: files under 40 lines that are neither ``__init__.py`` nor a command.
    """

    files: int
    lines: int
    median_file: float
    longest_file: int
    median_function: float
    longest_function: int
    wide: float
    conditionals: float
    comments: float
    unformatted: int
    short_files: tuple[str, ...]


def measure(root: Path = ROOT) -> Measures:
    """Return the measures of a checkout."""
    paths = [*sorted((root / "smae").rglob("*.py")), *sorted((root / "cli").glob("*.py"))]
    sizes, functions, short = [], [], []
    blank = docstrings = comments = wide = conditionals = unformatted = 0
    for path in paths:
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        tree = ast.parse(text)
        documented = set(_docstring_lines(tree))
        sizes.append(len(lines))
        docstrings += len(documented)
        blank += sum(not line.strip() for number, line in enumerate(lines, 1) if number not in documented)
        wide += sum(len(line) > WIDE for line in lines)
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                comments += token.line.strip().startswith("#")
                unformatted += "fmt: skip" in token.string or "fmt: off" in token.string
        for node in ast.walk(tree):
            conditionals += isinstance(node, ast.IfExp)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.append((node.end_lineno or node.lineno) - node.lineno + 1)
        is_command = path.parent.name == "cli"
        if len(lines) < 40 and path.name != "__init__.py" and not is_command:
            short.append(path.relative_to(root).as_posix())
    total = sum(sizes)
    return Measures(
        files=len(paths),
        lines=total,
        median_file=statistics.median(sizes),
        longest_file=max(sizes),
        median_function=statistics.median(functions),
        longest_function=max(functions),
        wide=round(100 * wide / total, 2),
        conditionals=round(1000 * conditionals / (total - blank), 1),
        comments=round(100 * comments / (total - blank - docstrings), 2),
        unformatted=unformatted,
        short_files=tuple(short),
    )


def _docstring_lines(tree: ast.Module) -> Iterator[int]:
    """Yield the lines of docstrings, those below a constant or an attribute included."""
    for node in ast.walk(tree):
        is_text = (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )
        if isinstance(node, ast.Expr) and is_text:
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)


if __name__ == "__main__":
    for name, value in asdict(measure(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)).items():
        print(f"{name:18} {value}")
