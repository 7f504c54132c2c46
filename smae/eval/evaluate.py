"""Evaluation of an encoder: probes of it and of baselines, each written as a record."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save

from smae import interrupts
from smae.atomic_io import refuse_links, write_atomic, write_json
from smae.config import (
    HEADS,
    PROBE_SECTIONS,
    Section,
    as_settings,
    check,
    check_effect,
    expand_modes,
    merge,
    renamed,
)
from smae.data.raw.labels import class_names
from smae.data.store import Store, open_store, preparation
from smae.data.store.convert import map_store, map_whole
from smae.data.store.splits import Split
from smae.errors import ConfigError
from smae.eval import records
from smae.eval.export import (
    HeadConfig,
    PreparationConfig,
    load_trained,
    read_exported,
    with_frames,
    write_weights,
)
from smae.eval.probes import Precision, ProbeContext, code_of
from smae.eval.probes import probes as PROBES
from smae.eval.records import Record, Row
from smae.eval.results import Result, draw_confusion, matrix, read_results
from smae.eval.run_probes import Outcome, data_warnings, run_probes, seen_in_training
from smae.models.encoders import Encoder
from smae.tables import Grid, Table, percent, results
from smae.train.checkpoint import encoder_sha256
from smae.train.config import RunConfig, build_config
from smae.train.distributed import pick_device
from smae.train.run_folder import RUNS, Run, find_checkpoint, is_packaged, stores_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation(Table):
    """Results of one encoder under one protocol.

    Attributes:
        protocol: full name of the split.
        store_mode: how the clips of the store were cleaned, ``reference`` or ``exact``.
        results: one for each probe, over all seeds.
        reused: how many records were there already.
        seconds: wall time.
    """

    protocol: str
    store_mode: str
    results: list[Result]
    reused: int
    seconds: float

    @property
    def rows(self) -> list[Row]:
        """The table of results; baselines follow each result."""
        return [row for result in self.results for row in result.rows]

    @property
    def matrix(self) -> dict[str, list[Row | None]]:
        """Rows by classifier, a column a probe, in the order of ``results``."""
        return matrix(self.results)

    @property
    def warnings(self) -> list[str]:
        """What makes the figures less than they seem, each once."""
        return list(dict.fromkeys(words for result in self.results for words in result.warnings))

    def tables(self) -> list[Grid]:
        """Return the table of results and, of several probes, one with a column for each."""
        grids = [results(self.rows, title=f"{self.protocol} ({self.store_mode} mode)")]
        if len(self.results) > 2:
            columns = ("top-1 %", *(result.mode for result in self.results))
            cells = [
                (what, *("-" if row is None else percent(row.top1) for row in found))
                for what, found in self.matrix.items()
            ]
            grids.append(Grid(columns, cells, left=1))
        return grids


class Evaluated(NamedTuple):
    """Where the records of an evaluation are, and its results."""

    run: Run
    evaluation: Evaluation

    def _repr_html_(self) -> str:
        return self.evaluation._repr_html_()


@dataclass(frozen=True)
class Subject:
    """The encoder that is evaluated.

    Attributes:
        folder: where its records go: a run, or the folder of an exported encoder.
        store, protocol: of its pre-training, as in ``run.json``.
        config: settings.
        encoder: on the CPU.
        checkpoint: ``step`` and ``sha256`` of the encoder's weights.
        manifest: SHA-256 of the checkpoint's manifest; empty for an exported encoder.
    """

    folder: Run
    store: Mapping[str, Any]
    protocol: str
    config: RunConfig
    encoder: Encoder = field(repr=False)
    checkpoint: dict[str, Any]
    manifest: str = ""


@renamed(checkpoint="run", modes="probes")
@interrupts.deferred("run the same command again: what is finished is kept")
def evaluate(
    *,
    run: Path | str | None = None,
    encoder: Path | str | None = None,
    data: Path | str | Store | None = None,
    layout: str | None = None,
    protocol: str | None = None,
    probes: Sequence[str] = ("linear", "knn"),
    seeds: int = 1,
    baselines: bool = True,
    select: Sequence[str] = (),
    settings: Mapping[str, Any] | Section | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    again: bool = False,
) -> Evaluated:
    """Evaluate an encoder; write a record for each probe and seed, confusion matrices and heads.

    Each record is written as soon as its probe is done. What was evaluated before, with the same
    store, parts, settings, checkpoint and seed, is not evaluated again.

    Args:
        run: a run folder or one of its checkpoints; default the newest run with one.
        encoder: the folder of an exported encoder instead, where the records go too; or the name of
            packaged weights, whose records go to ``runs/``.
        data: store; default the one the run was trained on.
        layout: map the joints of ``data`` to this layout as they are read; see ``map_store``.
        protocol: split; default the one the run was trained on.
        probes: ``semi`` and ``all`` are groups of several.
        seeds: number of evaluations, with the run's seed and those that follow it.
        baselines: evaluate a random encoder and raw coordinates too.
        select: epochs scored beside the last one: ``best_val``, ``best_test``.
        settings: of probes, merged over the run's, nested or dotted: ``{"linear.epochs": 50}``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.
        precision: of encoders; ``bf16`` is faster where the device has it, and gives other records.
        again: evaluate anew what has a record; both records stay, and the later one counts.

    Raises:
        DataError: no run, no usable checkpoint or encoder, or a store of another layout.
        UnknownNameError: an unknown probe or protocol.
        ConfigError: fewer than one seed, a run and an encoder, settings without effect on these
            probes, an unknown precision, or ``transfer`` to the store of pre-training.
    """
    # The imports above take seconds, in which a signal may have arrived.
    interrupts.check()
    started = time.monotonic()
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: expected 1 or more")
    modes = expand_modes(probes, known=PROBES.names())
    chosen = {mode: PROBES.get(mode) for mode in modes}
    overrides = as_settings(settings)
    check_effect(overrides, modes, baselines=baselines)
    if select:
        overrides = merge(overrides, {"selection": {"also": list(select)}})
    target = pick_device(device)
    if layout is not None:
        data = map_store(data, layout)
    store, subject = _open(run, encoder, data, overrides)
    interrupts.check()
    trained = stores_of(subject.store).get(store.fingerprint)
    split = store.split(protocol or (trained or {}).get("protocol") or subject.config.protocol)
    if "transfer" in modes and trained is not None:
        raise ConfigError(
            f"--probe transfer: {store.path} is the store that the run was pre-trained on, so "
            "nothing is transferred: name another with --data, or use --probe finetune"
        )
    context = ProbeContext(store, split, subject.config, target, precision, reuse=not again)
    asked = {
        (subject.config.seed + number, mode): identity(subject, context, mode, number=number, baselines=baselines)
        for number in range(seeds)
        for mode in modes
    }
    there = {record.identity: record for record in records.read_records(subject.folder, strict=False)}
    missing = {unit: content for unit, content in asked.items() if again or records.digest(content) not in there}
    reused = len(asked) - len(missing)
    if reused:
        words = "all" if not missing else f"{reused} of {len(asked)}"
        logger.info(f"{words} evaluations are done already, and kept (--again evaluates anew)")
        now, kept = records.circumstances(), [there[key] for key in map(records.digest, asked.values()) if key in there]
        if any(record.content[key] != now[key] for record in kept for key in ("commit", "versions")):
            logger.info("some of them were made with other versions of smae, torch, numpy or Python")
    if missing:
        refuse_links(subject.folder.path.resolve())
        shared = _describe(subject, store, split)
        logger.info(f"{split.name}, {store.mode} mode: {len(split.train):,} train and {len(split.test):,} test clips")
        for outcome in run_probes(subject.encoder, context, chosen, missing, baselines=baselines):
            content = missing[outcome.seed, outcome.mode] | shared | records.circumstances()
            content |= {"manifest": subject.manifest, "device": str(target)}
            record = make_record(content, outcome, store, split)
            write = partial(_write, subject.folder, store, subject.config, record, outcome)
            records.keep(subject.folder, records.stem(content), write)
    names = [(records.digest(asked[subject.config.seed, mode], without=records.SEED), mode) for mode in modes]
    found = {records.digest(one.first, without=records.SEED): one for one in read_results(subject.folder, strict=False)}
    wanted = range(subject.config.seed, subject.config.seed + seeds)
    chosen_results = [
        replace(result, records=tuple(one for one in result.records if one.content["seed"] in wanted))
        for result in (found[name] for name, _ in names)
    ]
    return Evaluated(
        subject.folder, Evaluation(split.name, store.mode, chosen_results, reused, time.monotonic() - started)
    )


def _open(
    checkpoint: Path | str | None,
    encoder: Path | str | None,
    data: Path | str | Store | None,
    settings: Mapping[str, Any],
) -> tuple[Store, Subject]:
    """Return the store and the encoder, of a run or exported."""
    if encoder is not None:
        if checkpoint is not None:
            raise ConfigError("give a run (--run) or an exported encoder (--encoder), not both")
        store = data if isinstance(data, Store) else open_store(data)
        loaded, values = read_exported(encoder)
        store = map_whole(store, loaded.layout)
        origin = loaded.config.origin
        config = build_config(merge(values, settings))
        checkpoint_of = {"step": int(origin.get("step", 0)), "sha256": loaded.config.sha256}
        trained = origin.get("config", {}).get("protocol", "")
        logger.info(f"using {encoder}, exported after step {checkpoint_of['step']:,} of {origin.get('run', '?')}")
        model, frames = loaded.encoder, config.augment.frames
        if frames != loaded.config.augment.frames:
            model = with_frames(model, loaded.config.encoder, frames=frames, layout=loaded.layout)
        # Installed files stay as they are.
        folder = Run(RUNS / encoder if is_packaged(encoder) else Path(encoder))
        return store, Subject(folder, origin.get("store", {}), trained, config, model, checkpoint_of)
    run, step = find_checkpoint(checkpoint)
    about, opened = run.describe(), run.open_store(data)
    config, objective, found = load_trained(run, opened.layout, step=step, settings=settings)
    model = objective.encoder
    manifest = hashlib.sha256((found.path / "manifest.json").read_bytes()).hexdigest()
    checkpoint_of = {"step": found.state["step"], "sha256": encoder_sha256(model)}
    trained = about["config"].get("protocol", "")
    return opened, Subject(run, about["store"], trained, config, model, checkpoint_of, manifest)


def identity(
    subject: Subject, context: ProbeContext, mode: str, *, number: int = 0, baselines: bool = True
) -> dict[str, Any]:
    """Return the keys of ``records.IDENTITY``: all that figures of a probe depend on."""
    config, split = context.config.model_dump(mode="json"), context.split
    settings = config.get(PROBE_SECTIONS.get(mode, ""))
    if settings is None:
        # A plug-in may read all of them, and its code may change without its name.
        settings = {name: config[name] for name in sorted({*PROBE_SECTIONS.values()})} | {"code": code_of(mode)}
    if context.precision != "float32":
        settings = {**settings, "precision": context.precision}
    selection = config["selection"]
    if "best_val" not in selection["also"]:
        selection = {"also": selection["also"]}
    return {
        "store": context.store.fingerprint,
        "protocol": split.name,
        "parts": parts(split),
        "mode": mode,
        "settings": settings,
        "augment": config["augment"],
        "selection": selection,
        "baselines": {"linear": config["linear"]} if baselines else None,
        "checkpoint": subject.checkpoint,
        "seed": config["seed"] + number,
    }


def parts(split: Split) -> dict[str, Any]:
    """Return the sizes of the parts of a split, and the SHA-256 of their clip numbers."""
    chosen = (split.train, split.test, *([split.val] if len(split.val) else []))
    numbers = b"|".join(part.astype("<i8").tobytes() for part in chosen)
    return {"train": len(split.train), "test": len(split.test), "sha256": hashlib.sha256(numbers).hexdigest()}


def _describe(subject: Subject, store: Store, split: Split) -> dict[str, Any]:
    """Return what a record says about its data, and warn of what makes figures flatter."""
    seen = seen_in_training(subject.store, subject.protocol, store, test=split.test)
    warnings = data_warnings(store, split)
    if seen:
        warnings.append(
            f"{seen:,} of the {len(split.test):,} test clips were seen, without labels, in "
            f"pre-training (protocol {subject.protocol}): this is not a clean result of {split.name}"
        )
    trained = subject.store.get("mode", store.mode)
    if trained != store.mode:
        warnings.append(f"trained on a store in {trained} mode, evaluated on one in {store.mode} mode")
    for words in warnings:
        logger.warning(f"careful: {words}")
    label = np.asarray(store.clips.label)
    return {
        "version": records.VERSION,
        "dataset": store.dataset,
        "store_mode": store.mode,
        "layout": store.layout.name,
        "classes": list(store.classes),
        "most_frequent": int(np.bincount(label[split.train]).argmax()),
        "seen_in_training": seen,
        "warnings": warnings,
    }


def make_record(content: Mapping[str, Any], outcome: Outcome, store: Store, split: Split) -> Record:
    """Return the record of an outcome, checked as it will be when it is read."""
    scores = outcome.scores
    whole = {
        "id": records.digest(content),
        **content,
        "seconds": round(outcome.seconds, 1),
        "rows": [records.row_json(row) for row in outcome.rows],
        "confusion": records.confusion_matrix(scores.label, scores.predicted, len(store.classes)).tolist(),
        "test": split.test.tolist(),
        "label": scores.label.tolist(),
        "predicted": scores.predicted.tolist(),
    }
    try:
        return records.parse_record(records.stem(content), whole)
    except ValueError as error:
        raise ConfigError(f"probe '{outcome.mode}' gave scores that do not fit: {error}: mend the plug-in") from error


def _write(run: Run, store: Store, config: RunConfig, record: Record, outcome: Outcome, name: str) -> None:
    """Write the files of a record: logits, classifier, confusion figure, at last the JSON."""
    scores, path = outcome.scores, run.results / f"{name}.json"
    # Logits are for ensembles.
    if scores.logits is not None:
        write_atomic(path.with_suffix(".safetensors"), save({"logits": scores.logits, "test": record.test}))
    if outcome.mode in HEADS and outcome.seed == config.seed:
        _write_head(run.heads / name, config, store, record, outcome)
    draw_confusion(
        np.array(record.content["confusion"]),
        classes=class_names(store),
        title=f"{record.content['protocol']}, {outcome.mode}: top-1 {scores.top1:.1%}",
        path=path.with_suffix(".png"),
    )
    write_json(path, record.content)


def _write_head(to: Path, config: RunConfig, store: Store, record: Record, outcome: Outcome) -> None:
    """Write the classifier of a record, of its last epoch."""
    scores, mode = outcome.scores, outcome.mode
    assert scores.model is not None, "these probes train a classifier"
    head: dict[str, Any] = {"kind": PROBE_SECTIONS[mode], "classes": store.classes, "names": class_names(store)}
    if mode == "linear":
        head["pool"] = config.linear.pool
    else:
        head["hidden"] = config.finetune.hidden
    about = {key: record.content[key] for key in ("id", "protocol", "mode", "store", "dataset", "seed", "checkpoint")}
    write_weights(
        to,
        scores.model,
        encoder=config.encoder.model_dump(mode="json"),
        augment=config.augment,
        layout=store.layout,
        head=check(HeadConfig, head, where="head"),
        prepared=check(PreparationConfig, preparation(store), where="prepared"),
        origin={**about, "top1": scores.top1},
        missing=np.array(store.layout.joints)[store.missing[0]].tolist(),
    )
