"""A program that reads a run while it is trained, evaluates one run twice at once, and reads a store that is replaced.

Each command ends right, or in one line that says what to do; no sound checkpoint is passed over as damaged.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from tests.reliability.forked_cli import Attempt, Ended, answer, smae
from tests.reliability.lies import made
from tests.reliability.runs import command, warm_up_training
from tests.reliability.stores import in_memory

QUICK = ("--set", "linear.epochs=2", "--protocol", "xsub", "--device", "cpu")


def problem_of(ended: Ended, *, codes: tuple[int, ...]) -> str:
    """Return what is wrong with how a reader ended."""
    lines = [line for line in ended.messages if line.startswith("smae: ")]
    if ended.code not in codes or "Traceback" in ended.err or "damaged" in ended.err:
        return str(ended)
    return "" if len(lines) == (ended.code != 0) else f"no line, or several: {ended}"


def _until(writer: Attempt, read: Callable[[int], list[str]], *, most: int) -> list[str]:
    """Return the problems of readers that start one after the other while a writer is at work; then end it."""
    problems: list[str] = []
    number = 0
    while number < most and os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        problems += read(number)
        number += 1
    writer.send(signal.SIGTERM)
    ended = writer.wait()
    return [*problems, "" if ended.code in (0, 143) else f"the writer: {ended}"]


def beside_training(folder: Path, whole: dict[str, Path], most: int) -> list[str]:
    """Read a run that saves a checkpoint every few steps."""
    run, out = folder / "runs" / "trained", folder / "out"
    out.mkdir()
    store = whole["store"]
    words: dict[str, list[object]] = {
        "export-encoder": ["export-encoder", run, "--out", out / "encoder", "--overwrite"],
        "status": ["status", folder],
        "report": ["report", run, "--out", out / "page.html", "--device", "cpu"],
        "view": ["view", store, "--run", run, "--out", out / "view.html"],
        "newest": ["export-encoder", "--out", out / "newest", "--overwrite"],
    }

    def read(number: int) -> list[str]:
        kind = list(words)[number % len(words)]
        # Before its first checkpoint a run has no encoder.
        codes = (0,) if (run / "checkpoints").is_dir() and any((run / "checkpoints").glob("step-*")) else (0, 4)
        ended = smae(*words[kind], first=lambda: os.chdir(folder))
        problem = problem_of(ended, codes=codes)
        return [problem and f"{kind} beside training: {problem}"]

    return _until(Attempt(command(store, run, epochs=10_000)), read, most=most)


def twice_at_once(folder: Path, whole: dict[str, Path], most: int) -> list[str]:
    """Evaluate one run twice at the same time; afterwards its results fit one another."""
    problems = []
    for number in range(most):
        run = folder / f"twice-{number}"
        shutil.copytree(whole["run"], run)
        modes = ["--probe", "linear", "--probe", "knn"]
        both = [Attempt(["eval", "--run", run, *QUICK, *modes, "--seeds", str(1 + n)]) for n in range(2)]
        problems += [problem_of(attempt.wait(), codes=(0,)) for attempt in both]
        after = [
            ["report", run, "--out", folder / "page.html", "--device", "cpu"],
            ["ensemble", run, whole["run"], "--protocol", "xsub", "--probe", "linear"],
        ]
        problems += [problem_of(smae(*words), codes=(0,)) for words in after]
        left = [path.name for path in run.rglob("*.partial")]
        problems.append(f"left behind: {left}" if left else "")
        shutil.rmtree(run)
    return problems


def same_output(folder: Path, whole: dict[str, Path], most: int) -> list[str]:
    """Write one output from two commands at the same time: both end, or one asks to wait for the other."""
    problems = []
    for number in range(most):
        to = folder / f"encoder-{number}"
        both = [Attempt(["export-encoder", whole["run"], "--out", to, "--overwrite"]) for _ in range(2)]
        problems += [problem_of(attempt.wait(), codes=(0, 6)) for attempt in both]
        problems.append(problem_of(smae("embed", whole["store"], "--encoder", to, "--out", to / "f.npz"), codes=(2,)))
        problems.append(problem_of(smae("embed", whole["store"], "--encoder", to, "--out", f"{to}.npz"), codes=(0,)))
        shutil.rmtree(to)
    return problems


def beside_replacing(folder: Path, whole: dict[str, Path], most: int) -> list[str]:
    """Read a store that is replaced again and again."""
    store, raw = folder / "replaced.zarr", whole["store"].parent / "raw"
    prepare = ["prepare", "--raw", raw, "--out", store, "--executor", "inline", "--overwrite"]
    assert smae(*prepare).code == 0
    problems = []
    readers: list[list[object]] = [
        ["info", store, "--json"],
        ["verify", store],
        ["export", store, "--format", "hdf5", "--out", folder / "a.h5", "--overwrite"],
        ["embed", store, "--encoder", whole["encoder"], "--out", folder / "a.npz", "--overwrite"],
        ["view", store, "--out", folder / "a.html"],
    ]
    for number in range(most):
        writer = Attempt([*prepare, "--frames", 10 + number % 5])
        while os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            for words in readers[number % len(readers) :][:2]:
                ended = smae(*words)
                # A store that goes while it is read: the message says to start again.
                problem = "" if ended.code in (0, 4) and "Traceback" not in ended.err else str(ended)
                problems.append(problem and f"{words[0]} beside prepare: {problem}")
        ended = writer.wait()
        problems.append("" if ended.code == 0 else f"the writer: {ended}")
    return problems


def trials(how: str, most: int) -> list[str]:
    """Make the trials of one kind."""
    with in_memory() as folder:
        warm_up_training(folder)
        whole = made(folder)
        kinds = {one.__name__: one for one in (beside_training, twice_at_once, same_output, beside_replacing)}
        return kinds[how](folder, whole, most)


if __name__ == "__main__":
    answer(trials)
