"""NTU RGB+D's raw data: ``SsssCcccPpppRrrrAaaa.skeleton`` files in folders and zips, found by name, never by folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from smae.data.raw.discovery import find_files
from smae.data.raw.files import FileReader
from smae.data.raw.lists import ntu_missing
from smae.data.raw.ntu_names import is_name, parse_name
from smae.data.raw.recording import Recording
from smae.data.raw.source import Inventory
from smae.data.store.clip_table import ClipFacts
from smae.data.store.splits import NTU60_SETUPS
from smae.skeleton import NTU25

SUFFIX = ".skeleton"
NTU60_ACTIONS = 60


class NtuSource:
    """The NTU RGB+D family, and any other recordings that are named and written like it."""

    layout = NTU25
    cleaned: str | None = None

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return the samples under a folder (its sub-folders and zips) or inside one zip; see ``Source.discover``."""
        return find_files(
            raw,
            suffix=SUFFIX,
            valid=is_name,
            strict_names=strict_names,
            looked_for=f"files or zip members named like S001C002P003R002A013{SUFFIX}",
        )

    def reader(self, raw: Path) -> FileReader:
        """Return a reader of the samples under ``raw``."""
        return FileReader(raw, views=True)

    def parse(self, data: bytes | memoryview, *, strict: bool, max_range: float) -> Recording:
        """Return what one ``.skeleton`` file holds; see ``Source.parse``."""
        # Imported late: it brings the compiled kernels, which listing files does not need.
        from smae.data.raw.fast_parser import read_skeleton

        return read_skeleton(data, strict=strict, max_range=max_range)

    def facts(self, name: str) -> ClipFacts:
        """Return what a sample's name says; its last four characters are the action id."""
        numbers = parse_name(name)
        assert numbers is not None, "discover lets only names of this form through"
        return ClipFacts(
            name=name,
            action=f"A{numbers.action:03}",
            subject=numbers.subject,
            camera=numbers.camera,
            setup=numbers.setup,
            replication=numbers.replication,
        )

    def splits(self) -> Mapping[str, Mapping[str, int]]:
        """Return none: NTU's protocols follow from the names."""
        return {}

    def dataset(self, facts: Sequence[ClipFacts]) -> str:
        """Return ``ntu60`` if all setups are of its first 17 and all actions of its first 60, else ``ntu120``."""
        small = all(fact.setup <= NTU60_SETUPS and int(fact.action[1:]) <= NTU60_ACTIONS for fact in facts)
        return "ntu60" if small else "ntu120"

    def missing(self) -> frozenset[str]:
        """Return the official names of samples with missing skeletons."""
        return ntu_missing()
