"""Pre-training: from settings and a store to a run's folder, new or resumed."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from smae._version import __version__
from smae.data.loading.loader import Loader
from smae.data.storage.store import Store
from smae.train.checkpoint import Checkpoint, latest
from smae.train.config import RunConfig
from smae.train.log import Log, has_tensorboard
from smae.train.loop import Loop, Progress
from smae.train.objectives import Objective
from smae.train.run import VERSION, Run, write_json
from smae.train.signals import StopFlag

FREE_SETTINGS: Any = {
    "linear": True, "knn": True, "finetune": True, "train": {"workers", "save_seconds", "log_every"},
}  # fmt: skip
"""What may differ when a run is resumed: it changes no weight."""


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
) -> Outcome:
    """Train an objective, built from ``config``, on the train part of its protocol.

    Raises:
        DataError: the split does not fit the store, or a resumed run's identity differs.
        Interrupted: by a signal, after a checkpoint.
        NonFiniteError: before a step that would spoil the weights.
    """
    split = store.split(config.protocol)
    objective = objective.to(device)
    loader = Loader(
        store,
        split.train,
        augment=config.augment,
        batch=config.train.batch,
        seed=config.seed,
        train=True,
        device=device,
        workers=config.train.workers,
    )
    loop = Loop(
        objective,
        loader,
        optim=config.optim,
        train=config.train,
        seed=config.seed,
        run=run,
        identity=identity(config, store),
    )
    if resume:
        checkpoint = _checkpoint(run, say=say)
        if checkpoint is not None:
            loop.resume(checkpoint)
            say(f"resumed after step {loop.position.step} of {loop.steps}")
    describe(run, config, store, recipe=recipe, device=device, steps=loop.steps)
    say(f"{split.name}, {store.mode} mode: {len(split.train):,} clips to train on; {loader.residency}")
    if not has_tensorboard():
        say("TensorBoard is not installed: curves go to log.jsonl alone (pip install 'smae[tensorboard]')")
    with StopFlag() as stop, Log(run.log, tensorboard=run.path / "tensorboard", from_step=loop.position.step) as log:
        loop.train(log=log, report=report, stop=stop)
    return Outcome(run, loop.position.step, log.last_loss)


def _checkpoint(run: Run, *, say: Callable[[str], None]) -> Checkpoint | None:
    if not any(run.checkpoints.glob("step-*")):
        say(f"{run.path}: no checkpoint was written yet: starting from the first step")
        return None
    return latest(run.checkpoints, note=say)


def describe(run: Run, config: RunConfig, store: Store, *, recipe: str, device: torch.device, steps: int) -> None:
    """Write ``run.json``: settings, store, versions, how many steps there are to do, and which process does them."""
    write_json(
        run.path / "run.json",
        {
            "version": VERSION,
            "recipe": recipe,
            "config": config.model_dump(mode="json"),
            "store": {
                "path": str(store.path.absolute()),
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
