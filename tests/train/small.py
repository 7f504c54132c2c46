"""Runs small enough for tests: settings, objective, loop and probes on a store in memory."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from smae import interrupts, progress
from smae.config import merge
from smae.eval.probes import ProbeContext
from smae.train.config import RunConfig, build_config, build_objective
from smae.train.distributed import SINGLE_PROCESS, DistributedContext
from smae.train.loop import Loop
from smae.train.metrics_log import MACHINE_KEYS, MetricsLog, read_log
from smae.train.pretrain import identity, training_loader
from smae.train.run_folder import Run
from tests.fakes import FakeStore

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "protocol": "all",
    "augment": {"frames": 12, "min_frames": 8},
    "masking": {"name": "random", "keep": 0.3},
    "encoder": {"name": "vit", "dim": 16, "depth": 1, "heads": 2, "patch": 4},
    "decoder": {"name": "cross", "dim": 16, "depth": 1, "heads": 2},
    "objective": {"name": "skeletonmae", "normalise": "none"},
    "optim": {"warmup": 1},
    "train": {"epochs": 3, "batch": 4, "workers": 0, "log_every": 1, "precision": "float32"},
    "linear": {"epochs": 20, "views": 2, "batch": 32},
    "finetune": {"epochs": 8, "batch": 16, "warmup": 1, "hidden": 32, "lr": 3e-3, "layer_decay": 1.0, "drop_path": 0.1},
}


def small_config(**sections: Any) -> RunConfig:
    return build_config(merge(SETTINGS, sections))


def small_loop(
    store: FakeStore,
    run: Run,
    config: RunConfig,
    *,
    dist: DistributedContext = SINGLE_PROCESS,
    device: torch.device = CPU,
) -> Loop:
    """Return a fresh loop over the store's train clips, as ``smae.train.pretrain`` makes it."""
    objective = build_objective(config, store.layout).to(device)
    loader = training_loader(store, store.split("all").train, config, objective, device=device, dist=dist)
    run.path.mkdir(parents=True, exist_ok=True)
    return Loop(
        objective, loader, optim=config.optim, train=config.train, seed=config.seed, run=run,
        identity=identity(config, store), dist=dist,
    )  # fmt: skip


class AtStep:
    """A progress reporter that calls ``action`` when step ``step`` of pre-training is reported; 0: at every step."""

    def __init__(self, step: int, action: Callable[[progress.Task], object]) -> None:
        self.step, self.action = step, action

    def begin(self, task: progress.Task) -> None:
        pass

    def update(self, task: progress.Task) -> None:
        if task.name == "pretrain" and self.step in (0, task.done):
            self.action(task)

    def end(self, task: progress.Task) -> None:
        pass


def run_through(loop: Loop, *, stop_at: int = 0) -> list[int]:
    """Train to the end, or send a signal in step ``stop_at``; return the clip ids in the order seen."""
    seen: list[int] = []
    hook = loop.objective.register_forward_pre_hook(lambda module, args: seen.extend(args[0].index.tolist()))
    reporter = AtStep(stop_at or -1, lambda task: signal.raise_signal(signal.SIGINT))
    path = loop.run.log if loop.dist.is_main else None
    try:
        with (
            interrupts.deferred(),
            progress.reporting(reporter),
            MetricsLog(path, from_step=loop.position.step) as log,
        ):
            loop.train(log)
    finally:
        hook.remove()
    return seen


def two_ranks(program: str, folder: Path) -> list[Any]:
    """Run a program twice with its rank, a file to meet at and ``OUT``; return what each saved to ``OUT.<rank>``."""
    places = [str(folder / "meet"), str(folder / "out")]
    ranks = [subprocess.Popen([sys.executable, "-c", program, str(rank), *places]) for rank in (0, 1)]
    assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    return [torch.load(folder / f"out.{rank}", weights_only=True) for rank in (0, 1)]


def log_of(run: Run) -> list[dict[str, Any]]:
    """Return the log without what the clock decides."""
    return [{key: value for key, value in line.items() if key not in MACHINE_KEYS} for line in read_log(run.log)]


def small_context(store: FakeStore, **sections: Any) -> ProbeContext:
    return ProbeContext(store, store.split("all"), small_config(**sections), CPU)
