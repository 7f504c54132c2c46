"""Runs a command with everything it starts: its processor time comes back to us, and its peak memory is sampled."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Peak:
    """What a command took at most, in bytes.

    Attributes:
        together: proportional set size of all its processes at one moment: pages that several share count once.
        largest: resident set size of its largest process, shared pages included.
        processes: most processes at one moment.
    """

    together: int
    largest: int
    processes: int


def run_whole(command: Sequence[str]) -> None:
    """Run a command and wait for all that it started, so that its processor time and theirs count as our children's.

    A fork server is not waited for by the process that started it; on Linux it becomes our child, and is then. Children
    that we had before are none of this command's: a fork server of our own never ends.

    Raises:
        CalledProcessError: it failed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = set(_children(os.getpid()))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    while left := set(_children(os.getpid())) - before:
        os.waitpid(left.pop(), 0)


def peak_of(command: Sequence[str], *, cwd: Path | None = None, every: float = 0.02) -> Peak:
    """Run a command and return its peak.

    Args:
        command: program and arguments.
        cwd: folder to run it in.
        every: seconds between two samples.

    Raises:
        CalledProcessError: it failed.
    """
    together = largest = processes = 0
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None:
            sizes = [size for size in map(_sizes, _tree(running.pid)) if size is not None]
            together = max(together, sum(pss for pss, _ in sizes))
            largest = max([largest, *(rss for _, rss in sizes)])
            processes = max(processes, len(sizes))
            time.sleep(every)
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, command)
    return Peak(together, largest, processes)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for child in _children(pid):
        yield from _tree(child)


def _children(pid: int) -> Iterator[int]:
    for task in (_PROC / str(pid) / "task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        yield from map(int, children)


def _sizes(pid: int) -> tuple[int, int] | None:
    """Return (PSS, RSS) in bytes, or None for a process that has just ended."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return None
    sizes = {key: int(rest.split()[0]) * 1024 for key, _, rest in (line.partition(":") for line in lines)}
    return sizes.get("Pss", 0), sizes.get("Rss", 0)
