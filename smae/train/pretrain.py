"""Pre-training: from settings and a store to a run's folder, new or resumed."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from smae._version import __version__
from smae.atomic_io import write_json
from smae.data.loader.loader import Loader
from smae.data.store.store import Store
from smae.train.build import compile_blocks, fast_bf16
from smae.train.checkpoint import Checkpoint, latest, room_for
from smae.train.config import RunConfig
from smae.train.distributed import ALONE, Ranks
from smae.train.loop import Loop
from smae.train.metrics_log import Log, has_tensorboard
from smae.train.objectives import Objective
from smae.train.progress import Progress
from smae.train.run_folder import VERSION, Run
from smae.train.wandb_writer import WandbWriter, check_wandb

FREE_SETTINGS: Any = {
    "linear": True, "knn": True, "finetune": True, "scratch": True, "selection": True,
    "train": {"workers", "rows", "kernel", "save_seconds", "log_every", "wandb"}, "masking": {"kernel"},
}  # fmt: skip
"""What may differ when a run is resumed: it changes no weight, or, as another device does, by rounding alone."""


@dataclass(frozen=True)
class Outcome:
    """How pre-training ended.

    Attributes:
        run: its folder.
        steps: optimiser steps done in all.
        loss: of the last step.
    """

    run: Run
    steps: int
    loss: float


def identity(config: RunConfig, store: Store) -> dict[str, Any]:
    """Return what must be the same for a run to be resumed, as flat dotted settings."""
    flat: dict[str, Any] = {"store": store.fingerprint, "layout": store.layout.name}

    def lay(prefix: str, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                lay(f"{prefix}{key}.", value)
            else:
                flat[f"{prefix}{key}"] = value

    lay("", config.model_dump(mode="json", exclude=FREE_SETTINGS))
    return flat


def pretrain(
    objective: Objective,
    config: RunConfig,
    store: Store,
    run: Run,
    *,
    device: torch.device,
    recipe: str,
    resume: bool,
    say: Callable[[str], None],
    report: Callable[[Progress], None],
    ranks: Ranks = ALONE,
) -> Outcome:
    """Train an objective, built from ``config``, on the train part of its protocol; every rank calls this alike.

    Raises:
        DataError: the split does not fit the store, or a resumed run's identity differs.
        Interrupted: by a signal, after a checkpoint.
        NonFiniteError: before a step that would spoil the weights.
    """
    split = store.split(config.protocol)
    objective = objective.to(device)
    if config.train.compile is True or (config.train.compile == "auto" and device.type == "cuda"):
        compile_blocks(objective)
    if config.train.precision == "bf16" and not fast_bf16(device):
        say("this processor has no bf16 arithmetic: train.precision=bf16 will be far slower than float32")
    loader = Loader(
        store,
        split.train,
        augment=config.augment,
        batch=config.train.batch,
        seed=config.seed,
        train=True,
        device=device,
        workers=config.train.workers,
        mode=config.train.rows,
        kernel=config.train.kernel,
        rank=ranks.rank,
        world=ranks.world,
    )
    loop = Loop(
        objective,
        loader,
        optim=config.optim,
        train=config.train,
        seed=config.seed,
        run=run,
        identity=identity(config, store),
        ranks=ranks,
    )
    if resume:
        checkpoint = _checkpoint(run, objective, say=say)
        if checkpoint is not None:
            loop.resume(checkpoint)
            say(f"resumed after step {loop.position.step} of {loop.steps}")
    if ranks.world > 1:
        say(f"{ranks.world} processes: each step's {config.train.batch} clips are shared among them")
    if ranks.first:
        describe(run, config, store, recipe=recipe, device=device, steps=loop.steps)
    say(f"{split.name}, {store.mode} mode: {len(split.train):,} clips to train on; {loader.residency}")
    if not has_tensorboard():
        say("TensorBoard is not installed: curves go to log.jsonl alone (pip install 'smae[tensorboard]')")
    with log_of(run, ranks, config, step=loop.position.step) as log, repeatable(device):
        loop.train(log=log, report=report)
    return Outcome(run, loop.position.step, log.last_loss)


def check_extras(config: RunConfig) -> None:
    """Refuse settings that need a package which is not installed.

    Raises:
        ConfigError: ``train.wandb`` without wandb.
    """
    if config.train.wandb:
        check_wandb()


def log_of(run: Run, ranks: Ranks, config: RunConfig, *, step: int) -> Log:
    """Return the run's log from ``step`` on; only the first rank writes it."""
    if not ranks.first:
        return Log(None, from_step=step)
    wandb = partial(WandbWriter, run.path, config=config.model_dump(mode="json")) if config.train.wandb else None
    return Log(run.log, tensorboard=run.path / "tensorboard", also=wandb, from_step=step)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """On a GPU, choose kernels that give the same bits every time; on the CPU all of ours do."""
    if device.type != "cuda":
        yield
        return
    memory: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    # cuBLAS promises the same bits with a workspace of its own per stream, which it reads when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        memory.fill_uninitialized_memory = before[1]


def _checkpoint(run: Run, objective: Objective, *, say: Callable[[str], None]) -> Checkpoint | None:
    if not any(run.checkpoints.glob("step-*")):
        say(f"{run.path}: no checkpoint was written yet: starting from the first step")
        return None
    return latest(run.checkpoints, note=say, at_most=room_for(objective))


def describe(run: Run, config: RunConfig, store: Store, *, recipe: str, device: torch.device, steps: int) -> None:
    """Write ``run.json``: settings, store, versions, how many steps there are to do, and which process does them."""
    write_json(
        run.path / "run.json",
        {
            "version": VERSION,
            "recipe": recipe,
            "config": config.model_dump(mode="json"),
            "store": {
                "path": store.path if isinstance(store.path, str) else str(store.path.absolute()),
                "fingerprint": store.fingerprint,
                "dataset": store.dataset,
                "mode": store.mode,
                "layout": store.layout.name,
                "clips": len(store),
            },
            "versions": {"smae": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
            "device": {"type": device.type, "threads": torch.get_num_threads()},
            "steps": steps,
            "process": {"pid": os.getpid(), "host": platform.node()},
        },
    )
