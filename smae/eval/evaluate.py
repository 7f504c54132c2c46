"""Evaluating a run: its encoder from a checkpoint, probes under a protocol; results and heads into its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from smae.atomic_io import write_json
from smae.config import check, merge, parse_sets
from smae.data.raw.class_counts import class_names
from smae.data.store.store import Store
from smae.errors import ConfigError, DataError
from smae.eval.baselines import Evaluation, as_json, evaluate, expand
from smae.eval.confusion_figure import draw_confusion
from smae.eval.export import Head, Prepared, write_weights
from smae.eval.probes import Exam
from smae.eval.probes.semi import SHARES
from smae.skeleton import Layout
from smae.train.build import build_objective, pick_device
from smae.train.checkpoint import Checkpoint, load_checkpoint, load_latest, load_weights, max_file_bytes
from smae.train.config import RunConfig, build_config
from smae.train.objectives import Objective
from smae.train.run_folder import Run

PROBE_SECTIONS = {"linear": "linear", "knn": "knn", "scratch": "scratch"} | dict.fromkeys(
    ("finetune", "transfer", *SHARES), "finetune"
)
"""The section of settings that a built-in probe follows."""

HEADS: dict[str, Literal["linear", "finetune"]] = {"linear": "linear", "finetune": "finetune", "transfer": "finetune"}
"""Modes whose trained classifier is kept, for ``smae predict``, and its kind."""


def judge(
    run: Run,
    store: Store,
    *,
    step: Path | None,
    protocol: str | None,
    modes: Sequence[str],
    seeds: int = 1,
    baselines: bool = True,
    sets: Sequence[str],
    device: str,
    say: Callable[[str], None],
    tell: Callable[[str, int, int], None],
) -> Evaluation:
    """Evaluate a run's encoder and write what came out; see ``smae.api.evaluate``."""
    target = pick_device(device)
    config, objective = load_objective(run, store, step=step, sets=sets, say=say)
    split, modes = store.split(protocol or config.protocol), expand(modes)
    about = run.describe()
    if "transfer" in modes and about["store"]["fingerprint"] == store.fingerprint:
        raise ConfigError(
            f"--mode transfer: {store.path} is the store that the run was pre-trained on, so nothing is transferred: "
            "name another with --data, or take --mode finetune"
        )
    exam = Exam(store, split, config, target, tell)
    overlap = seen_in_training(run, store, test=split.test)
    if overlap:
        say(
            f"careful: {overlap:,} of the {len(split.test):,} test clips were seen, without labels, in pre-training "
            f"(protocol {about['config']['protocol']}): this is no clean result of {split.name}"
        )
    trained = about["store"].get("mode", store.mode)
    if trained != store.mode:
        say(f"careful: trained on a store in {trained} mode, judged on one in {store.mode} mode")
    sizes = f"{len(split.train):,} train and {len(split.test):,} test clips"
    say(f"{split.name}, {store.mode} mode: {sizes}; {', '.join(modes)}")
    result = evaluate(objective.encoder, exam, modes=modes, seeds=seeds, baselines=baselines)
    run.results.mkdir(exist_ok=True)
    whole = as_json(result, classes=store.classes)
    for mode in modes:
        write_json(
            run.results / f"{split.name}-{mode}.json",
            {
                **{key: whole[key] for key in ("protocol", "classes", "test", "label", "seconds")},
                "mode": mode,
                "rows": [row for row in whole["rows"] if row["mode"] == mode],
                "predicted": whole["predicted"][mode],
                "confusion": whole["confusion"][mode],
                "store": store.fingerprint,
                "store_mode": store.mode,
                "layout": store.layout.name,
                "seen_in_training": overlap,
                "settings": config.model_dump(mode="json").get(PROBE_SECTIONS.get(mode, ""), {}),
                "augment": config.augment.model_dump(mode="json"),
                "seed": config.seed,
                "seeds": seeds,
            },
        )
        keep_logits(run, result, mode=mode)
        if mode in HEADS:
            keep_head(run, config, store, result, mode=mode)
        draw_confusion(
            result.confusion(mode, len(store.classes)),
            classes=class_names(store),
            title=f"{split.name}, {mode}: top-1 {result.scores[mode].top1:.1%}",
            path=run.results / f"{split.name}-{mode}.png",
        )
    return result


