"""Runs a function over tasks, in this process or in a pool, and hands the results back.

Never by fork: Numba and several readers hang or crash in a forked child.
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
from smae.errors import ConfigError, EnvironmentFault, UnknownNameError
from smae.registry import nearest

Task = TypeVar("Task")
Result = TypeVar("Result")


class Executor(Protocol):
    """Somewhere to compute."""

    def run(self, make: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]) -> Generator[Result, None, None]:
        """Yield ``make()(task)`` for each task, in any order.

        At most a few results wait at any time, however many tasks there are. Closing the iterator stops the work.

        Args:
            make: called once wherever work is done, to set up what the function keeps between tasks; it and all tasks
                and results must be picklable.
            tasks: taken only as they are needed.
        """
        ...


class InlineExecutor:
    """Computes in this process, one task after another."""

    def run(self, make: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]) -> Generator[Result, None, None]:
        """See ``Executor.run``."""
        work = make()
        try:
            for task in tasks:
                interrupts.check()
                yield work(task)
        finally:
            _close(work)


class ProcessExecutor:
    """Computes in ``workers`` processes of this machine."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, make: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]) -> Generator[Result, None, None]:
        """See ``Executor.run``.

        Raises:
            EnvironmentFault: a worker was killed, usually for want of memory.
        """
        pool = ProcessPoolExecutor(self.workers, mp_context=_context(), initializer=_start, initargs=(make,))
        waiting: deque[Future[Any]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(_work, task))
                # One more than the workers can hold keeps them busy while a result is being written.
                if len(waiting) > 2 * self.workers:
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        except (BrokenProcessPool, EOFError, ConnectionError) as error:
            raise EnvironmentFault(
                "a worker process died, most often for want of memory: use fewer --workers and run again with --resume"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def make_executor(
    name: str, *, workers: int | None, tasks: int, scheduler: str | None = None, shared: Sequence[Path] = ()
) -> Executor:
    """Return the executor called ``name``.

    Args:
        name: ``processes``, ``inline`` or ``dask``.
        workers: processes; None for one a usable core.
        tasks: how many tasks there will be; one worker, or one task, needs no pool.
        scheduler: address of the Dask scheduler, for ``dask``.
        shared: paths that all machines must see, for ``dask``.

    Raises:
        UnknownNameError: none of the three.
        ConfigError: fewer than one worker, or no fit scheduler and workers at that address.
    """
    known = ("processes", "inline", "dask")
    if name not in known:
        raise UnknownNameError(f"unknown executor '{name}': expected one of {', '.join(known)}{nearest(name, known)}")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers}: expected at least 1")
    if name == "dask":
        return _dask(scheduler, workers=workers, shared=shared)
    if scheduler is not None:
        raise ConfigError(f"--scheduler {scheduler}: only for --executor dask")
    count = min(workers or usable_cores(), tasks)
    return ProcessExecutor(count) if name == "processes" and count > 1 else InlineExecutor()


def warm_up(name: str, *, workers: int | None) -> None:
    """Begin to load what workers need, in the background, while the plan is being made."""
    if name == "processes" and sys.platform == "linux" and (workers or usable_cores()) > 1:
        _context()
        ensure_running()


def _dask(scheduler: str | None, *, workers: int | None, shared: Sequence[Path]) -> Executor:
    if scheduler is None:
        raise ConfigError("--executor dask needs the address of its scheduler: --scheduler tcp://HOST:PORT")
    if workers is not None:
        raise ConfigError(f"--workers {workers}: with --executor dask, the workers are those of the scheduler")
    try:
        from smae.data.prepare.dask_executor import DaskExecutor
    except ImportError as error:
        raise ConfigError(f"--executor dask needs Dask ({error}): pip install 'smae[dask]'") from error
    return DaskExecutor(scheduler, shared=shared)


def usable_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _context() -> Any:
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # The server imports the kernels once; every worker then starts with them.
    context.set_forkserver_preload(
        ["smae.data.prepare.worker", "smae.data.raw.fast_parser", "smae.data.clean.cleaning"]
    )
    return context


_current: Callable[[Any], Any] | None = None


def _start(make: Callable[[], Callable[[Any], Any]]) -> None:
    """Set a worker process up: Ctrl-C is the parent's business, and without a parent there is nothing to do."""
    global _current
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    # Nothing in the work makes cycles, so looking for them among thousands of outcomes finds none.
    gc.freeze()
    gc.set_threshold(100_000)
    threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()
    _current = make()


def _leave_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _result(future: Future[Any]) -> Any:
    """Wait for a result, looking for an interrupt now and then."""
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
