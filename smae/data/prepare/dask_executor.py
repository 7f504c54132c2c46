"""Runs a function over tasks on the machines of a Dask cluster; imported only when asked for.

A task that dies with its worker is done again elsewhere by Dask itself, up to the scheduler's ``allowed-failures``. A
task that raises is not tried again: it is a pure function, and would raise again.
Dask sends functions and results as pickles, so whoever reaches the scheduler can run code on every machine of the
cluster: it belongs on a private network, or behind ``tls://``.
"""

from __future__ import annotations

import logging
import pickle
import pkgutil
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from distributed import CancelledError, Client, Future, wait
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker
from distributed.security import Security
from distributed.versions import VersionMismatchWarning

from smae._version import __version__
from smae.data.prepare.dask_worker import Order, check_worker, software, stop, work
from smae.errors import ConfigError, EnvironmentFault

Task = TypeVar("Task")
Result = TypeVar("Result")

ANSWER_SECONDS = 5.0
"""How long the scheduler may take to answer, and to have a worker, before anything is begun."""
DESERTED_SECONDS = 60.0
"""How long work waits for a new worker when the last one has left."""
ENDING_SECONDS = 60.0
"""How long an interrupted run waits for the tasks that its workers are in the middle of."""
TASKS_A_THREAD = 2


class DaskExecutor:
    """Computes on a Dask cluster.

    Args:
        scheduler: its address, for example ``tcp://10.0.0.1:8786``.
        shared: paths that every worker must see; relative ones are taken from the current folder.

    Raises:
        ConfigError: no scheduler there, no worker, a worker with other software, or one that does not see a path.
    """

    def __init__(self, scheduler: str, *, shared: Sequence[Path] = ()) -> None:
        self.scheduler = scheduler
        self._shared = tuple(str(path.absolute()) for path in shared)
        with self._connected() as client:
            self._check_workers(client)

    def run(self, make: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]) -> Generator[Result, None, None]:
        """See ``Executor.run``; ``make`` is called once in each thread that works.

        Raises:
            EnvironmentFault: the scheduler is gone, no worker is left, or a task went down with every worker it had.
        """
        order = Order(uuid.uuid4().hex, pickle.dumps(make), software(), self._shared)
        with self._connected() as client:
            waiting: set[Future[Any]] = set()
            try:
                numbered = zip(count(), tasks, strict=False)
                while True:
                    with self._lost_is_a_fault():
                        room = TASKS_A_THREAD * max(sum(client.nthreads().values()), 1) - len(waiting)
                    for number, task in islice(numbered, max(room, 0)):
                        waiting.add(
                            client.submit(work, order, pickle.dumps(task), key=f"{order.run}-{number}", pure=False)
                        )
                    if not waiting:
                        return
                    done = self._first_done(client, waiting)
                    waiting -= done
                    for future in done:
                        with self._lost_is_a_fault():
                            result = future.result()
                        yield result
            finally:
                self._end(client, order, waiting)

    @contextmanager
    def _connected(self) -> Iterator[Client]:
        """Hold a connection to the scheduler during the block."""
        _check_address(self.scheduler)
        try:
            with warnings.catch_warnings():
                # Said by ``_check_workers`` in our own words, for what matters here.
                warnings.simplefilter("ignore", VersionMismatchWarning)
                client = Client(self.scheduler, timeout=ANSWER_SECONDS, set_as_default=False)
        except OSError as error:
            raise ConfigError(
                f"--scheduler {self.scheduler}: no Dask scheduler answers there within {ANSWER_SECONDS:g} s "
                f"({_brief(error)}): start one with `dask scheduler`, and give the address that it prints"
            ) from error
        logger = logging.getLogger("distributed")
        level = logger.level
        # A lost connection is told by our own error, in one line; Dask's client would add tracebacks.
        logger.setLevel(logging.CRITICAL)
        try:
            yield client
        finally:
            with suppress(OSError, TimeoutError):
                client.close(timeout=ANSWER_SECONDS)
            logger.setLevel(level)

    def _check_workers(self, client: Client) -> None:
        try:
            client.wait_for_workers(1, timeout=ANSWER_SECONDS)
        except TimeoutError as error:
            raise ConfigError(
                f"--scheduler {self.scheduler}: it has no worker: start some with "
                f"`dask worker {self.scheduler} --nthreads 1`, one a core"
            ) from error
        try:
            # A function of our own would be lost on a worker without smae: all that came back would be a text.
            client.run(pkgutil.resolve_name, f"{check_worker.__module__}:__name__")
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"--scheduler {self.scheduler}: a worker has no module {error.name}: install smae[dask] "
                f"{__version__} where the workers run"
            ) from error
        client.run(check_worker, software(), self._shared)

    def _first_done(self, client: Client, waiting: set[Future[Any]]) -> set[Future[Any]]:
        """Wait until a task is done; as long as there are workers, or may be some again, there is hope."""
        deserted: float | None = None
        while True:
            with self._lost_is_a_fault():
                try:
                    with client.as_current():
                        return set(wait(waiting, timeout=ANSWER_SECONDS, return_when="FIRST_COMPLETED").done)
                except TimeoutError:
                    workers = client.nthreads()
            if workers:
                deserted = None
                continue
            deserted = deserted or time.monotonic()
            if time.monotonic() - deserted >= DESERTED_SECONDS:
                raise EnvironmentFault(
                    f"{self.scheduler} has had no worker for {DESERTED_SECONDS:g} s: start workers, and run the same "
                    "command with --resume"
                )

    @contextmanager
    def _lost_is_a_fault(self) -> Iterator[None]:
        try:
            yield
        except KilledWorker as error:
            raise EnvironmentFault(
                f"every worker that was given task {error.task} died of it, most often for want of memory: use fewer "
                "threads or processes a machine, and run the same command with --resume"
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise EnvironmentFault(
                f"the Dask scheduler {self.scheduler} was lost: start it and its workers again, and run the same "
                "command with --resume"
            ) from error

    def _end(self, client: Client, order: Order, waiting: set[Future[Any]]) -> None:
        """Call off what is left, and wait for what has begun: nobody may write once this run has let go of the lock."""
        if client.status != "running" or sys.is_finalizing():
            return  # lost, or the interpreter is ending: there is nobody to tell
        with suppress(OSError, TimeoutError, CancelledError):
            client.cancel(list(waiting), force=True)
            deadline = time.monotonic() + ENDING_SECONDS
            while any(client.run(stop, order.run).values()) and time.monotonic() < deadline:
                time.sleep(0.05)


def _check_address(address: str) -> None:
    """Refuse what is no address: a client made with one could not even be closed."""
    parts = urlsplit(address)
    try:
        sound = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port and not parts.path
    except ValueError:
        sound = False
    if not sound:
        raise ConfigError(f"--scheduler {address}: expected tcp://HOST:PORT or tls://HOST:PORT")
    if parts.scheme == "tls" and Security().get_connection_args("client").get("ssl_context") is None:
        raise ConfigError(
            f"--scheduler {address}: no certificates to talk tls with: name them as distributed.comm.tls of Dask's "
            "configuration"
        )


def _brief(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
