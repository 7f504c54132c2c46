"""Reads samples from folders and zips without trusting them: regular files only, sizes capped, nothing extracted."""

from __future__ import annotations

import errno
import os
import stat
import struct
import zipfile
from pathlib import Path

from isal import isal_zlib

from smae.data.raw.read_buffer import TextMemory
from smae.data.raw.source import MAX_BYTES, Packed, Sample
from smae.errors import BadRecording, DataError, EnvironmentFault

MAX_RATIO = 200
"""Largest unpacked / packed size of a zip member; ``.skeleton`` text packs 2.5 to 4 times."""
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# Neither through a link, nor waiting for somebody to write into a FIFO.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\x03\x04"


class FileReader:
    """Reads samples below one raw folder, or inside one zip.

    Args:
        raw: the folder, or the zip itself (samples then have the zip's own name as their path).
        views: give views of ``TextMemory``, each valid until the next read, where a file needs no unpacking.
    """

    def __init__(self, raw: Path, *, views: bool = False) -> None:
        self._views = views
        self.root = raw.parent if raw.is_file() else raw
        self._prefix = os.path.join(os.fspath(self.root), "")
        self._archives: dict[str, int] = {}
        self._memory = TextMemory(1 << 20)

    def read(self, sample: Sample) -> bytes | memoryview:
        """Return the bytes of one sample; see ``SampleReader.read``."""
        try:
            data = self._file(sample) if sample.packed is None else self._member(sample, sample.packed)
        except OSError as error:
            if error.errno in _OURS:
                raise EnvironmentFault(f"cannot read {sample.where}: {error.strerror}; lower --workers") from error
            raise BadRecording("io", f"cannot be read: {error.strerror or error}") from error
        if len(data) != sample.size:
            raise BadRecording("io", f"changed while running: it had {sample.size} bytes, now it has {len(data)}")
        return data if self._views else bytes(data)

    def close(self) -> None:
        """Close the archives that are open."""
        for handle in self._archives.values():
            os.close(handle)
        self._archives.clear()

    def _file(self, sample: Sample) -> memoryview:
        handle = os.open(self._prefix + sample.path, _FLAGS)
        try:
            _check_regular(handle)
            return self._read(handle, sample.size)
        finally:
            os.close(handle)

    def _member(self, sample: Sample, packed: Packed) -> bytes:
        if sample.path not in self._archives:
            handle = self._archives[sample.path] = os.open(self._prefix + sample.path, _FLAGS)
            _check_regular(handle)
        handle = self._archives[sample.path]
        header = os.pread(handle, _LOCAL_HEADER.size, packed.offset)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_MAGIC):
            raise BadRecording("zip-damaged", "cannot be unpacked: no member begins where the zip's directory says")
        _, name, extra = _LOCAL_HEADER.unpack(header)
        data = self._read(handle, packed.size, packed.offset + _LOCAL_HEADER.size + name + extra)[: packed.size]
        unpacked = _inflate(data, sample.size) if packed.deflated else bytes(data)
        if isal_zlib.crc32(unpacked) != packed.crc:
            raise BadRecording("zip-damaged", "cannot be unpacked: its CRC-32 is not the one in the zip's directory")
        return unpacked

    def _read(self, handle: int, size: int, start: int = 0) -> memoryview:
        """Return ``size`` bytes of a file, one more where it goes on, fewer where it ends before."""
        if size + 1 > self._memory.room:
            self._memory = TextMemory(size + 1)
        view, at = memoryview(self._memory), 0
        while at < size and (got := os.preadv(handle, [view[at : size + 1]], start + at)):
            at += got
        return view[:at]


def _check_regular(handle: int) -> None:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise BadRecording("not-regular", "is no longer a regular file")


def _inflate(data: memoryview, size: int) -> bytes:
    """Return what a deflated member holds; never more than one byte over ``size``."""
    stream = isal_zlib.decompressobj(wbits=-15)
    try:
        unpacked: bytes = stream.decompress(data, max_length=size + 1)
    except isal_zlib.error as error:  # type: ignore[misc]
        raise BadRecording("zip-damaged", f"cannot be unpacked: {ascii(str(error))[1:-1]}") from error
    if len(unpacked) != size or not stream.eof:
        raise BadRecording("zip-damaged", f"cannot be unpacked: the zip's directory says {size} bytes, found others")
    return unpacked


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip's directory.

    Raises:
        DataError: it is damaged: every sample in it would be lost, so nothing is prepared.
    """
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise DataError(f"{path}: not a readable zip ({error}): copy it again, or move it out of the folder") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}: make it readable, or move it away") from error


def packed_member(info: zipfile.ZipInfo) -> Packed:
    """Return where a member that ``refuse_member`` lets through lies in its zip."""
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    return Packed(info.header_offset, info.compress_size, deflated=deflated, crc=info.CRC)


def refuse_member(info: zipfile.ZipInfo) -> tuple[str, str] | None:
    """Return the code and message why a zip member must not be read, or None."""
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
