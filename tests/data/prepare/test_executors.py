from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smae.data.prepare.executors import InlineExecutor, ProcessExecutor, make_executor
from smae.errors import ConfigError, EnvironmentFault, UnknownNameError

ROOT = Path(__file__).resolve().parents[2]


def squares() -> Callable[[int], int]:
    return square


def square(number: int) -> int:
    return number * number


def process_ids() -> Callable[[int], int]:
    return process_id


def process_id(number: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def deaths() -> Callable[[int], int]:
    return die


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_the_order_of_the_tasks_and_tasks_are_taken_as_needed() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(30):
            taken.append(number)
            yield number

    results = ProcessExecutor(2).run(squares, tasks())
    first = next(results)
    assert len(taken) <= 6
    assert [first, *results] == [number * number for number in range(30)]
    assert list(InlineExecutor().run(squares, range(5))) == [0, 1, 4, 9, 16]


def test_a_worker_that_is_killed_is_an_environment_fault() -> None:
    with pytest.raises(EnvironmentFault, match="use fewer --workers and run again with --resume"):
        list(ProcessExecutor(2).run(deaths, range(4)))


def test_workers_leave_when_their_parent_is_killed() -> None:
    script = (
        "import os, signal\n"
        "from smae.data.prepare.executors import ProcessExecutor\n"
        "from tests.data.prepare.test_executors import process_ids\n"
        "if __name__ == '__main__':\n"
        "    results = ProcessExecutor(2).run(process_ids, range(1000))\n"
        "    print(*{next(results) for _ in range(12)}, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = {"PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", script], env=os.environ | path, stdout=subprocess.PIPE, timeout=60)
    assert run.returncode == -signal.SIGKILL
    workers = [int(text) for text in run.stdout.split()]
    assert workers
    deadline = time.monotonic() + 60
    while any(map(lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [worker for worker in workers if lives(worker)] == []


def lives(process: int) -> bool:
    """Whether a process runs; one that has ended but was not yet collected by its new parent does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def test_the_choice_of_an_executor() -> None:
    assert isinstance(make_executor("processes", workers=4, tasks=9), ProcessExecutor)
    assert isinstance(make_executor("processes", workers=1, tasks=9), InlineExecutor)
    assert isinstance(make_executor("processes", workers=4, tasks=1), InlineExecutor)
    assert isinstance(make_executor("inline", workers=4, tasks=9), InlineExecutor)
    with pytest.raises(UnknownNameError, match="did you mean 'processes'"):
        make_executor("process", workers=None, tasks=1)
    with pytest.raises(ConfigError, match="--workers 0"):
        make_executor("processes", workers=0, tasks=1)
