"""Two processes under torchrun train as one does: same clips, same noise, same weights to rounding, resumed or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch

import smae
from smae.train.checkpoint import load_latest
from smae.train.distributed import SINGLE_PROCESS, DistributedContext, process_group
from smae.train.run_folder import Run
from tests.train.rank_program import SETTINGS, train
from tests.train.small import log_of

ROOT = Path(__file__).resolve().parents[2]
STEPS = 12


def torchrun(folder: Path, *, stop_at: int = 0, resume: bool = False, settings: dict[str, Any] = SETTINGS) -> None:
    program = Path(__file__).with_name("rank_program.py")
    words = [str(folder), str(stop_at), "resume" if resume else "new", json.dumps(settings)]
    run_two([str(program), *words], cwd=ROOT)


def run_two(command: list[str], *, cwd: Path) -> str:
    """Run a command in two processes under torchrun and return what they print on standard output."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *command]
    search = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def record(folder: Path, rank: int, *, begun: int = 0) -> dict[str, object]:
    return json.loads((folder / f"from-{begun}-rank-{rank}.json").read_text())


def by_step(*seen: list[tuple[int, list[int]]]) -> dict[int, list[int]]:
    """Return the clips of each step, of all ranks and micro-batches together, ascending."""
    steps: dict[int, list[int]] = {}
    for one in seen:
        for step, clips in one:
            steps[step] = sorted([*steps.get(step, []), *clips])
    return steps


def assert_close(one: Run, other: Run, *, without: Collection[str] = ()) -> None:
    mine, theirs = load_latest(one.checkpoints), load_latest(other.checkpoints)
    assert mine.state == theirs.state
    for part in ("model", "optimizer", "average"):
        first, second = getattr(mine, part), getattr(theirs, part)
        assert first.keys() == second.keys()
        assert first
        for name, tensor in first.items():
            if name in without:
                continue
            # One bias for all keys changes nothing: its gradient is rounding alone, which Adam blows up.
            part = slice(len(tensor) // 2, None) if name.endswith("key_value.bias") else ...
            torch.testing.assert_close(
                tensor[part],
                second[name][part],
                rtol=1e-3,
                atol=1e-5,
                msg=lambda text, n=name: f"{n}: {text}",
            )
    for here, there in zip(log_of(one), log_of(other), strict=True):
        assert here == pytest.approx(there, rel=1e-3)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    train(folder, SINGLE_PROCESS, stop_at=0, resume=False)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    torchrun(folder)
    return folder


@pytest.mark.slow
def test_two_ranks_take_disjoint_parts_that_are_the_whole_epoch(alone: Path, pair: Path) -> None:
    first, second = record(pair, 0)["seen"], record(pair, 1)["seen"]
    assert by_step(first, second) == by_step(record(alone, 0)["seen"])
    for step, clips in by_step(first).items():
        assert not set(clips) & set(by_step(second)[step])


@pytest.mark.slow
def test_two_ranks_end_with_the_weights_of_one_to_rounding_and_equal_ones_to_the_bit(alone: Path, pair: Path) -> None:
    assert record(pair, 0)["weights"] == record(pair, 1)["weights"]
    assert record(pair, 0)["step"] == STEPS
    assert_close(Run(pair), Run(alone))


HEAD = {"hidden": 16, "out": 8}
SHIFTS = [
    f"{key}{name}" for key in ("", "key_") for name in ("encoder.norm.bias", "head.1.running_mean", "head.3.bias")
]
"""What a shift of all features alike changes, and no loss: gradients of rounding alone, which Adam blows up."""
COMPARED = {
    "simclr": {"name": "simclr", **HEAD},
    "moco": {"name": "moco", **HEAD, "queue": 16},
    "vicreg": {"name": "vicreg", **HEAD},
    "skeletonmae with contrast": {"name": "skeletonmae", "normalise": "none", "contrast": 0.3},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPARED)
def test_views_are_compared_by_two_ranks_as_by_one(tmp_path: Path, name: str) -> None:
    settings: dict[str, Any] = {"objective": COMPARED[name], "train": {"epochs": 2, "ema": 0.5}}
    (tmp_path / "one").mkdir()
    train(tmp_path / "one", SINGLE_PROCESS, stop_at=0, resume=False, settings=settings)
    (tmp_path / "two").mkdir()
    torchrun(tmp_path / "two", settings=settings)
    assert record(tmp_path / "two", 0)["weights"] == record(tmp_path / "two", 1)["weights"]
    assert_close(Run(tmp_path / "two"), Run(tmp_path / "one"), without=SHIFTS)


@pytest.mark.slow
def test_one_signalled_rank_stops_all_and_one_process_goes_on_exactly_there(tmp_path: Path, alone: Path) -> None:
    torchrun(tmp_path, stop_at=6)
    assert [record(tmp_path, rank)["step"] for rank in (0, 1)] == [6, 6]
    train(tmp_path, SINGLE_PROCESS, stop_at=0, resume=True)
    pieces = [record(tmp_path, 0)["seen"], record(tmp_path, 1)["seen"], record(tmp_path, 0, begun=6)["seen"]]
    assert by_step(*pieces) == by_step(record(alone, 0)["seen"])
    assert_close(Run(tmp_path), Run(alone))


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_with_two(tmp_path: Path, alone: Path) -> None:
    train(tmp_path, SINGLE_PROCESS, stop_at=5, resume=False)
    torchrun(tmp_path, resume=True)
    pieces = [record(tmp_path, 0)["seen"], *(record(tmp_path, rank, begun=5)["seen"] for rank in (0, 1))]
    assert by_step(*pieces) == by_step(record(alone, 0)["seen"])
    assert_close(Run(tmp_path), Run(alone))


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with process_group() as dist:
        assert dist == SINGLE_PROCESS
        assert dist.is_main
        assert dist.all_reduce_max(15) == 15
        assert dist.all_reduce_sum(torch.ones(2)).tolist() == [1, 1]


def test_torchrun_sets_rank_and_world_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert DistributedContext.from_environment() == DistributedContext(3, 4)
    assert not DistributedContext.from_environment().is_main


@pytest.mark.slow
def test_the_command_line_trains_one_run_and_logs_once(tmp_path: Path) -> None:
    smae.synthesise(tmp_path / "ntu", actions=2, subjects=3, cameras=1, replications=2, hard=False)
    smae.prepare(tmp_path / "ntu", tmp_path / "ntu.zarr", executor="inline", missing_list=False)
    brief = ["train.batch=4", "augment.frames=24", "linear.epochs=2", "linear.views=1"]
    sets = [word for text in brief for word in ("--set", text)]
    command = ["-m", "smae_cli.main", "pretrain", "--recipe", "demo", "--device", "cpu"]

    printed = run_two([*command, *sets, "--set", "train.max_steps=2"], cwd=tmp_path)

    assert printed.count("2 steps, loss") == 1
    (folder,) = (tmp_path / "runs").iterdir()
    assert [line["step"] for line in log_of(Run(folder))] == [1, 2]
    assert load_latest(Run(folder).checkpoints).state["step"] == 2
    assert Run(folder).describe()["recipe"] == "demo"
