"""Memory that one raw file after another is read into, and parsed in where it lies."""

from __future__ import annotations

import mmap


class TextMemory(mmap.mmap):
    """Memory with room behind the text, so that kernels may read on past its end; views of it begin at its start.

    Aligned to a page: the kernel copies a file several times slower to a place that is not aligned (measured).

    Args:
        size: bytes of text; ``SLACK`` more are there.
    """

    SLACK = 1024

    def __new__(cls, size: int) -> TextMemory:
        """Map anonymous memory, of this process alone: left to itself, a forked child would write into it too."""
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
        return super().__new__(cls, -1, size + cls.SLACK, **private)

    @property
    def room(self) -> int:
        """Bytes of text that fit."""
        return len(self) - self.SLACK
