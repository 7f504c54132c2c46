"""Pre-training: from a store and settings to a run folder with a trained encoder."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from smae import __version__
from smae.atomic_io import locked, os_errors, refuse_links, write_json
from smae.config import Recipe, Section, as_settings, load_recipe, merge, recipes
from smae.data.loader.loader import Loader
from smae.data.store.joined import Data, JoinedStore, TrainingStore, describe_store, join_stores, open_stores
from smae.data.store.splits import EVERYTHING
from smae.errors import ConfigError, DataError
from smae.interrupts import deferred
from smae.skeleton import Layout, layout_from_json
from smae.tables import Grid, Table
from smae.train.checkpoint import (
    check_size,
    decoder_weights,
    describe_start,
    encoder_weights,
    load_latest,
    max_file_bytes,
    remove_stale,
)
from smae.train.config import (
    RunConfig,
    build_config,
    build_objective,
    choose_recipe,
    compile_blocks,
    outline,
    resolve,
)
from smae.train.distributed import (
    SINGLE_PROCESS,
    DistributedContext,
    deterministic_kernels,
    has_native_bf16,
    pick_device,
    process_group,
    uses_bf16,
)
from smae.train.loop import Loop
from smae.train.metrics_log import MetricsLog, WandbWriter, check_wandb, has_tensorboard
from smae.train.objectives import Objective
from smae.train.run_folder import RUNS, VERSION, Run, find_run, new_run

logger = logging.getLogger(__name__)

FREE_SETTINGS: Any = dict.fromkeys(("linear", "knn", "finetune", "scratch", "selection"), True) | {
    "train": {"workers", "rows", "kernel", "save_seconds", "log_every", "wandb"},
    "masking": {"kernel"},
    "encoder": {"feature_groups"},
}
"""Settings that may change when a run is resumed: they change no weight, or by rounding only."""


@dataclass(frozen=True)
class PretrainResult(Table):
    """A finished pre-training.

    Attributes:
        run: its folder.
        steps: optimiser steps done in all.
        loss: of the last step.
        test_clips: clips of the protocol's test part; 0 where the store has none.
    """

    run: Run
    steps: int
    loss: float
    test_clips: int = 0

    def tables(self) -> list[Grid]:
        """Return it as a table of one row."""
        row = (str(self.run.path), f"{self.steps:,}", f"{self.loss:.4f}")
        return [Grid(("run", "steps", "loss"), [row], left=1)]


def pretrain(
    data: Data | Sequence[Data] | None = None,
    *,
    out: Path | str | None = None,
    recipe: str = "auto",
    settings: Mapping[str, Any] | Section | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    protocol: str | None = None,
    device: str = "auto",
    resume: bool = False,
    wandb: bool = False,
    init: Path | str | None = None,
    layout: str | None = None,
) -> PretrainResult:
    """Pre-train an encoder on the train part of a protocol; write ``runs/<name>``.

    In several processes started by torchrun it trains one encoder with data parallelism.

    Args:
        data: a store, or several as a list; by default the one in the current folder.
        out: the run's folder; ``runs/<objective>-<protocol>-NNN`` by default.
        recipe: packaged name, ``.toml`` path, or ``auto``: that of the data
            set and protocol on a GPU, a small one without.
        settings: merged over the recipe, nested or dotted: ``{"optim.lr": 1e-3}`` is the same as
            ``{"optim": {"lr": 1e-3}}``; or a config object, whose settings all hold.
        epochs: passes over the train clips, merged over these; lifts a recipe's limit on steps.
        seed: of weights, order, crops and masks, merged likewise.
        protocol: split whose train part is used, merged likewise; of several stores also one of
            each, between commas.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.
        resume: continue the run at ``out``, or the newest one; without a run, start one.
        init: run, checkpoint or exported encoder whose encoder weights training starts from, merged
            likewise. Stores are mapped to its joints, and ``encoder``, ``augment.align`` and
            ``augment.stream`` are its own unless ``settings`` name others.
        wandb: write curves for Weights & Biases too, offline unless WANDB_MODE is set.
        layout: joints to which stores are mapped; by default those of the first of several. Joints
            that a store's recordings lack are masked always, and never targets.

    Raises:
        ConfigError: a wrong setting, the same store twice, or ``out`` is a run already and
            ``resume`` is false.
        DataError: no usable store or split, or a resumed run had other settings.
        LockedError: another process trains the same run.
        Interrupted: stopped by a signal, after a checkpoint.
        NonFiniteError: a loss or gradient is not finite; the last checkpoint is sound.
    """
    target = pick_device(device)
    overrides = as_settings(settings)
    if epochs is not None:
        # A recipe's limit on steps must not cut these epochs short; one among the settings may.
        overrides = merge({"train": {"max_steps": 0}}, overrides, {"train": {"epochs": epochs}})
    if wandb:
        overrides = merge(overrides, {"train": {"wandb": True}})
    given = {"seed": seed, "protocol": protocol, "init": None if init is None else str(init)}
    overrides |= {key: value for key, value in given.items() if value is not None}
    with deferred("--resume continues at the last checkpoint"), process_group() as dist:
        previous = None
        with suppress(DataError):  # without a run, resuming starts one
            previous = find_run(out) if resume else None
        dist.all_reduce_max(0)  # a barrier: every rank has looked before rank 0 writes

        if previous is None:
            known = {} if recipe == "auto" else load_recipe(recipe)
            start = str(overrides.get("init", known.get("init", "")))
            own, needed = describe_start(Path(start)) if start else (None, {})
            store = _open(data, layout, start=start, own=own)
            recipe = choose_recipe(recipe, target, store, overrides.get("protocol", "xsub"))
            config = resolve(recipe, merge(needed, overrides))
        else:
            saved = previous.describe()
            started = str(saved.get("recipe", ""))
            if recipe not in ("auto", started):
                raise ConfigError(f"{previous.path} was started with --recipe {started}: leave --recipe out")
            recipe = started
            config = build_config(merge(saved["config"], overrides))
            store = _reopen(previous, data, layout)
            check_size(previous.checkpoints, outline(lambda: build_objective(config, store.layout)))
        if config.train.precision == "auto":
            # Kept in the run, so that it goes on alike on a machine that would choose another.
            chosen = "bf16" if uses_bf16("auto", target) else "float32"
            config = build_config(merge(config.model_dump(), {"train": {"precision": chosen}}))
        split = store.training_split(config.protocol)
        if split.name == EVERYTHING:
            # Kept in the run: an evaluation must know which clips its encoder has seen.
            config = config.model_copy(update={"protocol": EVERYTHING})
        if config.train.wandb:
            check_wandb()
        weights = decoder = None
        if config.init and not (previous and any(previous.checkpoints.glob("step-*"))):
            weights, decoder = encoder_weights(Path(config.init)), decoder_weights(Path(config.init))
            augment = config.augment
            seen = f"{config.encoder.name}, augment.align={augment.align}, stream={augment.stream}"
            logger.info("the encoder starts from the weights of %s (%s)", config.init, seen)
        objective = build_objective(config, store.layout, weights=weights, decoder_weights=decoder)
        _check_stores(store, config, objective)

        # Only now, because wrong settings must not leave a folder behind.
        run = previous or _create_run(out, f"{config.objective.name}-{config.protocol}", dist)
        refuse_links(run.path.resolve())
        logger.info("run %s: %s, recipe %s, %s", run.path, config.objective.name, recipe, target.type)
        if dist.world_size > 1:
            logger.info("%d processes share the %d clips of each step", dist.world_size, config.train.batch)
        if config.train.precision == "bf16" and not has_native_bf16(target):
            logger.info("this processor has no bf16 arithmetic: train.precision=bf16 will be far slower than float32")
        with locked(run.lock) if dist.is_main else nullcontext():
            objective = objective.to(target)
            if config.train.compile is True or (config.train.compile == "auto" and target.type == "cuda"):
                compile_blocks(objective)
            loader = training_loader(store, split.train, config, objective, device=target, dist=dist)
            loop = Loop(
                objective,
                loader,
                optim=config.optim,
                train=config.train,
                seed=config.seed,
                run=run,
                identity=identity(config, store),
                dist=dist,
            )
            if previous is not None:
                _load_checkpoint(loop)
            logger.info("%s, %s mode: %s clips to train on", split.name, store.mode, f"{len(split.train):,}")
            logger.info("%s", loader.residency)
            if config.train.batches == "subject" and not (store.clips.subject[split.train] >= 0).any():
                logger.info("no clip's subject is known: batches of a store are mixed")
            if loader.per_epoch < len(split.train):
                logger.info("an epoch takes %s, by share, drawn anew each time", f"{loader.per_epoch:,}")
            if dist.is_main:
                _write_run_json(run, config, store, recipe=recipe, device=target, steps=loop.steps)
            _say_cost(recipe, loop)
            with closing(loop), _open_log(loop, config) as log, deterministic_kernels(target):
                loop.train(log)
            return PretrainResult(run, loop.position.step, log.last_loss, len(split.test))


def _open(data: Any, layout: str | None, *, start: str, own: Layout | None) -> TrainingStore:
    """Return the store, or stores as one, with the joints of the encoder that training starts from, if any."""
    store = open_stores(data, layout=layout)
    if own is None or own.name == store.layout.name:
        return store
    if layout is not None:
        raise ConfigError(f"--layout {layout}: {start} has the joints of {own.name}: leave --layout out")
    logger.info("%s has the joints of %s: clips are mapped to them", start, own.name)
    return open_stores(data, layout=own)


def _reopen(run: Run, data: Data | Sequence[Data] | None, layout: str | None) -> TrainingStore:
    """Return the store, or stores, of a run that is resumed."""
    about, trained = run.describe()["store"], run.stores()
    if layout not in (None, about["layout"]):
        raise ConfigError(f"{run.path} was started with layout {about['layout']}: leave --layout out")
    given: Any = data or [str(one["path"]) for one in trained]
    named: list[Data] = list(given) if isinstance(given, list | tuple) else [given]
    if len(named) != len(trained):
        raise DataError(f"{run.path} was trained on {len(trained)} stores, found {len(named)}: leave --data out")
    if "stores" not in about:
        return run.open_store(named[0])
    again = join_stores(named, layout=layout_from_json(about["layout"], about.get("skeleton")))
    for member, one in zip(again.members, trained, strict=True):
        if member.store.fingerprint != one["fingerprint"]:
            raise DataError(
                f"{member.store.path} is not what it was when {run.path} was started: fingerprint "
                f"{one['fingerprint'][:16]}... there, {member.store.fingerprint[:16]}... here; resume with the store "
                "of the run, or start another run with --out"
            )
    return again


def _check_stores(store: TrainingStore, config: RunConfig, objective: Objective) -> None:
    """Refuse shares that do not fit, and objectives that would take a missing joint as measured."""
    if not isinstance(store, JoinedStore):
        if config.train.shares:
            raise ConfigError("train.shares (--share) are of several stores, and one is given")
        return
    store.check_shares(config.train.shares)
    if store.missing.any() and not objective.hides_missing:
        raise ConfigError(
            f"objective.name={config.objective.name} does not say that it leaves out joints that a "
            "recording lacks (hides_missing): map to joints that all have, such as --layout common15"
        )


def training_loader(
    store: TrainingStore,
    index: NDArray[np.int64],
    config: RunConfig,
    objective: Objective,
    *,
    device: torch.device,
    dist: DistributedContext = SINGLE_PROCESS,
) -> Loader:
    """Return this rank's loader of augmented clips, with as many views as the objective compares.

    Args:
        store: the clips.
        index: int64 [n], numbers of the clips to train on.
        config: the run's settings.
        objective: the method.
        device: where batches go.
        dist: the processes that train together.
    """
    return Loader(
        store,
        index,
        augment=config.augment,
        batch=config.train.batch,
        seed=config.seed,
        train=True,
        device=device,
        workers=config.train.workers,
        mode=config.train.rows,
        kernel=config.train.kernel,
        rank=dist.rank,
        world=dist.world_size,
        views=objective.views,
        crops=objective.crops,
        cameras=config.train.positives == "cameras",
        shares=config.train.shares,
        by_subject=config.train.batches == "subject",
    )


def _say_cost(recipe: str, loop: Loop) -> None:
    """Say what a training costs before it starts: steps, memory, and the published time."""
    weights = sum(value.numel() for value in loop.objective.parameters())
    # Weights, their gradients and two moments of the optimiser, float32.
    memory = 16 * weights / 1e6
    published = recipes().get(recipe, Recipe()).cost
    made = f"{weights / 1e6:.1f} M weights, {memory:,.0f} MB with optimiser, plus activations"
    logger.info("cost: %s steps; %s", f"{loop.steps:,}", made)
    if published:
        logger.info("the recipe's cost: %s", published)


def _create_run(out: Path | str | None, stem: str, dist: DistributedContext) -> Run:
    if not dist.is_main:
        return Run(Path(out or RUNS))  # never written
    if out is None:
        with os_errors(RUNS):
            return new_run(RUNS, stem)
    run = Run(Path(out))
    if (run.path / "run.json").exists():
        raise ConfigError(f"{run.path}: a run is there already: add --resume to continue it, or name another")
    with os_errors(run.path):
        run.path.mkdir(parents=True, exist_ok=True)
    return run


def identity(config: RunConfig, store: TrainingStore) -> dict[str, Any]:
    """Return what must be equal for a run to be resumed, as flat dotted settings."""
    flat: dict[str, Any] = {"store": store.fingerprint, "layout": store.layout.name}
    if isinstance(store, JoinedStore) or config.protocol in store.own_splits:
        # The fingerprint does not cover a split that was made after the store.
        train = store.training_split(config.protocol).train
        flat["train part"] = hashlib.sha256(train.astype("<i8").tobytes()).hexdigest()

    def flatten(prefix: str, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                flatten(f"{prefix}{key}.", value)
            else:
                flat[f"{prefix}{key}"] = value

    flatten("", config.model_dump(mode="json", exclude=FREE_SETTINGS))
    return flat


def _load_checkpoint(loop: Loop) -> None:
    """Resume a loop from its run's newest sound checkpoint, if any was written."""
    run = loop.run
    if loop.dist.is_main:
        remove_stale(run.checkpoints)
    if not any(run.checkpoints.glob("step-*")):
        logger.info("%s: no checkpoint was written yet: starting from the first step", run.path)
        return
    loop.resume(load_latest(run.checkpoints, max_bytes=max_file_bytes(loop.objective)))
    logger.info("resumed after step %d of %d", loop.position.step, loop.steps)


def _write_run_json(
    run: Run, config: RunConfig, store: TrainingStore, *, recipe: str, device: torch.device, steps: int
) -> None:
    write_json(
        run.path / "run.json",
        {
            "version": VERSION,
            "recipe": recipe,
            "config": config.model_dump(mode="json"),
            "store": describe_store(store, config.protocol),
            "versions": {"smae": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
            "device": {"type": device.type, "threads": torch.get_num_threads()},
            "steps": steps,
            "process": {"pid": os.getpid(), "host": platform.node()},
        },
    )


def _open_log(loop: Loop, config: RunConfig) -> MetricsLog:
    if not loop.dist.is_main:
        return MetricsLog(None)
    if not has_tensorboard():
        logger.info("TensorBoard is not installed: curves go to log.jsonl only (pip install 'smae[tensorboard]')")
    run, writer = loop.run, None
    if config.train.wandb:
        writer = partial(WandbWriter, run.path, config=config.model_dump(mode="json"))
    return MetricsLog(run.log, tensorboard=run.path / "tensorboard", wandb=writer, from_step=loop.position.step)
