"""A program that sends `prepare` signals at random moments, lets the last attempt finish, and compares the bytes."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from tests.reliability.forked_cli import Attempt, answer, smae, too_slow, warm_up
from tests.reliability.stores import clear, digest, problem_of


def trials(
    raw: str, folder: str, signals: list[str], numbers: list[int], seed: int, options: list[str]
) -> dict[str, Any]:
    """Disturb one preparation a number, and finish it.

    Args:
        raw: the raw folder.
        folder: where stores are written; empty again afterwards.
        signals: taken in turn; SIGKILL falls at any moment, the others ask for a stop with an exit code of their own.
        numbers: of the trials; each has random moments of its own.
        seed: of those.
        options: of `prepare`.

    Returns:
        ``digest`` of the undisturbed store, ``problems`` of each trial, and how many attempts were ``hit``.
    """
    warm_up()
    whole = Path(folder) / f"whole-{numbers[0]}.zarr"
    command = ["prepare", "--raw", raw, "--resume", *options]
    undisturbed = [smae(*command, "--out", whole)]
    expected = digest(whole)
    clear(whole)
    undisturbed.append(smae(*command, "--out", whole))
    clear(whole)
    assert [ended.code for ended in undisturbed] == [0, 0], undisturbed
    duration = min(ended.seconds for ended in undisturbed)
    problems, hit = [], 0
    for number in numbers:
        out, dice = Path(folder) / f"{number}.zarr", random.Random(f"{seed} {number}")
        kind = signal.Signals[signals[number % len(signals)]]
        problem, times = _disturb([*command, "--out", str(out)], out, kind, dice, duration)
        ended = smae(*command, "--out", out)
        problem = problem or ("" if ended.code == 0 else f"resumed: {ended}") or problem_of(out, expected=expected)
        problems.append(problem and f"trial {number}, {kind.name}: {problem}")
        hit += times
        clear(out)
    return {"digest": expected, "problems": problems, "hit": hit, "left": os.listdir(folder)}


def _disturb(command: list[str], out: Path, kind: int, dice: random.Random, duration: float) -> tuple[str, int]:
    """Hit at least one attempt, mostly two, at random moments; return what went wrong, and how many were hit."""
    hit = 0
    for _ in range(20):
        attempt = Attempt(command)
        time.sleep(dice.uniform(0, duration))
        sent = time.monotonic()
        attempt.send(kind)
        ended = attempt.wait()
        # Before the work begins (nothing is printed) and after its end, signals act as on any process.
        aside = not ended.err or not out.with_name(out.name + ".wip").exists()
        died = ended.code == -kind and (kind == signal.SIGKILL or aside)
        # Libraries may add a warning of what they were in the middle of.
        stopped = ended.code == 128 + kind and "Traceback" not in ended.err
        if died or stopped:
            hit += 1
        elif ended.code == 0:
            # The work was done before the moment came.
            clear(out)
        else:
            return str(ended), hit
        if late := too_slow(time.monotonic() - sent):
            return f"{late} from the signal to the end", hit
        if hit == 2 or (hit and dice.random() < 0.2):
            return "", hit
    return "no attempt was hit", hit


if __name__ == "__main__":
    answer(trials)
