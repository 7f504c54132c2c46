"""Interrupts that wait while something is at work that cannot bear one: loading kernels, or a compiled module."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from types import FrameType

_depth = 0
_waiting: KeyboardInterrupt | None = None
_AGAIN = 0.02
"""Seconds until a signal that fell into the loading of a compiled module is sent again."""


def interrupt(number: int, error: KeyboardInterrupt, frame: FrameType | None) -> None:
    """Raise ``error``, now or as soon as it can be borne; what signal handlers call.

    In a shelter it waits for the shelter's end. Where a compiled module is being loaded, the signal is sent again a
    moment later: Python code that such a module calls may raise nothing, or the import fails as if by a bug.

    Args:
        number: of the signal.
        error: what it means.
        frame: where the program was when the signal came.

    Raises:
        KeyboardInterrupt: the error.
    """
    global _waiting
    if _depth:
        _waiting = error
    elif _loads_compiled_module(frame):
        # Not a threading.Thread, whose locks the main thread may hold right now.
        _thread.start_new_thread(_send_again, (number,))
    else:
        raise error


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


def _loads_compiled_module(frame: FrameType | None) -> bool:
    while frame is not None:
        loads = frame.f_code.co_name in ("create_module", "exec_module")
        if loads and isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            return True
        frame = frame.f_back
    return False


def _send_again(number: int) -> None:
    time.sleep(_AGAIN)
    # To the main thread, so that it also ends what it waits for.
    signal.pthread_kill(threading.main_thread().ident or 0, number)
