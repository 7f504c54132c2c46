"""A program that kills or stops `pretrain` and `eval` at random moments, lets them finish, and compares the outcome."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from tests.reliability.forked_cli import Attempt, Ended, answer, smae, too_slow
from tests.reliability.hostile_checkpoints import try_checkpoints
from tests.reliability.runs import command, difference, outcome, warm_up_models, warm_up_training
from tests.reliability.stores import clear

EPOCHS = 4
KINDS = {"kill": ["SIGKILL", "SIGKILL", "SIGTERM"], "stop": ["SIGINT", "SIGTERM"]}
"""Signals sent to runs; of those that are killed, some are first asked to stop."""


def trials(store: str, folder: str, seed: int, **rows: list[Any]) -> dict[str, Any]:
    """Make the trials of some rows; one process for several, since warming up takes longer than a few trials.

    Args:
        store: what is trained on.
        folder: where runs are written; empty again afterwards.
        seed: of all random moments.
        rows: ``kill``, ``stop`` and ``eval``: numbers of the trials; ``hostile``: names of checkpoints.

    Returns:
        the ``problems`` of each row's trials, and how many attempts were ``hit``.
    """
    problems: dict[str, list[str]] = {}
    if "hostile" in rows:
        warm_up_models()
        problems["hostile"] = try_checkpoints(store, Path(folder), rows.pop("hostile"))
    warm_up_training()
    whole = Path(folder) / "whole"
    # The first one is slower than those that follow.
    duration = min(_undisturbed(store, whole) for _ in range(2))
    expected, hit = outcome(whole), 0
    for row, numbers in rows.items():
        problems[row] = []
        if row == "eval":
            problems[row], times = _stop_eval(whole, numbers, seed)
            hit += times
        else:
            for number in numbers:
                problem, times = _trial(store, Path(folder), number, seed, row, expected, duration)
                problems[row].append(problem)
                hit += times
    shutil.rmtree(whole)
    return {"problems": problems, "hit": hit}


def _undisturbed(store: str, run: Path) -> float:
    """Make a run of which nothing was there, and return the seconds that it took."""
    clear(run)
    return _ended_well(smae(*command(store, run, epochs=EPOCHS))).seconds


def _ended_well(ended: Ended) -> Ended:
    assert ended.code == 0, ended
    return ended


def _trial(
    store: str, folder: Path, number: int, seed: int, row: str, expected: dict[str, Any], duration: float
) -> tuple[str, int]:
    """Disturb one run and let it finish; return what is wrong with it, and how many attempts were hit."""
    run, dice = folder / str(number), random.Random(f"{seed} {row} {number}")
    arguments = command(store, run, epochs=EPOCHS, workers=number % 3)
    problem, hit = _disturb(arguments, run, KINDS[row], dice, duration)
    ended = smae(*arguments)
    problem = problem or ("" if ended.code == 0 else f"resumed: {ended}") or difference(run, expected)
    clear(run)
    return problem and f"run {number}, {number % 3} workers: {problem}", hit


def _disturb(
    arguments: list[str], run: Path, kinds: list[str], dice: random.Random, duration: float
) -> tuple[str, int]:
    """Hit one to three attempts; return what went wrong, and how many were hit."""
    hit, goal = 0, dice.randint(1, 3)
    for _ in range(20):
        # The last attempt always gets a signal of the first kind.
        kind = signal.Signals[kinds[0] if hit == goal - 1 else dice.choice(kinds)]
        ended, late = _hit(arguments, kind, dice.uniform(0, duration))
        if ended.code == 0:
            # The work was done before the moment came, and faster than that which was measured.
            clear(run)
            hit, duration = 0, min(duration, ended.seconds)
            continue
        if problem := late or _wrong(ended, kind, run):
            return problem, hit
        hit += 1
        if hit == goal:
            return "", hit
    return "" if hit else "no attempt was hit", hit


def _hit(arguments: list[str], kind: signal.Signals, after: float) -> tuple[Ended, str]:
    """Send an attempt a signal; return its end, and what is wrong if that took too long."""
    attempt = Attempt(arguments)
    time.sleep(after)
    sent = time.monotonic()
    attempt.send(kind)
    ended = attempt.wait()
    late = too_slow(time.monotonic() - sent)
    return ended, late and f"{kind.name}: {late} from the signal to the end"


def _wrong(ended: Ended, kind: signal.Signals, run: Path) -> str:
    """Return what is wrong with how an attempt ended that a signal hit."""
    if kind == signal.SIGKILL:
        return "" if ended.code == -kind else str(ended)
    # Before the work begins (nothing is printed) and after its end, signals act as on any process.
    if ended.code == -kind and (not ended.err or ended.out):
        return ""
    if ended.code != 128 + kind or "Traceback" in ended.err:
        return str(ended)
    return _unsaved(ended, run)


def _unsaved(ended: Ended, run: Path) -> str:
    """Return whether a run that says after which step it stopped has no sound checkpoint of just that step."""
    from smae.errors import DataError
    from smae.train.checkpoint import load_checkpoint

    _, stopped, rest = ended.err.rpartition("stopped after step ")
    if not stopped:
        return ""
    step = int(rest.split()[0])
    try:
        found = load_checkpoint(run / "checkpoints" / f"step-{step:08d}").state["step"]
    except DataError as error:
        return f"stopped after step {step}, but {error}"
    return "" if found == step else f"stopped after step {step}, its checkpoint says {found}"


def _stop_eval(run: Path, numbers: list[int], seed: int) -> tuple[list[str], int]:
    """Ask `eval` to stop, once a number; at last, it must give what it gives undisturbed."""
    # What an attempt would spend half of its time on.
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401

    arguments = ["eval", "--run", str(run), "--device", "cpu", "--probe", "knn", "--probe", "linear"]
    duration = min(_ended_well(smae(*arguments, "--again")).seconds for _ in range(2))
    shutil.rmtree(run / "eval")
    _ended_well(smae(*arguments))
    results = run / "eval"
    expected, problems, hit = _results(results), list[str](), 0
    for number in numbers:
        dice = random.Random(f"{seed} {number}")
        kind = dice.choice([signal.SIGINT, signal.SIGTERM])
        shutil.rmtree(results)
        ended, problem = _hit(arguments, kind, dice.uniform(0, duration))
        if ended.code != 0:
            hit += 1
            problem = problem or _wrong(ended, kind, run)
            smae(*arguments)
        problem = problem or ("" if _results(results) == expected else "run again, it does not go on to the same")
        problems.append(problem and f"eval {number}: {problem}")
    ended = smae(*arguments)
    left = [name for name in os.listdir(results) if name.startswith(".")]
    if ended.code or _results(results) != expected or left:
        problems.append(f"run again, it gives {ended}, beside it {left}")
    return problems, hit


def _results(folder: Path) -> dict[str, Any]:
    found = {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return {
        name: {key: value for key, value in result.items() if key not in ("seconds", "date")}
        for name, result in found.items()
    }


if __name__ == "__main__":
    answer(trials)
