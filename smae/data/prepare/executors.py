"""Executors: apply a function to tasks, in this process or in a pool of processes.

Pools never fork: Numba and several readers hang or crash in a forked child.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any, Protocol, TypeVar

from smae import interrupts
from smae.data.prepare import EXECUTORS
from smae.errors import ConfigError, EnvironmentFault, UnknownNameError
from smae.registry import nearest

Task = TypeVar("Task")
Result = TypeVar("Result")


class Executor(Protocol):
    """Applies a function to tasks."""

    def run(self, make: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]) -> Generator[Result, None, None]:
        """Yield ``make()(task)`` for each task, in any order.

        Only a few tasks are in flight at any time. Closing the iterator stops the work.

        Args:
            make: called once per worker, to set up what the function keeps between tasks; ``make``,
                tasks and results must be picklable.
            tasks: consumed only as needed.

        Raises:
            Interrupted: a signal arrived.
        """


class InlineExecutor:
    """Works in this process."""

    def run(self, make: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]) -> Generator[Result, None, None]:
        work = make()
        try:
            for task in tasks:
                interrupts.check()
                yield work(task)
        finally:
            _close(work)


class ProcessExecutor:
    """Works in ``workers`` processes of this machine."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, make: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]) -> Generator[Result, None, None]:
        """See ``Executor.run``; in the order of tasks. A killed worker: an ``EnvironmentFault``."""
        pool = ProcessPoolExecutor(self.workers, mp_context=_context(), initializer=_start, initargs=(make,))
        waiting: deque[Future[Any]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(_work, task))
                # One more than the workers hold: they stay busy while the caller handles a result.
                if len(waiting) > 2 * self.workers:
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        except (BrokenProcessPool, EOFError, ConnectionError) as error:
            raise EnvironmentFault(
                "a worker process died, most often by lack of memory: use fewer --workers and run again with --resume"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def make_executor(
    name: str, *, workers: int | None, tasks: int, scheduler: str | None = None, shared: Sequence[Path] = ()
) -> Executor:
    """Return the executor called ``name``.

    Args:
        name: one of ``EXECUTORS``.
        workers: number of processes; None for one per usable core.
        tasks: number of tasks; one worker, or one task, needs no pool.
        scheduler: address of the Dask scheduler, for ``dask``.
        shared: paths that all machines must see, for ``dask``.

    Raises:
        UnknownNameError: no such executor.
        ConfigError: fewer than one worker, or no usable scheduler and workers at that address.
    """
    if name not in EXECUTORS:
        raise UnknownNameError(
            f"unknown executor '{name}': expected one of {', '.join(EXECUTORS)}{nearest(name, EXECUTORS)}"
        )
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers}: expected at least 1")
    if name == "dask":
        return _dask(scheduler, workers=workers, shared=shared)
    if scheduler is not None:
        raise ConfigError(f"--scheduler {scheduler}: only for --executor dask")
    count = min(workers or usable_cores(), tasks)
    if name == "processes" and count > 1:
        return ProcessExecutor(count)
    return InlineExecutor()


def warm_up(name: str, *, workers: int | None) -> None:
    """Start to load kernels for the workers, in the background, while the plan is made."""
    if name == "processes" and sys.platform == "linux" and (workers or usable_cores()) > 1:
        _context()
        ensure_running()


def collect_rarely() -> None:
    """Let this process look for reference cycles rarely, and not among the objects that it has now.

    Imports, a plan and thousands of outcomes are many objects and next to no cycles: looking for them took a fifth of
    the start-up (measured).
    """
    gc.freeze()
    gc.set_threshold(100_000)


def _dask(scheduler: str | None, *, workers: int | None, shared: Sequence[Path]) -> Executor:
    if scheduler is None:
        raise ConfigError("--executor dask needs the address of its scheduler: --scheduler tcp://HOST:PORT")
    if workers is not None:
        raise ConfigError(f"--workers {workers}: with --executor dask, the workers are those of the scheduler")
    try:
        from smae.data.prepare.dask import DaskExecutor
    except ImportError as error:
        raise ConfigError(f"--executor dask needs Dask ({error}): pip install 'smae[dask]'") from error
    return DaskExecutor(scheduler, shared=shared)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _context() -> Any:
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # The server imports the kernels once; every worker then starts with them.
    context.set_forkserver_preload(
        ["smae.data.prepare.worker", "smae.data.prepare.fast_path", "smae.data.clean.cleaning"]
    )
    return context


_current: Callable[[Any], Any] | None = None


def _start(make: Callable[[], Callable[[Any], Any]]) -> None:
    """Set up a worker process: it ignores Ctrl-C and exits when the parent dies."""
    global _current
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    collect_rarely()
    threading.Thread(target=_exit_with, args=(parent.sentinel,), daemon=True).start()
    _current = make()


def _exit_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _result(future: Future[Any]) -> Any:
    while not wait_for([future], timeout=0.1).done:
        interrupts.check()
    return future.result()


def _work(task: Any) -> Any:
    assert _current is not None, "_start ran before"
    return _current(task)


def _close(work: object) -> None:
    close = getattr(work, "close", None)
    if close is not None:
        close()
