"""Reads samples from folders and zips without trusting them: regular files only, sizes capped, nothing extracted."""

from __future__ import annotations

import errno
import os
import stat
import zipfile
import zlib
from pathlib import Path

from smae.data.sources.base import MAX_BYTES, Sample
from smae.errors import BadRecording, DataError, EnvironmentFault

MAX_RATIO = 200
"""Largest unpacked / packed size of a zip member; ``.skeleton`` text packs 2.5 to 4 times."""
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class FileReader:
    """Reads samples below one raw folder, or inside one zip.

    Args:
        raw: the folder, or the zip itself (samples then have the zip's own name as their path).
    """

    def __init__(self, raw: Path) -> None:
        self.root = raw.parent if raw.is_file() else raw
        self._archives: dict[str, zipfile.ZipFile] = {}

    def read(self, sample: Sample) -> bytes:
        """Return the bytes of one sample; see ``SampleReader.read``."""
        try:
            data = self._member(sample) if sample.member else self._file(sample)
        except OSError as error:
            if error.errno in _OURS:
                raise EnvironmentFault(f"cannot read {sample.where}: {error.strerror}; lower --workers") from error
            raise BadRecording("io", f"cannot be read: {error.strerror or error}") from error
        if len(data) != sample.size:
            raise BadRecording("io", f"changed while running: it had {sample.size} bytes, now it has {len(data)}")
        return data

    def close(self) -> None:
        """Close the archives that are open."""
        for archive in self._archives.values():
            archive.close()
        self._archives.clear()

    def _file(self, sample: Sample) -> bytes:
        # O_NONBLOCK: opening a FIFO must not wait for a writer; on regular files it changes nothing.
        handle = os.open(self.root / sample.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise BadRecording("not-regular", "is no longer a regular file")
            data = file.read(sample.size + 1) or b""
            while len(data) <= sample.size and (more := file.read(sample.size + 1 - len(data))):
                data += more
        return data

    def _member(self, sample: Sample) -> bytes:
        try:
            if sample.path not in self._archives:
                self._archives[sample.path] = zipfile.ZipFile(self.root / sample.path)
            with self._archives[sample.path].open(sample.member) as member:
                return member.read(sample.size + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
            raise BadRecording("zip-damaged", f"cannot be unpacked: {ascii(str(error))[1:-1]}") from error


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
    return None
