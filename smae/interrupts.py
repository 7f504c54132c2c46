"""How Ctrl-C and SIGTERM reach the program: as a KeyboardInterrupt, once libraries that are at work can bear one."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from types import FrameType
from typing import Any

from smae.errors import SmaeError

_depth = 0
_waiting: KeyboardInterrupt | None = None
_AGAIN = 0.02
"""Seconds until a signal that came where nothing may be raised is sent again."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


def signal_of(error: KeyboardInterrupt) -> int:
    """Return the number of the signal that an interrupt came from."""
    return signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Raise ``Terminated`` at SIGTERM during the block, and both interrupts only where libraries can bear them.

    Signals that the program handles itself, or ignores, are left to it.

    Raises:
        KeyboardInterrupt: a signal came, also where a library that it fell into made an error of its own of it.
    """
    plain: dict[signal.Signals, Any] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    handled = sys.exception()
    mine = threading.current_thread() is threading.main_thread()
    taken = [number for number, handler in plain.items() if mine and signal.getsignal(number) is handler]
    dropped = sys.unraisablehook
    for number in taken:
        signal.signal(number, _handle)
    if taken:
        sys.unraisablehook = lambda told: _send_again(told.exc_value) or dropped(told)
    try:
        yield
    except (SmaeError, OSError, MemoryError):
        raise
    except Exception as error:
        cause = _interrupt_behind(error, handled)
        if cause is None:
            raise
        raise cause from error
    finally:
        if taken:
            sys.unraisablehook = dropped
        for number in taken:
            signal.signal(number, plain[number])


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


def _handle(number: int, frame: FrameType | None) -> None:
    """Raise what a signal means, now or as soon as it can be borne; Python calls it in the main thread."""
    global _waiting
    error = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
    if _depth:
        _waiting = error
    elif _loads_compiled_module(frame):
        # Python code that such a module calls may raise nothing: the import would fail as if by a bug.
        _send_again(error)
    else:
        raise error


def _loads_compiled_module(frame: FrameType | None) -> bool:
    while frame is not None:
        loads = frame.f_code.co_name in ("create_module", "exec_module")
        if loads and isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            return True
        frame = frame.f_back
    return False


def _send_again(error: BaseException | None) -> bool:
    """Send the signal again that an interrupt came from, a moment later; return False for any other error."""
    if not isinstance(error, KeyboardInterrupt):
        return False
    number, main = signal_of(error), threading.main_thread().ident or 0

    def send() -> None:
        time.sleep(_AGAIN)
        signal.pthread_kill(main, number)  # to the main thread, so that it also ends what it waits for

    # Not a threading.Thread, whose locks the main thread may hold right now.
    _thread.start_new_thread(send, ())
    return True


def _interrupt_behind(error: BaseException | None, handled: BaseException | None) -> KeyboardInterrupt | None:
    """Return the interrupt that led to an error, but none that the caller was handling before.

    Raised among the steps of a lock, for example, an interrupt leaves "release unlocked lock" for its end.
    """
    passed: set[int] = set()  # errors may be each other's causes
    while error is not None and error is not handled and id(error) not in passed:
        if isinstance(error, KeyboardInterrupt):
            return error
        passed.add(id(error))
        error = error.__cause__ or error.__context__
    return None
