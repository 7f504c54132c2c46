"""Runs the `smae` command in forked children, for programs that make hundreds of attempts: each starts in milliseconds.

A fork is only safe while there is one thread, so such a program is a process of its own (``in_programs``) and does all
its work on stores in children.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smae.data.prepare import plan

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 2
"""Programs that run at the same time."""
HANGS = 60
"""Seconds after which an attempt counts as hanging: it prints its stacks and ends with exit code 1."""


def environment() -> dict[str, str]:
    """Return the environment of a program that imports the repository it stands in."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(":")}


def in_programs(module: str, jobs: Sequence[dict[str, Any]]) -> list[Any]:
    """Run ``python -m module`` with each job as JSON, two at a time; return what each printed, from JSON."""

    def run(job: dict[str, Any]) -> Any:
        command = [sys.executable, "-m", module, json.dumps(job, default=str)]
        done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, cwd=ROOT, check=True)
        return json.loads(done.stdout)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, jobs))


def shares(count: int) -> list[list[int]]:
    """Return the numbers from 0 to ``count`` - 1, split between the programs that run at once."""
    return [part for part in (list(range(start, count, AT_ONCE)) for start in range(AT_ONCE)) if part]


def answer(work: Callable[..., Any]) -> None:
    """Main function of a program for ``in_programs``: call ``work`` with the job and print its result as JSON."""
    print(json.dumps(work(**json.loads(sys.argv[1]))))


def small_tasks(samples: int = 3) -> None:
    """Cut plans into tasks of a few samples, so that small corpora have several tasks and shards."""
    assert isinstance(plan.TASK_SAMPLES, int)
    plan.TASK_SAMPLES = samples


def warm_up() -> None:
    """Import what attempts need and load the kernels, so that attempts are fast; make tasks small."""
    small_tasks()
    import rich.progress
    import rich.table  # noqa: F401

    import smae_cli.main
    import smae_cli.prepare
    import smae_cli.store  # noqa: F401
    from smae.data.clean.cleaning import clean, resample
    from smae.data.prepare import run as prepare  # noqa: F401
    from smae.data.raw.fast_parser import read_skeleton
    from smae.data.raw.source import SOURCES
    from smae.data.store import verify  # noqa: F401
    from tests.data.raw_folder import skeleton

    clip = clean(read_skeleton(skeleton()))
    resample(clip.joints, 5)
    SOURCES.get("ntu")


SECONDS = 5.0
"""Time to stop after a signal, and time to refuse a hostile file, on an idle machine."""


def too_slow(seconds: float) -> str:
    """Return ``seconds`` as text if they are more than ``SECONDS``; a busy machine gets more."""
    if seconds <= SECONDS:
        return ""
    wall, own = time.perf_counter(), time.process_time()
    while time.process_time() - own < 0.5:
        pass
    busy = (time.perf_counter() - wall) / 0.5
    return f"{seconds:.1f} s" if seconds > SECONDS * busy else ""


@dataclass(frozen=True)
class Ended:
    """The end of an attempt.

    Attributes:
        code: exit code; minus the signal's number where one killed it.
        out, err: standard output and standard error.
        seconds: duration.
        peak: largest memory of the process, bytes.
    """

    code: int
    out: str
    err: str
    seconds: float
    peak: int

    @property
    def messages(self) -> list[str]:
        """The lines on standard error that are neither progress nor blank."""
        lines = self.err.splitlines()
        return [line for line in lines if line.strip() and not line.startswith(("prepare: ", "export: "))]

    def __str__(self) -> str:
        return f"exit {self.code}: {' | '.join([*self.messages, *self.out.splitlines()])[:1500]!r}"


class Attempt:
    """`smae ARGUMENTS` in a forked child, begun at once.

    Args:
        arguments: of the command line.
        first: done in the child before the command.
    """

    def __init__(self, arguments: Iterable[object], *, first: Callable[[], object] | None = None) -> None:
        self._out, self._err = os.memfd_create("out"), os.memfd_create("err")
        self.began = time.monotonic()
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            os.dup2(self._out, 1)
            os.dup2(self._err, 2)
            # Started in the background of a shell, a program inherits a SIGINT that is ignored.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            faulthandler.dump_traceback_later(HANGS, exit=True, file=2)
            if first is not None:
                first()
            from smae_cli.main import run

            code = run([str(argument) for argument in arguments])
            sys.stdout.flush()
            sys.stderr.flush()
        except KeyboardInterrupt:
            code = 128 + signal.SIGINT  # before or after the command
        finally:
            os._exit(code)

    def send(self, number: int) -> None:
        """Send the child a signal; nothing happens if it has ended."""
        os.kill(self.pid, number)

    def wait(self) -> Ended:
        """Wait for the child's end."""
        _, status, usage = os.wait4(self.pid, 0)
        seconds = time.monotonic() - self.began
        texts = []
        for handle in (self._out, self._err):
            size = os.lseek(handle, 0, os.SEEK_END)
            texts.append(os.pread(handle, size, 0).decode(errors="replace"))
            os.close(handle)
        return Ended(os.waitstatus_to_exitcode(status), texts[0], texts[1], seconds, _peak(usage))


def smae(*arguments: object, first: Callable[[], object] | None = None) -> Ended:
    """Run `smae ARGUMENTS` in a forked child to its end."""
    return Attempt(arguments, first=first).wait()


def _peak(usage: resource.struct_rusage) -> int:
    # Linux counts in KiB.
    return usage.ru_maxrss * 1024
