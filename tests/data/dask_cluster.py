"""A Dask scheduler and its workers for tests: real processes of this machine, on the loopback interface."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_SMAE = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "smae":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nothing())
from distributed.cli.dask_worker import main
main()
"""
"""A worker on whose machine smae is not installed."""


class Cluster:
    """A scheduler, and workers of one thread each that stay dead when they are killed.

    Attributes:
        address: of the scheduler.
        scheduler: its process.
        workers: their processes.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self._file, self._log = folder / "scheduler.json", folder / "cluster.log"
        self._environment = os.environ | {"PYTHONPATH": str(ROOT)} | settings
        self.workers: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start("-m", "distributed.cli.dask_scheduler", "--port", "0")
        deadline = time.monotonic() + 60
        while not self._file.exists():
            assert self.scheduler.poll() is None, "the scheduler ended"
            assert time.monotonic() < deadline, "the scheduler did not start"
            time.sleep(0.05)
        self.address: str = json.loads(self._file.read_text())["address"]

    def add_worker(self, *program: str) -> None:
        """Start one more worker; it announces itself to the scheduler when it is ready."""
        program = program or ("-m", "distributed.cli.dask_worker")
        self.workers.append(self._start(*program, "--nthreads", "1", "--no-nanny", "--local-directory", "."))

    def kill_worker(self, process: int) -> None:
        """Kill one of the workers, by its process id, as a lack of memory would."""
        (worker,) = [worker for worker in self.workers if worker.pid == process]
        worker.kill()
        worker.wait()
        self.workers.remove(worker)

    def close(self) -> None:
        """End all processes."""
        for process in [*self.workers, self.scheduler]:
            # A worker without its scheduler takes long to end by itself.
            process.kill()
            process.wait()

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        common = ("--scheduler-file", str(self._file), "--host", "127.0.0.1", "--no-dashboard")
        with open(self._log, "ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments, *common],
                env=self._environment,
                cwd=self._file.parent,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


@contextmanager
def cluster(folder: Path, *, workers: int, **settings: str) -> Iterator[Cluster]:
    """Run a cluster during the block; ``settings`` are Dask's, as environment variables."""
    made = Cluster(folder, **settings)
    try:
        for _ in range(workers):
            made.add_worker()
        # On a busy machine, workers take longer to start than the executor waits for them.
        if workers:
            with Client(made.address, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=60)
        yield made
    finally:
        made.close()
