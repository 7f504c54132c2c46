"""Contracts of plug-ins, ``check_encoder``, ``check_masking``, ``check_objective``; ``smae.new``.

``new`` begins a plug-in: a package with a class, its entry point, and a test by its contract.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from smae.atomic_io import atomic_folder, check_output
from smae.config import schemas
from smae.errors import ConfigError
from smae.registry import nearest, plugins
from smae.tables import Grid, Table

if TYPE_CHECKING:
    from smae.testing.models import check_encoder as check_encoder
    from smae.testing.models import check_masking as check_masking
    from smae.testing.models import check_objective as check_objective

__all__ = ["check_encoder", "check_masking", "check_objective"]
TEMPLATES = Path(__file__).with_name("templates")
FAMILIES = ("masking", "objective", "encoder", "source")
"""Families that ``new`` begins a member of."""


def __getattr__(name: str) -> Any:
    # Imported when they are used: ``smae new`` needs no torch.
    if name not in __all__:
        raise AttributeError(f"module 'smae.testing' has no attribute {name!r}")
    return getattr(importlib.import_module("smae.testing.models"), name)


@dataclass(frozen=True)
class NewPlugin(Table):
    """A package that was written.

    Attributes:
        path: its folder.
        family, name: what it adds, and under which name.
        files: names of its files.
    """

    path: Path
    family: str
    name: str
    files: tuple[str, ...]

    def tables(self) -> list[Grid]:
        return [Grid(("",), [(name,) for name in self.files], f"{self.path}: {self.family} {self.name}", left=1)]


def new(family: str, name: str, out: Path | str | None = None) -> NewPlugin:
    """Write a package that adds a masking, objective, encoder or source; its test passes as it is.

    After ``pip install -e FOLDER`` the name works wherever names of its family do.

    Args:
        family: ``masking``, ``objective``, ``encoder`` or ``source``.
        name: how it is chosen later: lower-case words and numbers with ``-`` between them.
        out: the folder to write; one called after ``name`` in the current folder by default.

    Raises:
        ConfigError: another family, a name that is no name or is taken, or a folder that is there.
    """
    if family not in FAMILIES:
        raise ConfigError(
            f"unknown family '{family}': expected one of {', '.join(FAMILIES)}{nearest(family, FAMILIES)}"
        )
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 60:
        raise ConfigError(f"'{name}': expected a name such as my-{family}: lower-case words with - between them")
    if name in _taken(family):
        raise ConfigError(f"{family} '{name}' is there already: choose another name")
    folder = Path(out or name)
    check_output(folder, kind="a new plug-in", is_kind=lambda path: False, overwrite=False)
    module = f"smae_{name.replace('-', '_')}"
    words = {
        "family": family,
        "name": name,
        "package": f"smae-{name}",
        "module": module,
        "cls": "".join(map(str.capitalize, name.split("-"))),
    }
    contents = {
        "pyproject.toml": "pyproject.toml.txt",
        f"{module}.py": f"{family}.txt",
        f"test_{module}.py": f"{family}_test.txt",
    }
    with atomic_folder(folder) as partial:
        for file, template in contents.items():
            text = Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(words)
            (partial / file).write_text(text, encoding="utf-8")
    return NewPlugin(folder, family, name, tuple(contents))


def _taken(family: str) -> set[str]:
    """Return the names of a family, built in or installed."""
    if family == "source":
        from smae.data.raw.source import SOURCES

        return set(SOURCES.names())
    return {entry.name for entry in plugins() if entry.group == f"smae.{family}s"} | set(schemas()[family])