def keep_logits(run: Run, result: Evaluation, *, mode: str) -> None:
    """Write what a mode's classes were ranked by, for ensembles: ``logits`` float32 [n, K], ``test`` int64 [n]."""
    logits, path = result.scores[mode].logits, run.results / f"{result.protocol}-{mode}.safetensors"
    if logits is None:
        path.unlink(missing_ok=True)
    else:
        save_file({"logits": logits, "test": result.test}, path)


def keep_head(run: Run, config: RunConfig, store: Store, result: Evaluation, *, mode: str) -> None:
    """Write a mode's classifier, encoder and head, of the first seed's last epoch, to ``heads/<protocol>-<mode>``."""
    scores, origin = result.scores[mode], store.attributes.origin
    assert scores.model is not None, "these probes train a classifier"
    known = {key: origin[key] for key in ("source", "strict", "max_range", "frames") if key in origin}
    write_weights(
        run.heads / f"{result.protocol}-{mode}",
        scores.model,
        encoder=config.encoder.model_dump(mode="json"),
        augment=config.augment,
        layout=store.layout,
        head=Head(
            kind=HEADS[mode],
            classes=store.classes,
            names=tuple(class_names(store)),
            hidden=config.finetune.hidden if HEADS[mode] == "finetune" else 0,
            pool=config.linear.pool if HEADS[mode] == "linear" else "mean",
        ),
        prepared=check(Prepared, {**known, "mode": store.mode}, where="prepared"),
        origin={"run": run.path.name, "protocol": result.protocol, "mode": mode, "top1": scores.top1,
                "store": store.fingerprint, "dataset": store.dataset, "seed": config.seed},
        overwrite=True,
    )  # fmt: skip


def load_objective(
    run: Run, store: Store, *, step: Path | None = None, sets: Sequence[str] = (), say: Callable[[str], None]
) -> tuple[RunConfig, Objective]:
    """Return a run's settings and its trained objective, on the CPU.

    Raises:
        DataError: the store's joints are laid out otherwise, or no checkpoint can be used.
    """
    run.check_layout(store)
    config, objective, _ = load_trained(run, store.layout, step=step, sets=sets, say=say)
    return config, objective


def load_trained(
    run: Run, layout: Layout, *, step: Path | None = None, sets: Sequence[str] = (), say: Callable[[str], None]
) -> tuple[RunConfig, Objective, Checkpoint]:
    """Return a run's settings, its trained objective, on the CPU, and the checkpoint that it is from.

    Raises:
        DataError: the checkpoint's joints are laid out otherwise, or no checkpoint can be used.
    """
    config = build_config(merge(run.describe()["config"], parse_sets(sets)))
    objective = build_objective(config, layout)
    room = max_file_bytes(objective)
    if step is not None:
        checkpoint = load_checkpoint(step, max_bytes=room)
    else:
        checkpoint = load_latest(run.checkpoints, max_bytes=room)
    trained = checkpoint.state.get("identity", {}).get("layout", layout.name)
    if trained != layout.name:
        raise DataError(
            f"{checkpoint.path} was trained on layout {trained}, the run on {layout.name}: it is another run's"
        )
    load_weights(objective, checkpoint.average or checkpoint.model, where=str(checkpoint.path))
    objective.eval()
    weights = ", moving average of its weights" if checkpoint.average else ""
    say(
        f"{run.path}: {config.objective.name} after step {checkpoint.state['step']} of {checkpoint.state['steps']}"
        f"{weights}"
    )
    return config, objective, checkpoint


def seen_in_training(run: Run, store: Store, *, test: NDArray[np.int64]) -> int:
    """Return how many test clips the run's pre-training saw, by the store it was trained on."""
    about = run.describe()
    if about["store"]["fingerprint"] != store.fingerprint:
        return 0
    return len(np.intersect1d(store.split(about["config"]["protocol"]).train, test))
