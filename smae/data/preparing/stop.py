"""SIGTERM stops a preparation the way Ctrl-C does: everything is closed in order, and the work can be resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Raise ``Terminated`` at SIGTERM during the block, unless the program handles that signal itself."""
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def signal_of(error: KeyboardInterrupt) -> int:
    """Return the number of the signal that an interrupt came from."""
    return signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated
