"""Reads the bytes of samples in folders and zips without trusting the files.

Only regular files are read, sizes are capped, and zip members are unpacked in memory and checked
against their CRC-32; nothing is extracted to disk.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import struct
from pathlib import Path

from isal import isal_zlib

from smae.data.raw.source import Sample, ZipEntry
from smae.errors import BadRecording, EnvironmentFault

_RESOURCE_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# A link that replaces a file after discovery is not followed, and a FIFO does not block the reader.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\x03\x04"


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
        raw: the folder; or a zip or one recording, whose name is its samples' path.
        views: return views of a ``ReadBuffer``, valid until the next read, unless unpacked.

    Attributes:
        folder: that samples' paths are relative to.
    """

    def __init__(self, raw: Path, *, views: bool = False) -> None:
        self._views = views
        # A link that the user names is followed, once and here.
        self.folder = raw.resolve().parent if raw.is_file() else raw
        self._prefix = os.path.join(os.fspath(self.folder), "")
        self._archives: dict[str, int] = {}
        self._buffer = ReadBuffer(1 << 20)

    def read(self, sample: Sample) -> bytes | memoryview:
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
