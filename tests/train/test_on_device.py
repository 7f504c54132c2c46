"""Training on the GPU where there is one, else on the CPU: bf16, resuming, ways of loading, one rank under torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from smae.errors import Interrupted
from smae.train.checkpoint import load_latest
from smae.train.run_folder import Run
from tests.fakes import FakeStore
from tests.train.small import log_of, run_through, small_config, small_loop

pytestmark = pytest.mark.gpu
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ROOT = Path(__file__).resolve().parents[2]
STORE = FakeStore.random(clips=21, seed=0, frames=(16, 30))
# At the default temperature, 14 clips are distinguished down to a loss of 0.0004, of which 5 % is nothing.
SIMCLR = {"objective": {"name": "simclr", "temperature": 0.5}}
METHODS = [{}, SIMCLR]


def losses(run: Run, **sections) -> list[float]:
    loop = small_loop(STORE, run, small_config(**sections), device=DEVICE)
    run_through(loop)
    assert next(loop.objective.parameters()).device.type == DEVICE.type
    return [line["loss"] for line in log_of(run)]


@pytest.mark.parametrize("sections", METHODS)
def test_bf16_trains_as_float32_does_to_its_rounding(tmp_path, sections):
    full = losses(Run(tmp_path / "float32"), **sections, train={"precision": "float32"})
    half = losses(Run(tmp_path / "bf16"), **sections, train={"precision": "bf16"})
    assert half != full
    assert half == pytest.approx(full, rel=0.05)


@pytest.mark.parametrize("sections", METHODS)
def test_a_run_that_is_interrupted_and_resumed_ends_in_the_same_weights(tmp_path, sections):
    whole = small_loop(STORE, Run(tmp_path / "whole"), small_config(**sections), device=DEVICE)
    run_through(whole)
    run = Run(tmp_path / "halves")
    with pytest.raises(Interrupted):
        run_through(small_loop(STORE, run, small_config(**sections), device=DEVICE), stop_at=5)
    resumed = small_loop(STORE, run, small_config(**sections), device=DEVICE)
    resumed.resume(load_latest(run.checkpoints))
    run_through(resumed)
    for name, weight in whole.objective.state_dict().items():
        # Sums on a GPU may come in another order.
        torch.testing.assert_close(resumed.objective.state_dict()[name], weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", ["resident", "streaming", "auto"])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_way_of_loading_gives_the_same_losses(tmp_path, rows, workers):
    first = losses(Run(tmp_path / "first"))
    other = losses(Run(tmp_path / "other"), train={"rows": rows, "workers": workers})
    assert other == pytest.approx(first, rel=1e-4)


@pytest.mark.parametrize("objective", ["skeletonmae", "simclr", "moco", "vicreg", "mamp"])
def test_losses_are_those_of_the_cpu_to_rounding(tmp_path, objective):
    sections = {"objective": {"name": objective}, "train": {"epochs": 1, "precision": "float32"}}
    here = losses(Run(tmp_path / "device"), **sections)
    loop = small_loop(STORE, Run(tmp_path / "cpu"), small_config(**sections))
    run_through(loop)
    assert here == pytest.approx([line["loss"] for line in log_of(loop.run)], rel=1e-3)


def test_one_rank_under_torchrun_trains_as_no_rank_does(tmp_path):
    program = f"""
import torch
from pathlib import Path
from smae.train.distributed import DistributedContext, process_group
from smae.train.run_folder import Run
from tests.train.small import run_through, small_config, small_loop
from tests.train.test_on_device import STORE
with process_group() as dist:
    run_through(small_loop(STORE, Run(Path({str(tmp_path / "rank")!r})), small_config(), dist=dist,
                           device=torch.device({DEVICE.type!r})))
"""
    (tmp_path / "program.py").write_text(program)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", str(tmp_path / "program.py")]
    search = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, *launch], env={**os.environ, "PYTHONPATH": search}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line["loss"] for line in log_of(Run(tmp_path / "rank"))] == pytest.approx(
        losses(Run(tmp_path / "alone")), rel=1e-4
    )
