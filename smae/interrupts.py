"""Interrupts that wait while a library is at work that cannot bear one: loading kernels, starting an event loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_depth = 0
_waiting: KeyboardInterrupt | None = None


def interrupt(error: KeyboardInterrupt) -> None:
    """Raise ``error``, now or at the end of the shelter that the main thread is in; what signal handlers call.

    Raises:
        KeyboardInterrupt: the error.
    """
    global _waiting
    if not _depth:
        raise error
    _waiting = error


@contextmanager
def sheltered() -> Iterator[None]:
    """Hold interrupts back during the block, which is short; one that came meanwhile is raised at its end."""
    global _depth, _waiting
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth and _waiting is not None:
            error, _waiting = _waiting, None
            raise error
