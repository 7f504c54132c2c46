"""Finds sample files by name, in folders at any depth and in zips, following no link that leaves the input."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from smae.data.raw.files import open_archive, packed_member, refuse_member
from smae.data.raw.labels import NAMES_FILE
from smae.data.raw.source import MAX_BYTES, Inventory, Refused, Sample
from smae.errors import ConfigError, EnvironmentFault


def find_files(
    raw: Path, *, suffix: str, valid: Callable[[str], bool], looked_for: str, strict_names: bool = False
) -> Inventory:
    """Return the samples under a folder (its sub-folders and zips) or inside one zip.

    Args:
        raw: the folder or zip.
        suffix: how the names of samples end, such as ``.skeleton``.
        valid: whether a file's name without the suffix is a sample's.
        looked_for: what is taken for a sample, for people.
        strict_names: refuse files that have the suffix and no valid name, instead of ignoring them.

    Raises:
        ConfigError: ``raw`` is missing or unreadable.
        DataError: an archive whose directory is damaged.
        EnvironmentFault: a folder below ``raw`` is unreadable.
    """
    finds = _Finds(suffix=suffix, valid=valid, strict_names=strict_names)
    if raw.is_file():
        _list_zip(raw, raw.name, finds)
    else:
        root = raw.resolve()
        for entry, path in _walk(root, raw, suffix):
            _sort_entry(entry, path, root, finds)
    return Inventory(
        samples=tuple(sorted(finds.samples, key=attrgetter("name", "path", "member"))),
        refused=tuple(sorted(finds.refused, key=lambda refused: (refused.path, refused.code))),
        ignored=finds.ignored,
        looked_for=looked_for,
    )


@dataclass
class _Finds:
    suffix: str
    valid: Callable[[str], bool]
    strict_names: bool
    samples: list[Sample] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    ignored: int = 0

    def sample_name(self, file: str, where: str, size: int) -> str | None:
        """Return the sample's name that a file's path ends in; count it as ignored, or refused, where there is none."""
        name = file.replace("\\", "/").rsplit("/", 1)[-1]
        if name.endswith(self.suffix) and self.valid(name.removesuffix(self.suffix)):
            return name.removesuffix(self.suffix)
        if self.strict_names and name.lower().endswith(self.suffix):
            self.refused.append(Refused(where, "name", f"a {self.suffix} file whose name is not a sample's", size))
        else:
            self.ignored += 1
        return None


def _walk(root: Path, shown: Path, suffix: str) -> Iterator[tuple[os.DirEntry[str], str]]:
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
            if entry.is_dir(follow_symlinks=False) and not entry.name.endswith(suffix):
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
    if path == NAMES_FILE and regular:
        return  # no sample, but no stray file either: prepare reads it
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
        shared = _overlapping(archive.infolist())
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
            if refusal is None and info.header_offset in shared:
                refusal = "zip-overlap", "its bytes are another member's too: no ordinary zip is so packed"
            if refusal is not None:
                finds.refused.append(Refused(where, *refusal, info.file_size))
            else:
                packed = packed_member(info)
                finds.samples.append(Sample(name, path, info.filename, info.file_size, packed))


def _overlapping(members: list[zipfile.ZipInfo]) -> set[int]:
    """Return the offsets of members that begin before the one in front of them ends: what zip bombs are made of."""
    found: set[int] = set()
    before, end = -1, 0
    for info in sorted(members, key=attrgetter("header_offset")):
        if info.header_offset < end:
            found |= {before, info.header_offset}
        before, end = info.header_offset, max(end, info.header_offset + info.compress_size)
    return found
