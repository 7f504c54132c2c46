"""Finds samples by file name in folders and zips, and reads their bytes without trusting the files.

Only regular files are read, no link leaves the input, sizes are capped, and zip members are
unpacked in memory and checked against their CRC-32; nothing is extracted to disk.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from isal import isal_zlib

from smae.data.raw.labels import CLASSES_FILE
from smae.data.raw.recording import MAX_BYTES
from smae.data.raw.source import Inventory, Refused, Sample, ZipEntry
from smae.errors import BadRecording, ConfigError, DataError, EnvironmentFault

MAX_RATIO = 200
"""Largest uncompressed / compressed size of a zip member; ``.skeleton`` text reaches 2.5 to 4."""
_RESOURCE_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# A link that replaces a file after discovery is not followed, and a FIFO does not block the reader.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\x03\x04"
_end_record: Any = vars(zipfile)["_EndRecData"]
"""Parser of a zip's end record; item 4 is the number of members."""


class ReadBuffer(mmap.mmap):
    """Memory that one raw file after another is read into, and parsed in.

    ``SLACK`` bytes follow the text, so that kernels may read past its end. The memory is aligned to
    a page: the kernel copies a file several times slower to an unaligned address (measured).

    Args:
        size: bytes of text that fit.
    """

    SLACK = 1024

    def __new__(cls, size: int) -> ReadBuffer:
        """Map anonymous memory, privately: forked workers would write into a shared mapping."""
        if not hasattr(mmap, "MAP_PRIVATE"):
            return super().__new__(cls, -1, size + cls.SLACK)
        return super().__new__(cls, -1, size + cls.SLACK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    @property
    def capacity(self) -> int:
        """Bytes of text that fit."""
        return len(self) - self.SLACK


class FileReader:
    """Reads samples from one raw folder or zip.

    Args:
        raw: the folder, or the zip itself (its samples have the zip's name as their path).
        views: return views of a ``ReadBuffer``, valid until the next read, where nothing is
            unpacked.
    """

    def __init__(self, raw: Path, *, views: bool = False) -> None:
        self._views = views
        root = raw.parent if raw.is_file() else raw
        self._prefix = os.path.join(os.fspath(root), "")
        self._archives: dict[str, int] = {}
        self._buffer = ReadBuffer(1 << 20)

    def read(self, sample: Sample) -> bytes | memoryview:
        """Return the bytes of one sample; see ``SampleReader.read``."""
        try:
            if sample.packed is None:
                data: bytes | memoryview = self._read_file(sample)
            else:
                data = self._read_member(sample, sample.packed)
        except OSError as error:
            if error.errno in _RESOURCE_ERRORS:
                raise EnvironmentFault(f"cannot read {sample.where}: {error.strerror}; lower --workers") from error
            raise BadRecording("io", f"cannot be read: {error.strerror or error}") from error
        if len(data) != sample.size:
            raise BadRecording("io", f"changed while running: it had {sample.size} bytes, now it has {len(data)}")
        return data if self._views else bytes(data)

    def close(self) -> None:
        """Close all open archives."""
        for handle in self._archives.values():
            os.close(handle)
        self._archives.clear()

    def _read_file(self, sample: Sample) -> memoryview:
        handle = self._open(sample.path)
        try:
            return self._read(handle, sample.size)
        finally:
            os.close(handle)

    def _read_member(self, sample: Sample, entry: ZipEntry) -> bytes:
        if sample.path not in self._archives:
            self._archives[sample.path] = self._open(sample.path)
        handle = self._archives[sample.path]
        header = os.pread(handle, _LOCAL_HEADER.size + 4 * len(sample.member), entry.offset)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_MAGIC):
            raise BadRecording("zip-damaged", "cannot be unpacked: no member begins where the zip's directory says")
        _, name_size, extra_size = _LOCAL_HEADER.unpack_from(header)
        start = _LOCAL_HEADER.size + name_size
        # No checksum covers a member's name, but it is written twice: here and in the directory.
        name = sample.member.replace("\\", "/").rsplit("/", 1)[-1]
        if not any(header[:start].endswith(name.encode(code, "replace")) for code in ("utf-8", "cp437")):
            raise BadRecording("zip-damaged", "its name is not the one in the zip's directory")
        data = self._read(handle, entry.size, entry.offset + start + extra_size)[: entry.size]
        unpacked = _inflate(data, sample.size) if entry.deflated else bytes(data)
        if isal_zlib.crc32(unpacked) != entry.crc:
            raise BadRecording("zip-damaged", "cannot be unpacked: its CRC-32 is not the one in the zip's directory")
        return unpacked

    def _open(self, path: str) -> int:
        handle = os.open(self._prefix + path, _FLAGS)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise BadRecording("not-regular", "is no longer a regular file")
        return handle

    def _read(self, handle: int, size: int, start: int = 0) -> memoryview:
        """Read ``size`` bytes into the buffer; one more if the file is longer."""
        if size + 1 > self._buffer.capacity:
            self._buffer = ReadBuffer(size + 1)
        view, at = memoryview(self._buffer), 0
        while at < size and (count := os.preadv(handle, [view[at : size + 1]], start + at)):
            at += count
        return view[:at]


