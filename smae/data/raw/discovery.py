"""Finds samples by file name in folders and zips, without trusting the files.

Only regular files are samples, and sizes are capped; of zips, only directories are read. No link leaves the
input, except links to folders that stand directly in it: data sets are linked into one folder in this way.
"""

from __future__ import annotations

import logging
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from smae.data.raw.labels import CLASSES_FILE
from smae.data.raw.recording import MAX_BYTES
from smae.data.raw.source import Inventory, Refused, Sample, ZipEntry
from smae.errors import ConfigError, DataError, EnvironmentFault

logger = logging.getLogger(__name__)

MAX_RATIO = 200
"""Largest uncompressed / compressed size of a zip member; ``.skeleton`` text reaches 2.5 to 4."""
_end_record: Any = vars(zipfile)["_EndRecData"]
"""Parser of a zip's end record; item 4 is the number of members."""


def find_files(
    raw: Path,
    *,
    suffix: str,
    valid: Callable[[str], bool],
    looked_for: str,
    strict_names: bool = False,
    own_names: bool = False,
) -> Inventory:
    """Return the samples under a folder (its sub-folders and zips), inside one zip, or one file.

    Args:
        raw: the folder, zip or file; a file is a sample under any name.
        suffix: ending of samples' file names, such as ``.skeleton``.
        valid: whether a file name without the suffix is a sample's.
        looked_for: what a sample looks like, for people.
        strict_names: refuse files with the suffix and an invalid name, instead of ignoring them.
        own_names: where no file has a valid name, take all files with the suffix. Their samples
            have the files' names; where two are equal, their paths.

    Raises:
        ConfigError: ``raw`` is missing or unreadable.
        DataError: an archive with a damaged directory, or a link to a folder that is not followed.
        EnvironmentFault: a folder below ``raw`` is unreadable.
    """
    search = _Search(suffix=suffix, valid=valid, strict_names=strict_names, own_names=own_names)
    if raw.is_file() and (raw.name.lower().endswith(".zip") or zipfile.is_zipfile(raw)):
        search.add_zip(raw, raw.resolve().name)
    elif raw.is_file():
        file = raw.resolve()
        search.own_names = True
        search.add(raw.name.removesuffix(suffix), file.name, file.name, file.stat())
    else:
        root = raw.resolve()
        for entry, path in _walk(root, raw, suffix):
            search.add_entry(entry, path, root)
    search.take_own_names()
    return Inventory(
        samples=tuple(sorted(search.samples, key=attrgetter("name", "path", "member"))),
        refused=tuple(sorted(search.refused, key=lambda refused: (refused.path, refused.code))),
        ignored=search.ignored,
        looked_for=looked_for,
    )


