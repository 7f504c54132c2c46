"""Executor on the machines of a Dask cluster; imported only when it is asked for.

The first part runs in the main process, the second inside Dask workers. A task that dies with its
worker is repeated elsewhere by Dask itself, up to the scheduler's ``allowed-failures``. A task that
raises is not repeated: it is a pure function and would raise again. Dask sends functions and
results as pickles, so anyone who reaches the scheduler can run code on every machine of the
cluster: it belongs on a private network, or behind ``tls://``.
"""

from __future__ import annotations

import logging
import os
import pickle
import pkgutil
import platform
import socket
import sys
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from distributed import CancelledError, Client, Future, wait
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker
from distributed.security import Security
from distributed.versions import VersionMismatchWarning

from smae import __version__, interrupts
from smae.errors import ConfigError, EnvironmentFault

Task = TypeVar("Task")
Result = TypeVar("Result")

ANSWER_SECONDS = 5.0
"""Time for the scheduler to answer, and to have a worker, before any work begins."""
NO_WORKER_SECONDS = 60.0
"""Time to wait for a new worker when the last one has left."""
ENDING_SECONDS = 60.0
"""Time that an interrupted run waits for tasks that workers have begun."""
CHECK_SECONDS = 0.5
"""Time between two looks for an interrupt."""
TASKS_PER_THREAD = 2
_PACKAGES = ("numpy", "numba", "numcodecs", "zarr", "distributed")


@dataclass(frozen=True)
class RunInfo:
    """What all tasks of a run share.

    Attributes:
        run: unique name of the run.
        make: pickled; returns the work function.
        versions: software versions that a worker must have.
        shared: absolute paths that a worker must see.
    """

    run: str
    make: bytes
    versions: Mapping[str, str]
    shared: Sequence[str]


class DaskExecutor:
    """Works on a Dask cluster.

    Args:
        scheduler: its address, for example ``tcp://10.0.0.1:8786``.
        shared: paths that every worker must see; relative ones start at the current folder.

    Raises:
        ConfigError: no scheduler, no worker, or one with other software or without a path.
    """

    def __init__(self, scheduler: str, *, shared: Sequence[Path] = ()) -> None:
        self.scheduler = scheduler
        self._shared = tuple(str(path.absolute()) for path in shared)
        with self._connected() as client:
            self._check_workers(client)

    def run(self, make: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]) -> Generator[Result, None, None]:
        """See ``Executor.run``; ``make`` is called once per worker thread."""
        info = RunInfo(uuid.uuid4().hex, pickle.dumps(make), software(), self._shared)
        with self._connected() as client:
            waiting: set[Future[Any]] = set()
            try:
                numbered = zip(count(), tasks, strict=False)
                while True:
                    with self._connection_errors():
                        threads = max(sum(client.nthreads().values()), 1)
                    for number, task in islice(numbered, max(TASKS_PER_THREAD * threads - len(waiting), 0)):
                        key = f"{info.run}-{number}"
                        waiting.add(client.submit(work, info, pickle.dumps(task), key=key, pure=False))
                    if not waiting:
                        return
                    done = self._first_done(client, waiting)
                    waiting -= done
                    for future in done:
                        with self._connection_errors():
                            result = future.result()
                        yield result
            finally:
                self._end(client, info, waiting)

    @contextmanager
    def _connected(self) -> Iterator[Client]:
        _check_address(self.scheduler)
        try:
            with warnings.catch_warnings():
                # ``_check_workers`` compares the versions that matter here.
                warnings.simplefilter("ignore", VersionMismatchWarning)
                client = Client(self.scheduler, timeout=ANSWER_SECONDS, set_as_default=False)
        except OSError as error:
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise ConfigError(
                f"--scheduler {self.scheduler}: no Dask scheduler answers there within {ANSWER_SECONDS:g} s "
                f"({reason}): start one with `dask scheduler`, and give the address that it prints"
            ) from error
        logger = logging.getLogger("distributed")
        level = logger.level
        # A lost connection is one line of our own; Dask's client would add tracebacks.
        logger.setLevel(logging.CRITICAL)
        try:
            yield client
        finally:
            with suppress(OSError, TimeoutError):
                client.close(timeout=ANSWER_SECONDS)
            logger.setLevel(level)

    def _check_workers(self, client: Client) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while not client.nthreads():
            interrupts.check()
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"--scheduler {self.scheduler}: it has no worker: start some with "
                    f"`dask worker {self.scheduler} --nthreads 1`, one per core"
                )
            time.sleep(0.05)
        try:
            # A worker without smae could not load a function of ours; the error would be a text.
            client.run(pkgutil.resolve_name, f"{check_worker.__module__}:__name__")
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"--scheduler {self.scheduler}: a worker has no module {error.name}: install "
                f"smae[dask] {__version__} where the workers run"
            ) from error
        client.run(check_worker, software(), self._shared)

    def _first_done(self, client: Client, waiting: set[Future[Any]]) -> set[Future[Any]]:
        """Wait until a task is done, as long as there are workers or new ones may come."""
        last_worker_seen = time.monotonic()
        while True:
            interrupts.check()
            with self._connection_errors():
                try:
                    with client.as_current():
                        return set(wait(waiting, timeout=CHECK_SECONDS, return_when="FIRST_COMPLETED").done)
                except TimeoutError:
                    workers = client.nthreads()
            if workers:
                last_worker_seen = time.monotonic()
            elif time.monotonic() - last_worker_seen >= NO_WORKER_SECONDS:
                raise EnvironmentFault(
                    f"{self.scheduler} has had no worker for {NO_WORKER_SECONDS:g} s: start "
                    "workers, and run the same command with --resume"
                )

    @contextmanager
    def _connection_errors(self) -> Iterator[None]:
        try:
            yield
        except KilledWorker as error:
            raise EnvironmentFault(
                f"every worker that was given task {error.task} died of it, most often by lack of memory: "
                "use fewer threads or processes per machine, and run the same command with --resume"
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise EnvironmentFault(
                f"the Dask scheduler {self.scheduler} was lost: start it and its workers again, "
                "and run the same command with --resume"
            ) from error

    def _end(self, client: Client, info: RunInfo, waiting: set[Future[Any]]) -> None:
        """Cancel waiting tasks, wait for begun ones: no worker may write without the lock."""
        # The connection is lost, or the interpreter is shutting down.
        if client.status != "running" or sys.is_finalizing():
            return
        with suppress(OSError, TimeoutError, CancelledError):
            client.cancel(list(waiting), force=True)
            deadline = time.monotonic() + ENDING_SECONDS
            while any(client.run(stop, info.run).values()) and time.monotonic() < deadline:
                time.sleep(0.05)


def _check_address(address: str) -> None:
    """Refuse an invalid address: a client created with one cannot even be closed."""
    parts = urlsplit(address)
    try:
        valid = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port and not parts.path
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"--scheduler {address}: expected tcp://HOST:PORT or tls://HOST:PORT")
    if parts.scheme == "tls" and Security().get_connection_args("client").get("ssl_context") is None:
        raise ConfigError(
            f"--scheduler {address}: no certificates for tls: name them as distributed.comm.tls in Dask's configuration"
        )


