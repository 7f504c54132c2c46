"""Signals set a flag; the step under way ends first. A second signal of the same kind stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class StopFlag:
    """Raised by SIGINT or SIGTERM while used as a context.

    Attributes:
        signal: number of the signal that came, 0 before.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopFlag:
        # Only the main thread may install handlers; in another one the flag simply stays down.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._raise)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.signal == number:
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
        self.signal = number
