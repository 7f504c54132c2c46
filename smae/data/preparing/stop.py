"""SIGTERM and Ctrl-C stop a preparation alike: everything is closed in order, and the work can be resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from smae.interrupts import interrupt


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Raise ``Terminated`` at SIGTERM during the block, and both interrupts only where libraries can bear them.

    Signals that the program handles itself, or ignores, are left to it.
    """
    plain: dict[signal.Signals, Any] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    mine = threading.current_thread() is threading.main_thread()
    taken = [number for number, handler in plain.items() if mine and signal.getsignal(number) is handler]
    for number in taken:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, plain[number])


def signal_of(error: KeyboardInterrupt) -> int:
    """Return the number of the signal that an interrupt came from."""
    return signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT


def _raise(number: int, frame: FrameType | None) -> None:
    interrupt(number, Terminated() if number == signal.SIGTERM else KeyboardInterrupt(), frame)
