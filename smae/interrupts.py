"""Ctrl-C and SIGTERM as a flag: a first signal asks for a stop, a second one ends at once.

Python may raise ``KeyboardInterrupt`` between any two instructions, also inside libraries that
cannot handle it. So long work runs in ``with deferred(...)``, where a signal only sets a flag, and
calls ``check()`` where it can stop: nothing is half-written there, all that is finished is kept.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from smae.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_pending = 0
"""Number of the signal that arrived; 0 if none did."""
_remedies: list[str] = []
"""What to do after an interrupt, of the blocks under way, outermost first."""


class SecondInterrupt(KeyboardInterrupt):
    """A second signal arrived before the first was answered.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


@contextmanager
def deferred(remedy: str = "") -> Iterator[None]:
    """Let SIGINT and SIGTERM set a flag during the block, for ``check`` and ``pending``.

    Blocks may nest; the outermost one installs the handlers and restores the earlier ones. Signals
    that the program handles itself or ignores are left alone, and so are other threads.

    Args:
        remedy: what to do after an interrupt ("run the same command with --resume").
    """
    global _pending
    _remedies.append(remedy)
    outermost = len(_remedies) == 1
    before = {}
    if outermost and threading.current_thread() is threading.main_thread():
        plain = (signal.SIG_DFL, signal.default_int_handler)
        before = {number: signal.getsignal(number) for number in _SIGNALS if signal.getsignal(number) in plain}
        for number in before:
            signal.signal(number, _handle)
    try:
        yield
    finally:
        _remedies.pop()
        for number, handler in before.items():
            signal.signal(number, handler)
        if outermost:
            _pending = 0


def pending() -> int:
    """Return the number of the signal that arrived, 0 if none did."""
    return _pending


def check() -> None:
    """Raise ``Interrupted`` if a signal arrived; long work calls this where it can stop."""
    if _pending:
        remedy = next((text for text in reversed(_remedies) if text), "")
        raise Interrupted(f"interrupted; {remedy}" if remedy else "interrupted", _pending)


def _handle(number: int, frame: FrameType | None) -> None:
    global _pending
    if _pending:
        # From here on a signal does what it does by default, even where this exception gets lost.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise SecondInterrupt(number)
    _pending = number
