"""Data sets of one file a clip, one person in it, whose name says who does what: what such sources share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from smae.data.raw.discovery import find_files
from smae.data.raw.files import FileReader
from smae.data.raw.source import Inventory
from smae.skeleton import KINECT20, Layout


class NamedFiles:
    """Finds and reads such files; what is in one, and what its name means, is the data set's.

    Attributes:
        form: of a sample's name, a file's without its suffix; its groups are the numbers in it.
        suffix: of the files.
        example: of a file's name, for whoever has none.
    """

    layout: Layout = KINECT20
    cleaned: str | None = None
    form: ClassVar[re.Pattern[str]]
    suffix: ClassVar[str]
    example: ClassVar[str]

    def __init__(self) -> None:
        self.names: list[str] = []

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return the samples under a folder or zip; see ``Source.discover``."""
        found = find_files(
            raw,
            suffix=self.suffix,
            valid=lambda name: self.form.fullmatch(name) is not None,
            strict_names=strict_names,
            looked_for=f"files or zip members named like {self.example}",
        )
        self.names = [sample.name for sample in found.samples]
        return found

    def reader(self, raw: Path) -> FileReader:
        """Return a reader of the samples under ``raw``."""
        return FileReader(raw)

    def missing(self) -> frozenset[str]:
        """Return none."""
        return frozenset()

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return the numbers in a sample's name."""
        match = self.form.fullmatch(name)
        assert match is not None, "discover lets only names of this form through"
        return tuple(int(digits) for digits in match.groups())
