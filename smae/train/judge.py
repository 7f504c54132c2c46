"""Evaluating a run: its encoder from a checkpoint, probes under a protocol, results and pictures into its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smae.config import merge, overrides
from smae.data.storage.store import Store
from smae.errors import DataError
from smae.train.build import build_objective, pick_device
from smae.train.checkpoint import latest, load_checkpoint, load_weights, room_for
from smae.train.config import RunConfig, build_config
from smae.train.evaluate import Evaluation, as_json, evaluate
from smae.train.objectives import Objective
from smae.train.pictures import draw_confusion
from smae.train.probes import Exam
from smae.train.run import Run, write_json

PROBE_SECTIONS = ("linear", "knn", "finetune")


def judge(
    run: Run,
    store: Store,
    *,
    step: Path | None,
    protocol: str | None,
    modes: Sequence[str],
    sets: Sequence[str],
    device: str,
    say: Callable[[str], None],
    tell: Callable[[str, int, int], None],
) -> Evaluation:
    """Evaluate a run's encoder and write what came out; see ``smae.api.evaluate``."""
    target = pick_device(device)
    config, objective = load_objective(run, store, step=step, sets=sets, say=say)
    split = store.split(protocol or config.protocol)
    exam = Exam(store, split, config, target, tell)
    overlap = seen_in_training(run, store, test=split.test)
    if overlap:
        say(
            f"careful: {overlap:,} of the {len(split.test):,} test clips were seen, without labels, in pre-training "
            f"(protocol {run.describe()['config']['protocol']}): this is no clean result of {split.name}"
        )
    trained = run.describe()["store"].get("mode", store.mode)
    if trained != store.mode:
        say(f"careful: trained on a store in {trained} mode, judged on one in {store.mode} mode")
    sizes = f"{len(split.train):,} train and {len(split.test):,} test clips"
    say(f"{split.name}, {store.mode} mode: {sizes}; {', '.join(modes)}")
    result = evaluate(objective.encoder, exam, modes=modes)
    run.results.mkdir(exist_ok=True)
    for mode in modes:
        whole = as_json(result, classes=store.classes)
        write_json(
            run.results / f"{split.name}-{mode}.json",
            {
                **{key: whole[key] for key in ("protocol", "classes", "test", "seconds")},
                "mode": mode,
                "rows": [row for row in whole["rows"] if row["mode"] == mode],
                "predicted": whole["predicted"][mode],
                "confusion": whole["confusion"][mode],
                "store": store.fingerprint,
                "store_mode": store.mode,
                "layout": store.layout.name,
                "seen_in_training": overlap,
                "settings": config.model_dump(mode="json")[mode] if mode in PROBE_SECTIONS else {},
            },
        )
        draw_confusion(
            result.confusion(mode, len(store.classes)),
            classes=store.classes,
            title=f"{split.name}, {mode}: top-1 {result.scores[mode].top1:.1%}",
            path=run.results / f"{split.name}-{mode}.png",
        )
    return result


def load_objective(
    run: Run, store: Store, *, step: Path | None = None, sets: Sequence[str] = (), say: Callable[[str], None]
) -> tuple[RunConfig, Objective]:
    """Return a run's settings and its trained objective, on the CPU.

    Raises:
        DataError: the store's joints are laid out otherwise, or no checkpoint can be used.
    """
    run.check_layout(store)
    config = build_config(merge(run.describe()["config"], overrides(sets)))
    objective = build_objective(config, store.layout)
    room = room_for(objective)
    if step is not None:
        checkpoint = load_checkpoint(step, at_most=room)
    else:
        checkpoint = latest(run.checkpoints, note=say, at_most=room)
    trained = checkpoint.state.get("identity", {}).get("layout", store.layout.name)
    if trained != store.layout.name:
        raise DataError(
            f"{checkpoint.path} was trained on layout {trained}, the run on {store.layout.name}: it is another run's"
        )
    load_weights(objective, checkpoint.average or checkpoint.model, where=str(checkpoint.path))
    objective.eval()
    weights = ", moving average of its weights" if checkpoint.average else ""
    say(
        f"{run.path}: {config.objective.name} after step {checkpoint.state['step']} of {checkpoint.state['steps']}"
        f"{weights}"
    )
    return config, objective


def seen_in_training(run: Run, store: Store, *, test: NDArray[np.int64]) -> int:
    """Return how many test clips the run's pre-training saw, by the store it was trained on."""
    about = run.describe()
    if about["store"]["fingerprint"] != store.fingerprint:
        return 0
    return len(np.intersect1d(store.split(about["config"]["protocol"]).train, test))
