"""Evaluation: probes on a split, and beside each result its baselines, from the same run.

Nothing is selected on test: a probe trains to its last epoch and is scored once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.models.encoders import Encoder
from smae.train.build import random_encoder
from smae.train.features import raw
from smae.train.probes import Exam, Scores, finetune, knn, linear, probes  # noqa: F401  (files the built-in probes)
from smae.train.probes.knn import knn_on
from smae.train.probes.linear import linear_on

PRETRAINED, RANDOM, RAW, CHANCE = "pre-trained encoder", "random encoder", "raw coordinates", "chance"


@dataclass(frozen=True)
class Row:
    """One line of the results table; accuracies in [0, 1].

    Attributes:
        mode: probe (``linear``, ``knn``, ...).
        what: what was judged.
        top1: share right.
        top5: share among the first five, or None.
    """

    mode: str
    what: str
    top1: float
    top5: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Results of one encoder under one protocol.

    Attributes:
        protocol: the split's full name.
        store_mode: how the store's clips were cleaned, ``reference`` or ``exact``.
        rows: the table, baselines beside each result.
        scores: the pre-trained encoder's, by mode.
        test: clip numbers of the test part, in the scores' order.
        seconds: time it took.
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


def evaluate(encoder: Encoder, exam: Exam, *, modes: Sequence[str]) -> Evaluation:
    """Judge an encoder by each mode's probe, and each baseline by the same probe.

    Args:
        encoder: pre-trained; it is moved to the exam's device, and else left as it is.
        exam: data, split, settings.
        modes: names of probes.

    Raises:
        UnknownNameError: a mode no probe answers to; nothing is computed.
    """
    begun = time.monotonic()
    judges = {mode: probes.get(mode) for mode in modes}
    present = len(np.unique(exam.store.clips.label[exam.split.test]))
    own = encoder.to(exam.device)
    untrained = random_encoder(exam.config, exam.store.layout).to(exam.device)
    raw_linear = linear_on(raw, exam)
    rows, scores = [], {}
    for mode, judge in judges.items():
        scores[mode] = judge(own, exam)
        rows += [_row(mode, PRETRAINED, scores[mode]), _row(mode, RANDOM, judge(untrained, exam))]
        if mode == "knn":
            rows.append(_row(mode, RAW, knn_on(raw, exam)))
        rows += [_row(mode, f"{RAW}, linear" if mode != "linear" else RAW, raw_linear), Row(mode, CHANCE, 1 / present)]
    return Evaluation(exam.split.name, exam.store.mode, rows, scores, exam.split.test, time.monotonic() - begun)


def _row(mode: str, what: str, scores: Scores) -> Row:
    return Row(mode, what, scores.top1, scores.top5)


def as_json(evaluation: Evaluation, *, classes: Sequence[str]) -> dict[str, Any]:
    """Return an evaluation as plain data, confusion matrices and per-clip predictions included."""
    return {
        "protocol": evaluation.protocol,
        "rows": [vars(row) for row in evaluation.rows],
        "classes": list(classes),
        "test": evaluation.test.tolist(),
        "predicted": {mode: scores.predicted.tolist() for mode, scores in evaluation.scores.items()},
        "confusion": {mode: evaluation.confusion(mode, len(classes)).tolist() for mode in evaluation.scores},
        "seconds": round(evaluation.seconds, 1),
    }
