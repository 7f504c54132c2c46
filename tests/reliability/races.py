"""A program that lets several `prepare` race for one output, while readers open it again and again."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.reliability.forked_cli import Attempt, answer, smae, warm_up
from tests.reliability.stores import clear, digest, problem_of

READERS = 2
SPREAD = 0.1
"""Seconds in which the racers set out."""


def trials(raw: str, folder: str, numbers: list[int], options: list[str]) -> list[str]:
    """Return the problem of each race of 2 to 4 attempts."""
    warm_up()
    whole = Path(folder) / f"whole-{numbers[0]}.zarr"
    assert smae("prepare", "--raw", raw, "--out", whole, *options).code == 0
    expected = digest(whole)
    clear(whole)
    return [_race(number, Path(folder) / f"{number}.zarr", raw, options, expected) for number in numbers]


def _race(number: int, out: Path, raw: str, options: list[str], expected: str) -> str:
    dice = random.Random(number)
    command = ["prepare", "--raw", raw, "--out", str(out), *options]
    readers = [Reader(out) for _ in range(READERS)]
    # Opened after the readers' fork: the racers start when the writing end is closed everywhere.
    begin, go = os.pipe()
    racers = [Attempt(command, first=_start(begin, go, dice)) for _ in range(2 + number % 3)]
    os.close(go)
    os.close(begin)
    ended = [racer.wait() for racer in racers]
    codes = sorted(racer.code for racer in ended)
    problems = [reader.stop() for reader in readers]
    # A late attempt finds the finished store and refuses to replace it (2).
    if codes.count(0) != 1 or not set(codes) <= {0, 2, 6}:
        problems.append(f"exit codes {codes}: " + "; ".join(map(str, ended)))
    problems += [str(racer) for racer in ended if racer.code and len(racer.messages) != 1]
    problems.append(problem_of(out, expected=expected))
    clear(out)
    shown = "; ".join(problem for problem in problems if problem)
    return f"race {number}: {shown}" if shown else ""


def _start(begin: int, go: int, dice: random.Random) -> Callable[[], None]:
    """Return what holds a racer back until all are there, and a moment of its own longer."""
    wait = dice.uniform(0, SPREAD)

    def hold() -> None:
        os.close(go)
        os.read(begin, 1)
        time.sleep(wait)

    return hold


class Reader:
    """A child that opens ``out`` until it is stopped: it may find nothing, or a complete store."""

    def __init__(self, out: Path) -> None:
        self._result = os.memfd_create("reader")
        ask, self._stop = os.pipe()
        os.set_blocking(ask, False)
        self._pid = os.fork()
        if self._pid:
            os.close(ask)
            return
        try:
            os.close(self._stop)
            os.write(self._result, json.dumps(_look(out, ask)).encode())
        finally:
            os._exit(0)

    def stop(self) -> str:
        """Stop the reader; return what it saw that it should not have."""
        # It may have seen a problem and ended.
        with suppress(BrokenPipeError):
            os.write(self._stop, b"!")
        os.close(self._stop)
        os.waitpid(self._pid, 0)
        seen = os.pread(self._result, 2**16, 0)
        os.close(self._result)
        return str(json.loads(seen)) if seen else "a reader crashed"


def _look(out: Path, ask: int) -> str:
    from smae.data.store import open_store
    from smae.errors import DataError

    fingerprints: set[str] = set()
    while True:
        try:
            last = os.read(ask, 1) == b"!"
        except BlockingIOError:
            last = False
        try:
            store = open_store(out)
            store.rows(0, store.row_count)
            fingerprints.add(store.fingerprint)
        except DataError as error:
            if fingerprints or not str(error).startswith("expected a store at "):
                return f"a reader saw a part: {error}"
        if last:
            return "" if len(fingerprints) == 1 else f"a reader saw {len(fingerprints)} stores"


if __name__ == "__main__":
    answer(trials)
