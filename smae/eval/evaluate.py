"""Evaluation of a run: probes of its encoder and of baselines under one protocol, written to the run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from smae import interrupts
from smae.atomic_io import refuse_links, write_atomic, write_json
from smae.config import check
from smae.data.raw.labels import class_names
from smae.data.store.store import Store, open_store
from smae.errors import ConfigError
from smae.eval.export import HeadConfig, PreparationConfig, load_objective, write_weights
from smae.eval.features import raw_coordinates
from smae.eval.probes import Probe, ProbeContext, Scores, probes
from smae.eval.probes.finetune import LABEL_SHARES, semi_context
from smae.eval.probes.linear import knn_on, linear_on
from smae.eval.results import (
    CHANCE,
    LAST,
    PRETRAINED,
    RANDOM,
    RAW,
    SUPERVISED,
    Row,
    bootstrap,
    draw_confusion,
    std_over_seeds,
)
from smae.models.encoders import Encoder
from smae.train.build import pick_device, random_encoder
from smae.train.config import RunConfig
from smae.train.run_folder import Run, find_checkpoint

logger = logging.getLogger(__name__)

MODE_GROUPS: dict[str, tuple[str, ...]] = {
    "semi": tuple(LABEL_SHARES),
    "all": ("linear", "knn", "finetune", *LABEL_SHARES, "scratch"),
}
"""Names of several modes."""

PROBE_SECTIONS = {"linear": "linear", "knn": "knn", "scratch": "scratch"} | dict.fromkeys(
    ("finetune", "transfer", *LABEL_SHARES), "finetune"
)
"""Section of the settings of each built-in probe."""

HEADS = ("linear", "finetune", "transfer")
"""Modes whose classifier is kept for ``smae predict``."""


@dataclass(frozen=True)
class Evaluation:
    """Results of one encoder under one protocol.

    Attributes:
        protocol: full name of the split.
        store_mode: how the clips of the store were cleaned, ``reference`` or ``exact``.
        rows: the table of results; baselines follow each result.
        scores: of the pre-trained encoder (with ``scratch`` of the supervised one), by mode, first
            seed.
        test: clip numbers of the test part, in the order of the scores.
        seconds: wall time.
    """

    protocol: str
    store_mode: str
    rows: list[Row]
    scores: dict[str, Scores]
    test: NDArray[np.int64]
    seconds: float

    def confusion(self, mode: str, classes: int) -> NDArray[np.int64]:
        """Return the confusion matrix [K, K] of a mode: true class down, predicted across."""
        counts = np.zeros((classes, classes), np.int64)
        np.add.at(counts, (self.scores[mode].label, self.scores[mode].predicted), 1)
        return counts


def expand_modes(modes: Iterable[str]) -> list[str]:
    """Return modes with groups (``semi``, ``all``) replaced by their members, each once."""
    return list(dict.fromkeys(name for mode in modes for name in MODE_GROUPS.get(mode, (mode,))))


@interrupts.deferred("run it again")
def evaluate(
    *,
    checkpoint: Path | str | None = None,
    data: Path | str | Store | None = None,
    protocol: str | None = None,
    modes: Sequence[str] = ("linear", "knn"),
    seeds: int = 1,
    baselines: bool = True,
    select: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> tuple[Run, Evaluation]:
    """Evaluate the encoder of a run; write results, confusion matrices and heads to the run's folder.

    Args:
        checkpoint: a run folder or one of its checkpoints; default the newest run.
        data: store; default the one the run was trained on.
        protocol: split; default the one the run was trained on.
        modes: probes; ``semi`` and ``all`` are groups of several.
        seeds: number of evaluations, with the run's seed and those that follow it.
        baselines: evaluate a random encoder and raw coordinates too.
        select: epochs scored beside the last one: ``best_val``, ``best_test``.
        settings: merged over the run's, nested or dotted: ``{"linear.epochs": 50}``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.

    Raises:
        DataError: no run, no usable checkpoint, or a store of another layout.
        UnknownNameError: an unknown probe or protocol.
        ConfigError: fewer than one seed, or ``transfer`` to the store of pre-training.
    """
    # The imports above take seconds, in which a signal may have arrived.
    interrupts.check()
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: expected 1 or more")
    if select:
        settings = {**(settings or {}), "selection.also": list(select)}
    run, step = find_checkpoint(checkpoint)
    refuse_links(run.path.resolve())
    about = run.describe()
    store = data or about["store"]["path"]
    if isinstance(store, Path | str):
        store = open_store(store)
    target = pick_device(device)
    config, objective = load_objective(run, store, step=step, settings=settings)
    interrupts.check()
    split, modes = store.split(protocol or config.protocol), expand_modes(modes)
    if "transfer" in modes and about["store"]["fingerprint"] == store.fingerprint:
        raise ConfigError(
            f"--mode transfer: {store.path} is the store that the run was pre-trained on, so "
            "nothing is transferred: name another with --data, or use --mode finetune"
        )
    overlap = seen_in_training(run, store, test=split.test)
    if overlap:
        logger.warning(
            f"careful: {overlap:,} of the {len(split.test):,} test clips were seen, without "
            f"labels, in pre-training (protocol {about['config']['protocol']}): this is not a "
            f"clean result of {split.name}"
        )
    trained = about["store"].get("mode", store.mode)
    if trained != store.mode:
        logger.warning(f"careful: trained on a store in {trained} mode, evaluated on one in {store.mode} mode")
    sizes = f"{len(split.train):,} train and {len(split.test):,} test clips"
    logger.info(f"{split.name}, {store.mode} mode: {sizes}; {', '.join(modes)}")
    context = ProbeContext(store, split, config, target)
    result = evaluate_encoder(objective.encoder, context, modes=modes, seeds=seeds, baselines=baselines)
    for mode in modes:
        interrupts.check()
        _write(run, result, store, config, mode=mode, overlap=overlap, seeds=seeds)
    return run, result


def evaluate_encoder(
    encoder: Encoder, context: ProbeContext, *, modes: Sequence[str], seeds: int = 1, baselines: bool = True
) -> Evaluation:
    """Evaluate an encoder and the baselines with the probe of each mode.

    Args:
        encoder: pre-trained; it is moved to the device of the context, otherwise unchanged.
        context: data, split, settings.
        modes: names of probes, or groups.
        seeds: number of seeds, from that of the settings on. A seed draws heads, augmentation,
            labelled subsets and the random encoder; the pre-trained encoder is always the same.
        baselines: evaluate the random encoder and raw coordinates; without, ``scratch`` and
            chance are the only comparisons.

    Raises:
        UnknownNameError: an unknown mode; nothing is computed.
    """
    started = time.monotonic()
    chosen = {mode: probes.get(mode) for mode in expand_modes(modes)}
    encoder = encoder.to(context.device)
    found: dict[tuple[str, str, str], list[Scores]] = {}
    first: dict[str, Scores] = {}
    for number in range(seeds):
        config = context.config.model_copy(update={"seed": context.config.seed + number})
        seeded = replace(context, config=config)
        for mode, what, scores in _run_probes(encoder, seeded, chosen, baselines=baselines):
            if what in (PRETRAINED, SUPERVISED):
                first.setdefault(mode, scores)
            for selection, selected in ((LAST, scores), *scores.alternatives.items()):
                # Without models and logits, which would fill the memory.
                slim = replace(selected, model=None, logits=None)
                found.setdefault((mode, what, selection), []).append(slim)
    chance = 1 / len(np.unique(context.store.clips.label[context.split.test]))
    rows = []
    for mode in chosen:
        rows += [_row(*key, scores) for key, scores in found.items() if key[0] == mode]
        rows.append(Row(CHANCE, chance, mode=mode))
    seconds = time.monotonic() - started
    split = context.split
    return Evaluation(split.name, context.store.mode, rows, first, split.test, seconds)


def _run_probes(
    encoder: Encoder, context: ProbeContext, chosen: Mapping[str, Probe], *, baselines: bool
) -> Iterator[tuple[str, str, Scores]]:
    """Yield mode, classifier and scores of the encoder and the baselines, for one seed."""
    untrained = random_encoder(context.config, context.store.layout).to(context.device)
    raw_linear = linear_on(raw_coordinates, context) if baselines else None
    for mode, probe in chosen.items():
        if mode == "scratch":
            yield mode, SUPERVISED, probe(untrained, context)
        else:
            yield mode, PRETRAINED, probe(encoder, context)
            if baselines:
                yield mode, RANDOM, probe(untrained, context)
        if raw_linear is None:
            continue
        if mode == "knn":
            yield mode, RAW, knn_on(raw_coordinates, context)
        part, what = semi_context(mode, context), RAW if mode == "linear" else f"{RAW}, linear"
        yield mode, what, raw_linear if part is context else linear_on(raw_coordinates, part)


def _row(mode: str, what: str, selection: str, scores: Sequence[Scores]) -> Row:
    top1 = [one.top1 for one in scores]
    top5 = [one.top5 for one in scores if one.top5 is not None]
    return Row(
        what,
        float(np.mean(top1)),
        float(np.mean(top5)) if top5 else None,
        std=std_over_seeds(top1),
        interval=bootstrap(np.stack([one.correct for one in scores])),
        seeds=len(scores),
        mode=mode,
        selection=selection,
    )


def result_json(result: Evaluation, mode: str, *, classes: Sequence[str]) -> dict[str, Any]:
    """Return the result of one mode as plain data, per-clip predictions included."""
    scores = result.scores[mode]
    return {
        "protocol": result.protocol,
        "classes": list(classes),
        "test": result.test.tolist(),
        "label": scores.label.tolist(),
        "seconds": round(result.seconds, 1),
        "mode": mode,
        "rows": [row.as_json() for row in result.rows if row.mode == mode],
        "predicted": scores.predicted.tolist(),
        "confusion": result.confusion(mode, len(classes)).tolist(),
    }


def _write(
    run: Run, result: Evaluation, store: Store, config: RunConfig, *, mode: str, overlap: int, seeds: int
) -> None:
    """Write the result of a mode as JSON, its logits, its classifier, and its confusion figure."""
    stem, scores = f"{result.protocol}-{mode}", result.scores[mode]
    sections = config.model_dump(mode="json")
    content = {
        **result_json(result, mode, classes=store.classes),
        "store": store.fingerprint,
        "store_mode": store.mode,
        "layout": store.layout.name,
        "seen_in_training": overlap,
        "settings": sections.get(PROBE_SECTIONS.get(mode, ""), {}),
        "augment": sections["augment"],
        "seed": config.seed,
        "seeds": seeds,
    }
    write_json(run.results / f"{stem}.json", content)
    # Logits are for ensembles. Stale ones must not stay beside a new result.
    logits = run.results / f"{stem}.safetensors"
    if scores.logits is None:
        logits.unlink(missing_ok=True)
    else:
        write_atomic(logits, save({"logits": scores.logits, "test": result.test}))
    if mode in HEADS:
        _write_head(run, config, store, result, mode=mode)
    draw_confusion(
        result.confusion(mode, len(store.classes)),
        classes=class_names(store),
        title=f"{result.protocol}, {mode}: top-1 {scores.top1:.1%}",
        path=run.results / f"{stem}.png",
    )


def _write_head(run: Run, config: RunConfig, store: Store, result: Evaluation, *, mode: str) -> None:
    """Write the classifier of a mode (first seed, last epoch) to ``heads/<protocol>-<mode>``."""
    scores, origin = result.scores[mode], store.attributes.origin
    assert scores.model is not None, "these probes train a classifier"
    known = {key: origin[key] for key in ("source", "strict", "max_range", "frames") if key in origin}
    head: dict[str, Any] = {"kind": PROBE_SECTIONS[mode], "classes": store.classes, "names": class_names(store)}
    if mode == "linear":
        head["pool"] = config.linear.pool
    else:
        head["hidden"] = config.finetune.hidden
    write_weights(
        run.heads / f"{result.protocol}-{mode}",
        scores.model,
        encoder=config.encoder.model_dump(mode="json"),
        augment=config.augment,
        layout=store.layout,
        head=check(HeadConfig, head, where="head"),
        prepared=check(PreparationConfig, {**known, "mode": store.mode}, where="prepared"),
        origin={
            "run": run.path.name,
            "protocol": result.protocol,
            "mode": mode,
            "top1": scores.top1,
            "store": store.fingerprint,
            "dataset": store.dataset,
            "seed": config.seed,
        },
    )


def seen_in_training(run: Run, store: Store, *, test: NDArray[np.int64]) -> int:
    """Return how many test clips the run's pre-training saw; 0 if it used another store."""
    about = run.describe()
    if about["store"]["fingerprint"] != store.fingerprint:
        return 0
    return len(np.intersect1d(store.split(about["config"]["protocol"]).train, test))
