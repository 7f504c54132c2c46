"""Training killed, stopped, made non-finite or out of space: resumed, it ends as an undisturbed run does."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from smae.errors import Interrupted, NonFiniteError
from smae.train.checkpoint import load_checkpoint, load_latest
from smae.train.objectives import StepOutput
from smae.train.run_folder import Run
from tests.fakes import FakeStore
from tests.reliability import random_stops, running_full
from tests.reliability.counts import SLOW, counts
from tests.reliability.forked_cli import AT_ONCE, in_programs
from tests.reliability.hostile_checkpoints import HOSTILE
from tests.reliability.runs import write_store
from tests.reliability.scoreboard import Scoreboard
from tests.train.small import log_of, run_through, small_config, small_loop


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("trained"))


TITLES = {
    "kill": "SIGKILL pretrain at random moments, then resume",
    "stop": "SIGINT / SIGTERM pretrain at random moments, then resume",
    "eval": "SIGINT / SIGTERM eval at random moments",
    "hostile": "hostile checkpoints: nothing executed, 512 MB, 5 s, exit 4",
}
MANY = {
    "kill": list(range(100)), "stop": list(range(40)), "hostile": list(HOSTILE), "eval": list(range(30)),
}  # fmt: skip
FEW: dict[str, list[Any]] = {"kill": [1], "stop": [2], "hostile": list(HOSTILE)[3::18], "eval": [0]}
FULL = [pytest.param({kind: trials}, id=f"{kind} full", marks=SLOW) for kind, trials in MANY.items()]


@pytest.mark.parametrize("rows", [pytest.param(FEW, id="short"), *FULL])
def test_commands_disturbed(scoreboard: Scoreboard, store: Path, memory: Path, rows: dict[str, list[Any]]) -> None:
    with ExitStack() as boards:
        board = {kind: boards.enter_context(scoreboard(TITLES[kind])) for kind in rows}
        jobs = []
        programs = AT_ONCE if rows is not FEW else 1
        for turn in range(programs):
            folder = memory / str(turn)
            folder.mkdir()
            dealt = {kind: trials[turn::programs] for kind, trials in rows.items()}
            jobs.append({"store": store, "folder": folder, "seed": 11, **dealt})
        for answer in in_programs(random_stops.__name__, jobs):
            for kind, problems in answer["problems"].items():
                board[kind].take(problems)
                # Else too few moments fell into the work to show anything.
                assert kind == "hostile" or rows is FEW or answer["hit"] >= len(problems) // 2


IN_MEMORY = FakeStore.random(clips=30, seed=4, frames=(16, 30))
"""20 clips to train on: in batches of 3, seven steps an epoch, the last one of two clips."""


@pytest.mark.parametrize("step", counts(short=7, full=1))
def test_resumed_at_every_step_of_two_epochs(scoreboard: Scoreboard, tmp_path: Path, step: int) -> None:
    with scoreboard("resume at every step of 2 epochs, workers 0, 1, 2") as row:
        settings: dict[str, Any] = {"train": {"epochs": 2, "batch": 3}}
        whole = run_through(small_loop(IN_MEMORY, Run(tmp_path / "whole"), small_config(**settings)))
        for stop_at, workers in itertools.product(range(1, 14, step), (0, 1, 2)):
            config = small_config(train={**settings["train"], "workers": workers})
            run = Run(tmp_path / f"{stop_at}-{workers}")
            first = small_loop(IN_MEMORY, run, config)
            seen: list[int] = []
            hook = first.objective.register_forward_pre_hook(lambda _, args, to=seen: to.extend(args[0].index.tolist()))
            with pytest.raises(Interrupted):
                run_through(first, stop_at=stop_at)
            hook.remove()
            second = small_loop(IN_MEMORY, run, config)
            second.resume(load_latest(run.checkpoints))
            seen += run_through(second)
            same = seen == whole and log_of(run) == log_of(Run(tmp_path / "whole"))
            row.check(same, f"stopped after step {stop_at}, {workers} workers: other clips or losses")


INJECTIONS = list(itertools.product(("loss", "gradient", "input", "weight"), ("nan", "inf"), (0, 3)))


@pytest.mark.parametrize("count", counts(short=8, full=30))
def test_non_finite_values(scoreboard: Scoreboard, tmp_path: Path, count: int) -> None:
    with scoreboard("injected non-finite values: exit 7, no step taken, no checkpoint") as row:
        for number in range(count):
            target, value, pending = INJECTIONS[number * 5 % len(INJECTIONS)]
            at = 1 + number * 7 % 13
            row.trial(inject(tmp_path / str(number), target, float(value), at=at, pending=pending))


def inject(folder: Path, target: str, value: float, *, at: int, pending: int) -> str:
    """Inject a non-finite value into step ``at`` while up to ``pending`` steps are unread; return the problem."""
    config = small_config(train={"epochs": 2, "batch": 3, "save_seconds": 0})
    loop = small_loop(IN_MEMORY, Run(folder), config)
    loop.max_pending = pending
    weight = loop.objective.encoder.norm.weight
    taken: list[int] = []

    def now(kind: str) -> bool:
        return loop.position.step == at - 1 and kind == target

    def before(module: Any, args: Any) -> None:
        if now("input"):
            args[0].x[0, 0, 0] = value
        if now("weight"):
            with torch.no_grad():
                weight[0] = value

    def after(module: Any, args: Any, output: StepOutput) -> StepOutput:
        return StepOutput(output.loss * value, output.metrics) if now("loss") else output

    loop.objective.register_forward_pre_hook(before)
    loop.objective.register_forward_hook(after)
    weight.register_hook(lambda gradient: gradient * value if now("gradient") else gradient)
    loop.optimizer.register_step_post_hook(lambda *_: taken.append(int(loop.optimizer.state[weight]["step"])))
    trial = f"{target} {value} in step {at}, {pending} steps pending: "
    try:
        run_through(loop)
        return trial + "not noticed"
    except NonFiniteError as error:
        if error.exit_code != 7 or f"step {at} " not in str(error):
            return f"{trial}exit {error.exit_code}: {error}"
    if max(taken, default=0) > at - 1:
        return trial + "the optimiser took the step"
    for checkpoint in loop.run.checkpoints.glob("*"):
        if load_checkpoint(checkpoint).state["step"] >= at:
            return trial + f"{checkpoint.name} was written"
    return "" if [line["step"] for line in log_of(loop.run)] == list(range(1, at)) else trial + "its loss was logged"


@pytest.mark.parametrize("count", counts(short=1, full=24))
def test_a_disk_that_is_truly_full(scoreboard: Scoreboard, tmp_path: Path, count: int) -> None:
    with scoreboard("pretrain on a truly full disk (tmpfs), then space is freed and it resumes") as row:
        place = tmp_path / "disk"
        place.mkdir()
        row.take(running_full.in_namespace(store=write_store(tmp_path), place=place, count=count)["problems"])
