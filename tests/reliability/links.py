"""A program that runs commands on run folders and unfinished stores from elsewhere in which things are links.

Nothing outside the folder is changed, made or removed; a command does its work or refuses in a line.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.reliability.forked_cli import Ended, answer, smae
from tests.reliability.lies import made
from tests.reliability.runs import command, warm_up_training
from tests.reliability.stores import digest, in_memory

QUICK = ("--set", "linear.epochs=2", "--probe", "linear", "--protocol", "xsub", "--device", "cpu")
NEW = (
    "tensorboard", "wandb", "report.html", ".lock", ".run.json.partial", ".log.jsonl.partial",
    "checkpoints/.step-00000012.partial",
)  # fmt: skip
"""Names that a command may write, and that are not in a finished run."""
TARGETS = ("itself", "nothing", "pipe")


def names(run: Path) -> list[str]:
    """Return what is replaced by a link, one at a time: everything in a run, and what would be written."""
    return [*(path.relative_to(run).as_posix() for path in sorted(run.rglob("*"))), *NEW]


def place(run: Path, name: str, target: str, outside: Path) -> None:
    """Replace one name in a run by a link to a copy of what was there, to nothing, or to a pipe."""
    path, elsewhere = run / name, outside / "moved"
    path.parent.mkdir(parents=True, exist_ok=True)
    if target == "pipe":
        os.mkfifo(elsewhere)
    elif target == "itself" and path.exists():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, elsewhere)
    elif target == "itself":
        elsewhere.mkdir()
        (elsewhere / "letter.txt").write_text("mine")
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(elsewhere)


def commands(run: Path, trial: Path, store: Path) -> dict[str, list[object]]:
    """Return the commands that read or write a run."""
    raw = sorted((store.parent / "raw").iterdir())[0]
    return {
        "resume": [*command(store, run, epochs=3)],
        "eval": ["eval", "--run", run, *QUICK],
        "report": ["report", run, "--device", "cpu"],
        "status": ["status", run.parent],
        "export-encoder": ["export-encoder", run, "--out", trial / "encoder"],
        "predict": ["predict", raw, "--run", run, "--protocol", "xsub", "--probe", "linear", "--device", "cpu"],
    }


def state(outside: Path) -> dict[str, tuple[int, int]]:
    """Return mode and time of change of everything outside."""
    entries = [outside, *outside.rglob("*")]
    return {str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns) for path in entries}


def problem_of(ended: Ended) -> str:
    """Return what is wrong with an end."""
    fine = ended.code in (0, 2, 4, 5) and "Traceback" not in ended.err and ended.seconds < 30
    return "" if fine else f"exit {ended.code}, {ended.seconds:.0f} s: {ended.err[-300:]!r}"


def runs(first: int, step: int) -> list[str]:
    """Try every ``step``-th link in a run; return the problem of each command."""
    problems = []
    with in_memory() as folder:
        warm_up_training(folder)
        whole = made(folder)
        cases = [(name, target) for name in names(whole["run"]) for target in TARGETS]
        for name, target in cases[first::step]:
            for kind in commands(whole["run"], folder, whole["store"]):
                trial = folder / "trial"
                run, outside = trial / "runs" / "run", trial / "outside"
                shutil.copytree(whole["run"], run)
                outside.mkdir()
                place(run, name, target, outside)
                before = state(outside), target == "itself" and digest(outside)
                ended = smae(*commands(run, trial, whole["store"])[kind])
                problem = problem_of(ended)
                if before != (state(outside), target == "itself" and digest(outside)):
                    problem = f"something outside was changed, {ended}"
                problems.append(problem and f"{kind}, {name} -> {target}: {problem}")
                shutil.rmtree(trial)
    return problems


if __name__ == "__main__":
    answer(runs)
