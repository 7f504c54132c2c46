"""NTU RGB+D's raw data: ``SsssCcccPpppRrrrAaaa.skeleton`` files in folders and zips, found by name, never by folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from smae.data.clip_table import ClipFacts
from smae.data.lists import ntu_missing
from smae.data.names import parse_name
from smae.data.protocols import NTU60_SETUPS
from smae.data.recording import Recording
from smae.data.sources.base import MAX_BYTES, SOURCES, Inventory, Refused, Sample
from smae.data.sources.files import FileReader, open_archive, refuse_member
from smae.errors import ConfigError, EnvironmentFault
from smae.skeleton import NTU25

SUFFIX = ".skeleton"
NTU60_ACTIONS = 60


@SOURCES.register("ntu")
class NtuSource:
    """The NTU RGB+D family, and any other recordings that are named and written like it."""

    layout = NTU25

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return the samples under a folder (its sub-folders and zips) or inside one zip; see ``Source.discover``."""
        finds = _Finds(strict_names=strict_names)
        if raw.is_file():
            _list_zip(raw, raw.name, finds)
        else:
            root = raw.resolve()
            for entry, path in _walk(root, raw):
                _sort_entry(entry, path, root, finds)
        return Inventory(
            samples=tuple(sorted(finds.samples)),
            refused=tuple(sorted(finds.refused, key=lambda refused: (refused.path, refused.code))),
            ignored=finds.ignored,
            looked_for=f"files or zip members named like S001C002P003R002A013{SUFFIX}",
        )

    def reader(self, raw: Path) -> FileReader:
        """Return a reader of the samples under ``raw``."""
        return FileReader(raw)

    def parse(self, data: bytes, *, strict: bool, max_range: float) -> Recording:
        """Return what one ``.skeleton`` file holds; see ``Source.parse``."""
        # Imported late: it brings the compiled kernels, which listing files does not need.
        from smae.data.skeleton_fast import read_skeleton

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

    def dataset(self, facts: Sequence[ClipFacts]) -> str:
        """Return ``ntu60`` if all setups are of its first 17 and all actions of its first 60, else ``ntu120``."""
        small = all(fact.setup <= NTU60_SETUPS and int(fact.action[1:]) <= NTU60_ACTIONS for fact in facts)
        return "ntu60" if small else "ntu120"

    def missing(self) -> frozenset[str]:
        """Return the official names of samples with missing skeletons."""
        return ntu_missing()


@dataclass
class _Finds:
    strict_names: bool
    samples: list[Sample] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    ignored: int = 0

    def sample_name(self, file: str, where: str, size: int) -> str | None:
        """Return the sample's name that a file's path ends in; count it as ignored, or refused, where there is none."""
        name = file.replace("\\", "/").rsplit("/", 1)[-1]
        if name.endswith(SUFFIX) and parse_name(name.removesuffix(SUFFIX)):
            return name.removesuffix(SUFFIX)
        if self.strict_names and name.lower().endswith(SUFFIX):
            self.refused.append(Refused(where, "name", "not named like S001C002P003R002A013.skeleton", size))
        else:
            self.ignored += 1
        return None


def _walk(root: Path, shown: Path) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield everything below ``root`` that is not a plain folder, with its relative path; follows no link."""
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as listing:
                entries = list(listing)
        except OSError as error:
            if not folder:
                raise ConfigError(
                    f"cannot list {shown}: {error.strerror}; give a folder or zip of recordings"
                ) from error
            raise EnvironmentFault(f"cannot list {shown / folder}: {error.strerror}; make it readable") from error
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False) and not entry.name.endswith(SUFFIX):
                pending.append(path)
            else:
                yield entry, path


def _sort_entry(entry: os.DirEntry[str], path: str, root: Path, finds: _Finds) -> None:
    is_zip = entry.name.lower().endswith(".zip")
    if entry.is_symlink():
        target = _inside(root / path, root)
        if target is None or (root / target).is_dir():
            message = "a link to a folder, or one that leaves the input, loops or leads nowhere"
            finds.refused.append(Refused(path, "not-regular", message))
            return
        real, linked = os.stat(root / target, follow_symlinks=False), target
    else:
        real, linked = entry.stat(follow_symlinks=False), path
    regular = stat.S_ISREG(real.st_mode)
    if is_zip and regular:
        _list_zip(root / linked, linked, finds)
        return
    name = finds.sample_name(path, path, real.st_size)
    if name is None:
        return
    if not regular:
        finds.refused.append(Refused(path, "not-regular", "a folder, FIFO, socket or device, not a file"))
    elif real.st_size > MAX_BYTES:
        message = f"{real.st_size:,} bytes; at most {MAX_BYTES:,} are read"
        finds.refused.append(Refused(path, "size", message, real.st_size))
    else:
        finds.samples.append(Sample(name=name, path=linked, member="", size=real.st_size))


def _inside(link: Path, root: Path) -> str | None:
    """Return where a link leads, relative to ``root``, or None where it leads out, in circles or nowhere."""
    try:
        return link.resolve(strict=True).relative_to(root).as_posix()
    except (OSError, ValueError, RuntimeError):
        return None


def _list_zip(file: Path, path: str, finds: _Finds) -> None:
    with open_archive(file) as archive:
        last = {info.filename: info for info in archive.infolist()}
        for info in archive.infolist():
            if info.is_dir():
                continue
            where = f"{path}!{info.filename}"
            name = finds.sample_name(info.filename, where, info.file_size)
            if name is None:
                continue
            refusal = refuse_member(info)
            if refusal is None and last[info.filename] is not info:
                refusal = "zip-name", "the zip holds this name twice; the later member is read"
            if refusal is not None:
                finds.refused.append(Refused(where, *refusal, info.file_size))
            else:
                finds.samples.append(Sample(name=name, path=path, member=info.filename, size=info.file_size))