def _walk(root: Path, shown: Path, suffix: str) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield all entries below ``root`` except folders, with relative paths.

    Links to folders elsewhere are followed where they stand in ``root`` itself, each folder once.
    """
    pending, followed = [""], set[Path]()
    while pending:
        folder = pending.pop()
        prefix = f"{folder}/" * bool(folder)
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
            path = prefix + entry.name
            target = _linked_folder(entry, root) if entry.is_symlink() else None
            if target is not None and any(target.is_relative_to(one) for one in followed):
                logger.info(f"{shown / path} is a second link to {target}, which is read once")
            elif target is not None and folder:
                raise DataError(
                    f"{shown / path}: a link to the folder {target}, which is not followed here, so its "
                    f"recordings would be missing: put the link into {shown} itself, or remove it"
                )
            elif target is not None:
                logger.info(f"{shown / path} is a link to {target}, which is read too")
                followed.add(target)
                pending.append(path)
            elif entry.is_dir(follow_symlinks=False) and not entry.name.endswith(suffix):
                pending.append(path)
            else:
                yield entry, path


def _linked_folder(entry: os.DirEntry[str], root: Path) -> Path | None:
    """Return the folder outside ``root``, and not around it, that a link leads to."""
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    if not target.is_dir() or target.is_relative_to(root) or root.is_relative_to(target):
        return None
    return target


@dataclass
class _Search:
    """Files found so far, sorted into samples, refused and ignored ones.

    ``own`` are samples, and files refused, whose names are not of the source's form.
    """

    suffix: str
    valid: Callable[[str], bool]
    strict_names: bool
    own_names: bool
    samples: list[Sample] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    own: list[Sample | Refused] = field(default_factory=list)
    ignored: int = 0

    def add_entry(self, entry: os.DirEntry[str], path: str, root: Path) -> None:
        """Sort one entry of a folder."""
        real_path = path
        if entry.is_symlink():
            target = _target_inside(root / path, root)
            if target is None or (root / target).is_dir():
                message = "a link to a folder, or one that leaves the input, loops or leads nowhere"
                self.refused.append(Refused(path, "not-regular", message))
                return
            real_path = target
            status = os.stat(root / real_path, follow_symlinks=False)
        else:
            status = entry.stat(follow_symlinks=False)
        regular = stat.S_ISREG(status.st_mode)
        if path == CLASSES_FILE and regular:
            return  # not a sample, but not a stray file either: prepare reads it
        if entry.name.lower().endswith(".zip") and regular:
            self.add_zip(root / real_path, real_path)
            return
        name = self._sample_name(path, path, status.st_size)
        if name is not None:
            self.add(name, path, real_path, status)

    def add(self, name: str, path: str, real_path: str, status: os.stat_result) -> None:
        """Sort a file with a sample's name."""
        if not stat.S_ISREG(status.st_mode):
            message = "a folder, FIFO, socket or device, not a file"
            self._keep(name, Refused(path, "not-regular", message))
        elif status.st_size > MAX_BYTES:
            message = f"{status.st_size:,} bytes; at most {MAX_BYTES:,} are read"
            self._keep(name, Refused(path, "size", message, status.st_size))
        else:
            self._keep(name, Sample(name, real_path, "", status.st_size))

    def add_zip(self, file: Path, path: str) -> None:
        """Sort the members of a zip; reads its directory only."""
        with open_zip(file) as archive:
            members = archive.infolist()
        last = {info.filename: info for info in members}
        shared = _overlapping(members)
        for info in members:
            if info.is_dir():
                continue
            where = f"{path}!{info.filename}"
            name = self._sample_name(info.filename, where, info.file_size)
            if name is None:
                continue
            problem = _member_problem(info)
            if problem is None and last[info.filename] is not info:
                problem = "zip-name", "the zip holds this name twice; the later member is read"
            if problem is None and info.header_offset in shared:
                problem = "zip-overlap", "its bytes are another member's too, which no ordinary zip has"
            if problem is not None:
                self._keep(name, Refused(where, *problem, info.file_size))
                continue
            deflated = info.compress_type == zipfile.ZIP_DEFLATED
            entry = ZipEntry(info.header_offset, info.compress_size, deflated=deflated, crc=info.CRC)
            self._keep(name, Sample(name, path, info.filename, info.file_size, entry))

    def _keep(self, name: str, found: Sample | Refused) -> None:
        if not self.valid(name):
            self.own.append(found)
        elif isinstance(found, Sample):
            self.samples.append(found)
        else:
            self.refused.append(found)

    def take_own_names(self) -> None:
        """Take the files with other names, if there are no others; else count them as ignored."""
        own = [found for found in self.own if isinstance(found, Sample)]
        if self.samples or not self.own_names:
            self.ignored += len(self.own)
            return
        self.refused += [found for found in self.own if isinstance(found, Refused)]
        names = Counter(sample.name for sample in own)
        for sample in own:
            name = sample.name
            if names[name] > 1:
                name = sample.where.removesuffix(self.suffix)
            # Stores hold names as printable ASCII.
            self.samples.append(replace(sample, name=ascii(name)[1:-1]))

    def _sample_name(self, file: str, where: str, size: int) -> str | None:
        """Return a file's sample name; without one, count it as ignored or refused."""
        name = file.replace("\\", "/").rsplit("/", 1)[-1]
        own = name.removesuffix(self.suffix)
        if name.endswith(self.suffix) and (not self.strict_names or self.valid(own)):
            return own
        if self.strict_names and name.lower().endswith(self.suffix):
            self.refused.append(Refused(where, "name", f"a {self.suffix} file whose name is not a sample's", size))
        else:
            self.ignored += 1
        return None


