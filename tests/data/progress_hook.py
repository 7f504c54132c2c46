"""Lets tests act while a long function runs: at each update of its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from smae import progress


class _Hook:
    def __init__(self, action: Callable[[progress.Task], object]) -> None:
        self.action = action

    def begin(self, task: progress.Task) -> None:
        pass

    def update(self, task: progress.Task) -> None:
        self.action(task)

    def end(self, task: progress.Task) -> None:
        pass


@contextmanager
def on_update(action: Callable[[progress.Task], object]) -> Iterator[None]:
    """Call ``action`` with the task at each progress update during the block."""
    with progress.reporting(_Hook(action)):
        yield
