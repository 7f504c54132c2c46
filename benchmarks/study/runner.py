"""Carry out one row with one seed: pre-train, judge, keep what came out. What is done already is not done again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import smae
from benchmarks.study.results import Result, Score, commit, here, path_of
from benchmarks.study.results import keep as keep_result
from benchmarks.study.results import read as read_result
from benchmarks.study.rows import Row, Study

Say = Callable[[str], None]


def carry_out(study: Study, row: Row, *, seed: int, data: Path, work: Path, results: Path, say: Say) -> Result:
    """Return a row's result for one seed: the one that is kept, if its settings and store are still the same.

    An interrupted pre-training goes on where its last checkpoint was; probes begin again.

    Args:
        study: the row's study.
        row: what to do.
        seed: of pre-training, probes and the random encoder.
        data: the store.
        work: folder of the runs.
        results: folder of the results.
        say: takes lines for people.
    """
    store, path = smae.open_store(data), path_of(study.name, row.name, seed, folder=results)
    config = study.config(row, seed=seed).model_dump(mode="json")
    wanted = {"config": config, "exams": plain(row), "store": store.fingerprint}
    kept = read_result(path)
    if kept is not None and wanted == {key: getattr(kept, key) for key in wanted}:
        say(f"{study.name} {row.name}, seed {seed}: done before")
        return kept
    # Other settings, another folder: a run that was begun with others is not gone on with.
    digest = hashlib.sha256(json.dumps(wanted["config"], sort_keys=True).encode()).hexdigest()[:8]
    out = work / study.name / f"{row.name}-{seed}-{digest}"
    began = time.monotonic()
    outcome = smae.pretrain(
        data=data, out=out, recipe=study.recipe, sets=study.settings(row), seed=seed, device="cpu", resume=True, say=say
    )
    trained = time.monotonic()
    scores: list[Score] = []
    for exam in row.exams:
        _, found = smae.evaluate(
            checkpoint=out, data=data, modes=exam.modes, sets=exam.sets, baselines=row.baselines, device="cpu", say=say
        )
        scores += [Score(exam.told(one.mode), one.what, one.top1) for one in found.rows]
    done = time.monotonic()
    result = Result(
        row.name, seed, tuple(scores), outcome.loss, outcome.steps,
        {"pretrain": round(trained - began, 1), "evaluate": round(done - trained, 1)},
        **wanted, commit=commit(), machine=here(),
    )  # fmt: skip
    keep_result(result, path)
    told = ", ".join(f"{score.mode} {score.what} {score.top1:.1%}" for score in scores if score.what != "chance")
    say(f"{study.name} {row.name}, seed {seed}: {told}")
    return result


def plain(row: Row) -> list[Any]:
    """Return a row's exams as JSON gives them back."""
    return json.loads(json.dumps([asdict(exam) for exam in row.exams]))  # type: ignore[no-any-return]
