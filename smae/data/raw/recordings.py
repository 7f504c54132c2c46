"""The recordings at a path: one file, a folder or a zip, of any source; and one that is being written.

Commands that take recordings find and read them here, so that what one of them takes, all do.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path

from smae.data.prepare import UNITS
from smae.data.raw.ntu import NPY_SUFFIX
from smae.data.raw.recording import KEYPOINTS, MAX_RANGE, VIDEOS, Clip, Recording
from smae.data.raw.skeleton_parser import JOINTS, MAX_BODIES, MAX_LINE
from smae.data.raw.source import SOURCES, Inventory, Refused, Sample, SampleReader, make_source, parse_sample
from smae.data.store import Store, open_store
from smae.data.store.file_store import locate
from smae.errors import BadRecording, ConfigError, DataError, UnknownNameError
from smae.registry import nearest
from smae.skeleton import Layout

logger = logging.getLogger(__name__)

CHUNK = 2**20
"""Bytes that are read at a time: a long file is caught up with in steps of bounded memory."""
HEAD = 4096
"""Bytes after line 1 by which a file is known again."""
# A CR that is the last byte so far may be the first half of CRLF.
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")
_BY_SUFFIX = {".skeleton": "ntu", **dict.fromkeys(VIDEOS, "video")}
"""Sources that a file's ending chooses, whichever built-in source the training data came from."""


def source_of(path: Path, default: str) -> str:
    """Return the name of the source that reads ``path``: its ending decides before ``default``."""
    if default not in SOURCES.builtin() or not path.is_file():
        return default
    if path.name.endswith(NPY_SUFFIX):
        return "ntu-npy"
    suffix = path.suffix.lower()
    if default == "ntu" and suffix in KEYPOINTS:
        return "keypoints"
    return _BY_SUFFIX.get(suffix, default)


def is_store(where: Store | Path | str) -> bool:
    """Return whether ``where`` is a store: opened, by URL, by its ending or content."""
    if isinstance(where, Store):
        return True
    path = locate(where)
    return isinstance(path, str) or path.suffix == ".zarr" or (path / "zarr.json").is_file()


def check_there(where: Path | str) -> None:
    """Raise a ``ConfigError``, or ``DataError`` for a store, unless something is there; URLs are not looked at."""
    path = locate(where)
    if isinstance(path, str) or path.exists():
        return
    if is_store(path):
        open_store(where)
    raise ConfigError(f"nothing at {where}: no such file or folder; give a recording, or a folder or zip of recordings")


class Recordings:
    """Finds and reads the recordings at a path.

    Args:
        path: a recording, or a folder or zip of recordings.
        source: name of the registered source; see ``source_of``.
        layout: of the files, or its name, where they do not say it.

    Attributes:
        source: the source's object, which found the recordings.

    Raises:
        ConfigError: nothing at ``path``.
        UnknownNameError: no such source.
    """

    def __init__(self, path: Path | str, source: str, *, layout: Layout | str | None = None) -> None:
        self.path = Path(path)
        check_there(path)
        self.source = make_source(source_of(self.path, source), layout)

    @cached_property
    def inventory(self) -> Inventory:
        """What was found; raises as ``Source.discover`` does, and a ``DataError`` for nothing."""
        found = self.source.discover(self.path)
        if not found.samples and not found.refused:
            raise DataError(f"no recordings in {self.path}: looked for {found.looked_for or 'those of its source'}")
        return found

    def where(self, found: Sample | Refused) -> str:
        """Return where a sample is, for people: the file, and in archives the member."""
        if isinstance(found, Sample) and not found.member and self.path.is_file():
            return str(self.path)
        root = self.path
        if root.is_file():
            root = root.parent
        name = found.where if isinstance(found, Sample) else found.path
        return str(root / name)

    def find(self, name: str | None, *, by: str = "") -> tuple[Sample, list[str]]:
        """Return a sample by name, and where second copies of it are; the only one without a name.

        Args:
            name: of the sample.
            by: how a name is given, for the message.

        Raises:
            ConfigError: no name, and there are many samples.
            BadRecording: it is there, but cannot be read.
            UnknownNameError: no such sample.
        """
        found = self.inventory
        if name is None and len({sample.name for sample in found.samples}) > 1:
            first = found.samples[0].name
            raise ConfigError(f"{self.path} holds many recordings: name one{by}, for example {first}")
        if name is None and found.samples:
            name = found.samples[0].name
        copies = [sample for sample in found.samples if sample.name == name]
        if copies:
            return copies[0], [sample.where for sample in copies[1:]]
        for refused in found.refused:
            if name is None or refused.concerns(name):
                path = ascii(refused.path)[1:-1]
                raise BadRecording(refused.code, f"{path} is not read: {refused.message}")
        close = nearest(name or "", [sample.name for sample in found.samples])
        raise UnknownNameError(
            f"no recording '{name}' in {self.path}: expected one of {len(found.samples)} names, "
            f"from {found.looked_for or 'this source'}{close}"
        )

    def read(self, sample: Sample) -> bytes:
        """Return the bytes of one sample; a ``BadRecording`` if they cannot be read."""
        with closing(self.source.reader(self.path)) as reader:
            return bytes(reader.read(sample))

    def parse(
        self, data: bytes, *, strict: bool = False, max_range: float = MAX_RANGE, unit: str | None = None
    ) -> Recording | Clip:
        """Parse the bytes of one sample; see ``parse_sample``. ``unit`` is a key of ``UNITS``."""
        scale = UNITS[unit or "m"]
        return parse_sample(self.source, data, strict=strict, max_range=max_range, scale=scale)

    def each(self) -> Iterator[tuple[Sample, SampleReader]]:
        """Yield all samples, with one reader for all of them."""
        with closing(self.source.reader(self.path)) as reader:
            for sample in self.inventory.samples:
                yield sample, reader


