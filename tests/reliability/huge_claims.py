"""A program that runs commands on folders which claim a huge model: each is refused, within 1 GiB and 30 seconds."""

from __future__ import annotations

from tests.reliability.forked_cli import answer, smae
from tests.reliability.runs import warm_up_training

PEAK, SECONDS = 2**30, 30


def trials(commands: list[list[str]]) -> list[str]:
    """Return the problem of each command."""
    warm_up_training()
    problems = []
    for words in commands:
        ended = smae(*words)
        problem = "" if ended.code in (2, 4) and "Traceback" not in ended.err else str(ended)
        if ended.peak > PEAK or ended.seconds > SECONDS:
            problem = problem or f"{ended.peak / 1e6:.0f} MB, {ended.seconds:.0f} s"
        problems.append(problem and f"{' '.join(words)}: {problem}")
    return problems


if __name__ == "__main__":
    answer(trials)
