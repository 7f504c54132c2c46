"""Carry out one row with one seed: pre-train, evaluate, keep what came out. What is done already is not done again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import smae
from benchmarks.study.results import ProbeResults, Result, Score, commit, here, keep, path_of, read
from benchmarks.study.rows import Evaluation, Row, Study
from smae.config import parse_sets
from smae.errors import ConfigError
from smae.eval.records import CHANCE
from smae.train.config import build_config
from smae.train.metrics_log import read_log

Say = Callable[[str], None]


def carry_out(study: Study, row: Row, *, seed: int, data: Path, work: Path, results: Path, say: Say) -> Result:
    """Return a row's result for one seed, pre-trained and evaluated as far as that is not kept already.

    What is kept counts if settings and store are the same, even if smae has more settings since. An interrupted
    pre-training goes on where its last checkpoint was, evaluating after its last finished evaluation.

    Args:
        study: the row's study.
        row: what to do.
        seed: of pre-training, probes and the random encoder.
        data: the store.
        work: folder of the runs.
        results: folder of the results.
        say: takes lines for people.
    """
    path = path_of(study.name, row.name, seed, folder=results)
    config, fingerprint = study.config(row, seed=seed).model_dump(mode="json"), smae.open_store(data).fingerprint
    result = read(path)
    if result is not None and (settings_of(result), result.store) != (config, fingerprint):
        result = None
    known = {(one.modes, one.sets): one for one in result.evaluated} if result else {}
    evaluated = [known.get((evaluation.modes, evaluation.sets)) for evaluation in row.evaluations]
    if result is not None and None not in evaluated:
        say(f"{study.name} {row.name}, seed {seed}: done before")
        return result
    # Other settings, another folder: a run that was begun with others is not gone on with.
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]
    out = work / study.name / f"{row.name}-{seed}-{digest}"
    if result is None or not out.is_dir():
        outcome = smae.pretrain(
            data=data, out=out, recipe=study.recipe, settings=parse_sets(study.settings(row)), seed=seed, device="cpu",
            resume=True,
        )  # fmt: skip
        # The log counts on where an interrupted run stopped.
        seconds = round(float(read_log(outcome.run.log)[-1]["seconds"]), 1)
        # Pre-trained anew, with the same settings and seed: what was evaluated before stands.
        before = tuple(one for one in evaluated if one is not None)
        result = Result(
            row.name, seed, outcome.steps, outcome.loss, seconds, before, config, fingerprint, commit(), here()
        )
        keep(result, path)
    for number, evaluation in enumerate(row.evaluations):
        if evaluated[number] is None:
            one = evaluated[number] = evaluate(evaluation, out, data=data, seed=seed)
            result = replace(result, evaluated=tuple(other for other in evaluated if other is not None))
            keep(result, path)
            summary = ", ".join(
                f"{score.mode} {score.what} {score.top1:.1%}" for score in one.scores if score.what != CHANCE
            )
            say(f"{study.name} {row.name}, seed {seed}: {summary}")
    return result


def settings_of(result: Result) -> Any:
    """Return the settings that a result was kept with; those that smae did not have yet are what they are by default.

    None where smae does not have them any more.
    """
    try:
        return build_config(result.config).model_dump(mode="json")
    except ConfigError:
        return None


def evaluate(evaluation: Evaluation, run: Path, *, data: Path, seed: int) -> ProbeResults:
    """Return what an evaluation finds about a run's encoder."""
    began = time.monotonic()
    _, found = smae.evaluate(
        run=run,
        data=data,
        probes=evaluation.modes,
        settings=parse_sets(evaluation.sets),
        baselines=seed < evaluation.baselines,
        device="cpu",
    )
    scores = tuple(Score(evaluation.label(row.mode, row.selection), row.what, row.top1) for row in found.rows)
    return ProbeResults(evaluation.modes, evaluation.sets, round(time.monotonic() - began, 1), scores)