class GrowingFile:
    """Reads the frames of a ``.skeleton`` file that grows, each once, by the usual grammar.

    The frame count in line 1 is not used: while a file grows it can only be a guess, and a writer
    may correct it at the end. A file that is not there is waited for; one that is cut or replaced
    is read from the beginning. Each of these is logged.

    Args:
        path: the file.
        parse: reads a whole recording, as ``read_skeleton`` does.

    Attributes:
        frames: read so far.
        restarts: how often reading began anew.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], Recording]) -> None:
        self.path, self._parse = path, parse
        self.restarts, self._missing = 0, False
        self._begin()

    def _begin(self) -> None:
        self.frames = self._lines = self._offset = self._body = 0
        self._seen: os.stat_result | None = None
        self._head, self._pending = b"", bytearray()

    def read(self) -> Recording | None:
        """Return the whole frames that are new, numbered from 0; None if there is none."""
        self._pending += self._new_bytes()
        if not self._body and not self._read_first_line():
            return None
        ends = [match.end() for match in _LINE_END.finditer(self._pending)]
        frames = line = 0
        while line < len(ends):
            start = ends[line - 1] if line else 0
            count = self._pending[start : ends[line]].strip()
            if not self._pending[start:].strip():
                break
            if not count.isdigit() or len(count) > 3 or int(count) > MAX_BODIES:
                if not frames:
                    self._refuse(b"1\n" + self._pending)
                break
            size = 1 + int(count) * (JOINTS + 2)
            if line + size > len(ends):
                break
            line, frames = line + size, frames + 1
        if not frames:
            if len(self._pending) - (ends[-1] if ends else 0) > MAX_LINE:
                self._refuse(b"1\n" + self._pending)
            return None
        recording = self._checked(b"%d\n" % frames + self._pending[: ends[line - 1]])
        del self._pending[: ends[line - 1]]
        self.frames, self._lines = self.frames + frames, self._lines + line
        return recording

    def finish(self) -> Recording | None:
        """Return the last frame if all of it is there but its line end."""
        if not self._pending.strip():
            return None
        try:
            self._pending += b"\n"
            recording = self.read()
        except BadRecording:
            recording = None
        if self._pending.strip():
            logger.info(f"{self.path}: frame {self.frames + 1} is incomplete, and left out")
        return recording

    def _new_bytes(self) -> bytes:
        try:
            # A pipe would keep us waiting where it is opened.
            with open(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                now = os.fstat(file.fileno())
                if not stat.S_ISREG(now.st_mode):
                    raise IsADirectoryError
                self._missing = False
                if changed := self._change(file.fileno(), now):
                    self._restart(f"{changed}: read from its beginning again")
                self._seen = now
                file.seek(self._offset)
                data = file.read(CHUNK)
        except FileNotFoundError:
            if self._seen is not None:
                self._restart("is gone: waiting for it to come back")
            elif not self._missing:
                logger.info(f"{self.path} is not there yet: waiting for it")
            self._missing = True
            return b""
        except IsADirectoryError:
            raise ConfigError(f"{self.path}: expected a regular file to follow: name a .skeleton file") from None
        self._offset += len(data)
        if len(self._head) < HEAD:
            self._head += data[: HEAD - len(self._head)]
        return data

    def _change(self, file: int, now: os.stat_result) -> str:
        """Return how the file is another one than before; empty if it has grown at most."""
        before = self._seen
        if before is None:
            return ""
        if (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino):
            return "was replaced"
        if (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns):
            return ""
        if now.st_size < self._offset:
            return "was cut"
        # Line 1 may change: a writer knows the frame count only at the end.
        rest = self._head[self._body :]
        return "was written anew" if os.pread(file, len(rest), self._body) != rest else ""

    def _restart(self, why: str) -> None:
        logger.info(f"{self.path} {why}")
        self._begin()
        self.restarts += 1

    def _read_first_line(self) -> bool:
        """Drop line 1 from what is pending once all of it is there, and return whether it was."""
        end = _LINE_END.search(self._pending)
        if end is None:
            if len(self._pending) > MAX_LINE:
                self._refuse(bytes(self._pending))
            return False
        if not self._pending[: end.end()].removeprefix(b"\xef\xbb\xbf").strip().isdigit():
            self._refuse(bytes(self._pending))
        self._body = end.end()
        del self._pending[: self._body]
        return True

    def _checked(self, text: bytes | bytearray) -> Recording:
        try:
            return self._parse(bytes(text))
        except BadRecording as error:
            # Line 1 of the text stands for that of the file.
            if error.line > 1:
                error.line += self._lines
            error.path = str(self.path)
            raise

    def _refuse(self, text: bytes | bytearray) -> None:
        """Raise the error of a text that the grammar does not know."""
        self._checked(text)
        error = BadRecording("structure", f"expected whole frames after frame {self.frames}, found something else")
        error.path = str(self.path)
        raise error