def _target_inside(link: Path, root: Path) -> str | None:
    """Return a link's target relative to ``root``; None if it leads out, in circles or nowhere."""
    try:
        return link.resolve(strict=True).relative_to(root).as_posix()
    except (OSError, ValueError, RuntimeError):
        return None


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip; a ``DataError`` if its directory is damaged, as all samples would be lost."""
    try:
        archive = zipfile.ZipFile(path)
        # A damaged entry can hide those behind it, which zipfile does not notice. Writers without
        # zip64 count modulo 2^16.
        declared, found = _end_record(archive.fp)[4], len(archive.infolist())
        if (declared - found) % 2**16:
            archive.close()
            raise zipfile.BadZipFile(f"its directory declares {declared} members and lists {found}")
        return archive
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise DataError(f"{path}: not a readable zip ({error}): copy it again, or move it out of the folder") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}: make it readable, or move it away") from error


def _member_problem(info: zipfile.ZipInfo) -> tuple[str, str] | None:
    """Return code and message if a zip member must not be read."""
    parts = info.filename.replace("\\", "/").split("/")
    if ".." in parts or info.filename.startswith(("/", "\\")) or ":" in parts[0]:
        return "zip-name", "its name leads out of the zip"
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        return "not-regular", "a link or device inside a zip"
    if info.flag_bits & 0x1:
        return "zip-encrypted", "encrypted: unpack it with its password first"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "zip-method", f"packed by method {info.compress_type}; expected stored or deflated"
    if info.file_size > MAX_BYTES:
        return "size", f"{info.file_size:,} bytes; at most {MAX_BYTES:,} are read"
    if info.file_size > MAX_RATIO * max(info.compress_size, 1):
        return "zip-ratio", f"unpacks to {info.file_size:,} bytes from {info.compress_size:,}; at most {MAX_RATIO} to 1"
    if info.compress_size > MAX_BYTES:
        return "size", f"{info.compress_size:,} bytes packed; at most {MAX_BYTES:,} are read"
    return None


def _overlapping(members: list[zipfile.ZipInfo]) -> set[int]:
    """Return the offsets of members whose bytes overlap: zip bombs share one body between many."""
    found: set[int] = set()
    before, end = -1, 0
    for info in sorted(members, key=attrgetter("header_offset")):
        if info.header_offset < end:
            found |= {before, info.header_offset}
        before, end = info.header_offset, max(end, info.header_offset + info.compress_size)
    return found


def find_named(raw: Path, *, suffixes: tuple[str, ...]) -> Inventory:
    """Return the files with one of several endings under a folder, not in zips, or one file.

    Samples have the files' names; where two are equal, their paths. Raises as ``find_files`` does.
    """
    search = _Search(suffix="", valid=lambda name: False, strict_names=False, own_names=True)
    root = raw.resolve()
    paths = [root.name]
    if root.is_file():
        root = root.parent
    else:
        paths = [path for entry, path in _walk(root, raw, "\0") if entry.is_file(follow_symlinks=False)]
    for path in paths:
        if path.lower().endswith(suffixes):
            name = Path(path).stem
            search.own.append(Sample(name, path, "", os.stat(root / path).st_size))
        else:
            search.ignored += 1
    search.take_own_names()
    return Inventory(
        samples=tuple(sorted(search.samples, key=attrgetter("name", "path", "member"))),
        refused=(),
        ignored=search.ignored,
        looked_for=f"files that end in {', '.join(suffixes)}",
    )
