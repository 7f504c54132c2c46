"""Work functions for the tests of the Dask executor, in a module that its workers can import."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from smae import errors


class Square:
    """Squares numbers; returns also its process and the number of earlier instances there."""

    made = 0

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.number = seconds, Square.made
        Square.made += 1

    def __call__(self, number: int) -> tuple[int, int, int]:
        time.sleep(self.seconds)
        return number * number, os.getpid(), self.number


class Trace:
    """Creates a file for each task begun and one for each task done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, number: int) -> int:
        (self.folder / f"{number}.begun").touch()
        time.sleep(0.3)
        (self.folder / f"{number}.done").touch()
        return number

    def close(self) -> None:
        (self.folder / f"{os.getpid()}.closed").touch()


def raising(kind: str) -> Callable[[int], NoReturn]:
    def fail(number: int) -> NoReturn:
        if kind == "BadRecording":
            raise errors.BadRecording("fields", "expected 12 numbers, found 11", line=7)
        raise getattr(errors, kind, ZeroDivisionError)(f"task {number}")

    return fail


def deadly() -> Callable[[int], NoReturn]:
    def die(number: int) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError(f"task {number} outlived its process")

    return die