# From here on: inside Dask workers.


def software() -> dict[str, str]:
    """Return the versions that the bytes of a store, and messages between machines, depend on."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2]), "smae": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "none"
    return versions


def check_worker(versions: Mapping[str, str], shared: Sequence[str]) -> None:
    """Refuse a worker with other software or without the files: a ``ConfigError`` says why."""
    found = software()
    other = [
        f"{name} {found[name]} where {versions[name]} is needed" for name in versions if found[name] != versions[name]
    ]
    if other:
        raise ConfigError(
            f"{_here()} has {', '.join(other)}: install the same versions everywhere, or the "
            "store's bytes would depend on who did what"
        )
    for path in shared:
        if not os.path.exists(path):
            raise ConfigError(
                f"{_here()} does not see {path}: input and output must be on a file system that "
                "all workers share, under the same path"
            )


_lock = threading.Lock()
_functions: dict[int, tuple[str, Any]] = {}
"""Run and work function of each thread, for the last run that it worked for."""
_busy: Counter[str] = Counter()
_stopped: set[str] = set()


def work(info: RunInfo, task: bytes) -> Any:
    """Apply the run's work function to a pickled task.

    The function is made once per thread, since it may hold open files and buffers.
    """
    with _lock:
        if info.run in _stopped:
            # Cancelled on its way here; the result is not waited for.
            return None
        _busy[info.run] += 1
    try:
        return _function(info)(pickle.loads(task))
    finally:
        with _lock:
            _busy[info.run] -= 1


def stop(run: str) -> int:
    """Begin no more tasks of a run; return how many are under way; at 0, close its functions."""
    with _lock:
        _stopped.add(run)
        if _busy[run]:
            return _busy[run]
        del _busy[run]
        for thread in [thread for thread, (owner, _) in _functions.items() if owner == run]:
            _close(_functions.pop(thread)[1])
    return 0


def _function(info: RunInfo) -> Any:
    thread = threading.get_ident()
    with _lock:
        run, function = _functions.get(thread, ("", None))
    if run == info.run:
        return function
    _close(function)
    check_worker(info.versions, info.shared)
    try:
        # Pickled by our own client; a sender of anything else controls the cluster already.
        function = pickle.loads(info.make)()
    except ModuleNotFoundError as error:
        raise ConfigError(f"{_here()} has no module {error.name}: install there what is installed here") from error
    with _lock:
        _functions[thread] = (info.run, function)
    return function


def _here() -> str:
    return f"the Dask worker on {socket.gethostname()} (process {os.getpid()})"


def _close(function: object) -> None:
    close = getattr(function, "close", None)
    if close is not None:
        close()
