"""Which epoch of a probe's training counts: the last, or one chosen on validation clips; test chooses nothing.

``last`` trains on the whole train part. ``best_val`` trains anew on the train clips of some subjects, keeps the epoch
that is best on those of the others, and is scored on test once. ``best_test`` is the highest test accuracy of any
epoch of the first: no honest result, but what many printed numbers are, so it can stand beside under its own name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import nn

from smae.errors import DataError
from smae.eval.probes import Exam, Scores
from smae.rng import Noise

LAST, BEST_VAL, BEST_TEST = "last", "best_val", "best_test"

Watch = Callable[[nn.Module], None]
Fit = Callable[[Exam, Watch], nn.Module]
"""Trains a classifier on an exam's train part; shows it after each epoch."""
Judge = Callable[[nn.Module, Exam], Scores]
"""Scores a classifier on an exam's test part."""


def select(fit: Fit, judge: Judge, exam: Exam) -> Scores:
    """Return the last epoch's scores, and beside them those of the epochs that ``selection.also`` asks for."""
    also, tests = exam.config.selection.also, list[Scores]()
    watch: Watch = (lambda model: tests.append(judge(model, exam))) if BEST_TEST in also else _look_away
    model = fit(exam, watch)
    beside = dict[str, Scores]()
    if BEST_VAL in also:
        beside[BEST_VAL] = _best_val(fit, judge, exam)
    if BEST_TEST in also:
        beside[BEST_TEST] = max(tests, key=lambda scores: scores.top1)
    return replace(judge(model, exam), model=model, beside=beside)


def _look_away(model: nn.Module) -> None:
    """Look at no epoch but the last."""


def _best_val(fit: Fit, judge: Judge, exam: Exam) -> Scores:
    inner, best, kept = carve(exam), -1.0, {}

    def watch(model: nn.Module) -> None:
        nonlocal best, kept
        top1 = judge(model, inner).top1
        if top1 > best:  # of equal epochs, the first
            best, kept = top1, copy.deepcopy(model.state_dict())

    model = fit(inner, watch)
    model.load_state_dict(kept)
    return judge(model, exam)


def carve(exam: Exam) -> Exam:
    """Return the exam that learns from the train clips of some subjects and is scored on those of the others.

    ``selection.val_subjects`` of the train part's subjects, one at least, drawn by the seed, are the others.

    Raises:
        DataError: the train part is of one subject, or of nobody knows whom.
    """
    subject = np.asarray(exam.store.clips.subject)[exam.split.train]
    known = np.unique(subject[subject >= 0])
    if len(known) < 2 or (subject < 0).any():
        raise DataError(
            f"best_val carves validation clips out of the train part by subject, and that of {exam.split.name} has "
            f"{len(known)} known subjects: it needs two or more; leave best_val out"
        )
    count = min(len(known) - 1, max(1, round(exam.config.selection.val_subjects * len(known))))
    rank = Noise(exam.config.seed, 0, known.astype(np.int64)).uniform("val-subjects", 1)[:, 0].argsort(kind="stable")
    held_out = np.isin(subject, known[rank[:count]])
    return exam.on(train=exam.split.train[~held_out], test=exam.split.train[held_out])
