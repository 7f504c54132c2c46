"""A `.skeleton` file while it is written: whole frames as they come, by the usual grammar."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from smae.data.raw.recording import Recording
from smae.data.raw.skeleton_parser import JOINTS, MAX_BODIES, MAX_LINE
from smae.errors import BadRecording, ConfigError

logger = logging.getLogger(__name__)

CHUNK = 2**20
"""Bytes that are read at a time: a long file is caught up with in steps of bounded memory."""
HEAD = 4096
"""Bytes after line 1 by which a file is known again."""
# A CR that is the last byte so far may be the first half of CRLF.
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")


class GrowingFile:
    """Reads the frames of a file that grows, each once.

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