def _inflate(data: memoryview, size: int) -> bytes:
    """Unpack a deflated member, at most one byte more than ``size``: a zip bomb stays packed."""
    stream = isal_zlib.decompressobj(wbits=-15)
    try:
        unpacked: bytes = stream.decompress(data, max_length=size + 1)
    except isal_zlib.error as error:  # type: ignore[misc]
        raise BadRecording("zip-damaged", f"cannot be unpacked: {ascii(str(error))[1:-1]}") from error
    if len(unpacked) != size or not stream.eof:
        raise BadRecording("zip-damaged", f"cannot be unpacked: the zip's directory says {size} bytes, found others")
    return unpacked


def find_files(
    raw: Path, *, suffix: str, valid: Callable[[str], bool], looked_for: str, strict_names: bool = False
) -> Inventory:
    """Return the samples under a folder (its sub-folders and zips) or inside one zip.

    Args:
        raw: the folder or zip.
        suffix: ending of samples' file names, such as ``.skeleton``.
        valid: whether a file name without the suffix is a sample's.
        looked_for: what a sample looks like, for people.
        strict_names: refuse files with the suffix and an invalid name, instead of ignoring them.

    Raises:
        ConfigError: ``raw`` is missing or unreadable.
        DataError: an archive with a damaged directory.
        EnvironmentFault: a folder below ``raw`` is unreadable.
    """
    search = _Search(suffix=suffix, valid=valid, strict_names=strict_names)
    if raw.is_file():
        search.add_zip(raw, raw.name)
    else:
        root = raw.resolve()
        for entry, path in _walk(root, raw, suffix):
            search.add_entry(entry, path, root)
    return Inventory(
        samples=tuple(sorted(search.samples, key=attrgetter("name", "path", "member"))),
        refused=tuple(sorted(search.refused, key=lambda refused: (refused.path, refused.code))),
        ignored=search.ignored,
        looked_for=looked_for,
    )


def _walk(root: Path, shown: Path, suffix: str) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield all entries below ``root`` except folders, with relative paths; follow no link."""
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
            path = f"{folder}/{entry.name}".removeprefix("/")
            if entry.is_dir(follow_symlinks=False) and not entry.name.endswith(suffix):
                pending.append(path)
            else:
                yield entry, path


@dataclass
class _Search:
    """Files found so far, sorted into samples, refused and ignored ones."""

    suffix: str
    valid: Callable[[str], bool]
    strict_names: bool
    samples: list[Sample] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
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
        regular = stat.S_ISREG(status.st_mode)
        if path == CLASSES_FILE and regular:
            return  # not a sample, but not a stray file either: prepare reads it
        if entry.name.lower().endswith(".zip") and regular:
            self.add_zip(root / real_path, real_path)
            return
        name = self._sample_name(path, path, status.st_size)
        if name is None:
            return
        if not regular:
            self.refused.append(Refused(path, "not-regular", "a folder, FIFO, socket or device, not a file"))
        elif status.st_size > MAX_BYTES:
            message = f"{status.st_size:,} bytes; at most {MAX_BYTES:,} are read"
            self.refused.append(Refused(path, "size", message, status.st_size))
        else:
            self.samples.append(Sample(name=name, path=real_path, member="", size=status.st_size))

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
                self.refused.append(Refused(where, *problem, info.file_size))
                continue
            deflated = info.compress_type == zipfile.ZIP_DEFLATED
            entry = ZipEntry(info.header_offset, info.compress_size, deflated=deflated, crc=info.CRC)
            self.samples.append(Sample(name, path, info.filename, info.file_size, entry))

    def _sample_name(self, file: str, where: str, size: int) -> str | None:
        """Return a file's sample name; without one, count it as ignored or refused."""
        name = file.replace("\\", "/").rsplit("/", 1)[-1]
        if name.endswith(self.suffix) and self.valid(name.removesuffix(self.suffix)):
            return name.removesuffix(self.suffix)
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
    """Open a zip and read its directory.

    Raises:
        DataError: the directory is damaged: every sample in the zip would be lost.
    """
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
