"""A store to a pre-trained encoder: begins a run, or continues one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smae.api.common import RUNS, Say, silent
from smae.data.store.store import open_store
from smae.errors import ConfigError, DataError
from smae.interrupts import deferred

if TYPE_CHECKING:
    from smae.train.pretrain import Outcome
    from smae.train.progress import Progress
    from smae.train.run_folder import Run


@deferred("--resume continues at the last checkpoint")
def pretrain(
    *,
    data: Path | str | None = None,
    out: Path | str | None = None,
    recipe: str = "auto",
    sets: Sequence[str] = (),
    epochs: int | None = None,
    seed: int | None = None,
    protocol: str | None = None,
    device: str = "auto",
    resume: bool = False,
    wandb: bool = False,
    say: Say = silent,
    report: Callable[[Progress], None] = silent,
) -> Outcome:
    """Pre-train an encoder on the train part of a protocol; write ``runs/<name>``.

    Called by several processes that torchrun started, it trains one encoder among them; the first one writes.

    Args:
        data: store; found in the current folder when left out.
        out: the run's folder; ``runs/<objective>-<protocol>-NNN`` when left out.
        recipe: packaged name, ``.toml`` path, or ``auto``: ``base`` on a GPU, ``cpu`` without one.
        sets: settings in the form ``section.key=value``, laid over the recipe.
        epochs: passes over the train clips, laid over those; lifts a recipe's limit of steps.
        seed: of weights, order, crops and masks, likewise.
        protocol: split whose train part is used, likewise.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.
        resume: continue the run at ``out``, or the newest one; with none there, start.
        wandb: write curves for Weights & Biases too, offline unless WANDB_MODE says otherwise.
        say: takes lines for people.
        report: takes progress.

    Raises:
        LockedError: another process is training the same run.
        SmaeError: see ``smae.train.pretrain.pretrain``.
    """
    from smae.data.prepare.lock import locked
    from smae.train import pretrain as training
    from smae.train.build import build_objective, pick_device
    from smae.train.config import build_config, resolve
    from smae.train.distributed import together
    from smae.train.run_folder import Run

    target = pick_device(device)
    flags: dict[str, Any] = {"train": {"epochs": epochs} if epochs is not None else {}}
    if epochs is not None:
        sets = ("train.max_steps=0", *sets)  # epochs asked for outright are not to be cut short by a recipe's limit
    if wandb:
        flags["train"]["wandb"] = True
    flags |= {key: value for key, value in (("seed", seed), ("protocol", protocol)) if value is not None}
    with together() as ranks:
        if not ranks.first:
            say = report = silent
        old = _resumable(out) if resume else None
        ranks.highest(0)  # all have looked before the first one writes
        if old:
            from smae.config import merge, overrides

            about = old.describe()
            if recipe not in ("auto", about["recipe"]):
                raise ConfigError(
                    f"{old.path} was begun with --recipe {about['recipe']} and keeps it: leave --recipe out"
                )
            recipe = about["recipe"]
            config = build_config(merge(about["config"], overrides(sets), flags))
            run, store = old, open_store(data or about["store"]["path"])
            run.check_layout(store)
            objective = build_objective(config, store.layout)
            training.check_extras(config)
        else:
            recipe = _recipe_for(recipe, target.type, say)
            config, store = resolve(recipe, sets=sets, flags=flags), open_store(data)
            # Whatever is wrong with the settings must be found before a folder is made.
            store.split(config.protocol)
            training.check_extras(config)
            objective = build_objective(config, store.layout)
            # The others write nothing, and need no folder.
            run = _begin(out, f"{config.objective.name}-{config.protocol}") if ranks.first else Run(Path(out or RUNS))
        say(f"run {run.path}: {config.objective.name}, recipe {recipe}, {target.type}")
        with locked(run.lock) if ranks.first else nullcontext():
            return training.pretrain(
                objective, config, store, run, device=target, recipe=recipe, resume=old is not None, say=say,
                report=report, ranks=ranks,
            )  # fmt: skip


def _begin(out: Path | str | None, stem: str) -> Run:
    from smae.train.run_folder import Run, new_run

    if out is None:
        return new_run(RUNS, stem)
    run = Run(Path(out))
    if (run.path / "run.json").exists():
        raise ConfigError(f"{run.path}: a run is there already: add --resume to continue it, or name another")
    run.path.mkdir(parents=True, exist_ok=True)
    return run


def _resumable(out: Path | str | None) -> Run | None:
    from smae.train.run_folder import find_run

    try:
        return find_run(Path(out) if out is not None else None, root=RUNS)
    except DataError:
        return None  # --resume with nothing there simply starts


def _recipe_for(recipe: str, device: str, say: Say) -> str:
    if recipe == "base" and device == "cpu":
        say("the published size on a CPU: watch the time left; a sensible smaller recipe is --recipe cpu")
    if recipe != "auto":
        return recipe
    if device == "cuda":
        return "base"
    say(
        "no GPU is used: taking the small recipe 'cpu', which two cores can finish "
        "(the published size is --recipe base; other recipes: smae recipes)"
    )
    return "cpu"
