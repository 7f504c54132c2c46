"""Evaluation: probes on a split, and beside each result its baselines, from the same run.

Nothing is selected on test unless it is called so: see ``smae.eval.probes.selection``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.eval.features import raw
from smae.eval.interval import bootstrap, spread
from smae.eval.probes import Exam, Probe, Scores, probes
from smae.eval.probes.knn import knn_on
from smae.eval.probes.linear import linear_on
from smae.eval.probes.selection import LAST
from smae.eval.probes.semi import SHARES, part_of
from smae.models.encoders import Encoder
from smae.train.build import random_encoder

PRETRAINED, RANDOM, RAW, CHANCE = "pre-trained encoder", "random encoder", "raw coordinates", "chance"
SUPERVISED = "supervised from scratch"

SEVERAL: dict[str, tuple[str, ...]] = {
    "semi": tuple(SHARES),
    "all": ("linear", "knn", "finetune", *SHARES, "scratch"),
}
"""Words for several modes at once."""


@dataclass(frozen=True)
class Row:
    """One line of the results table; accuracies in [0, 1].

    Attributes:
        mode: probe (``linear``, ``knn``, ...).
        what: what was judged.
        top1: share right; the mean over seeds.
        top5: share among the first five, or None.
        selection: how the epoch was chosen: ``last``, ``best_val`` or ``best_test``; or ``one view``: the last, where
            several views were averaged and this stands beside them.
        seeds: how many.
        std: standard deviation of ``top1`` over seeds; None of a single one.
        interval: 95 % of a bootstrap over seeds and test clips; None where nothing was judged.
    """

    mode: str
    what: str
    top1: float
    top5: float | None = None
    selection: str = LAST
    seeds: int = 1
    std: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Evaluation:
    """Results of one encoder under one protocol.

    Attributes:
        protocol: the split's full name.
        store_mode: how the store's clips were cleaned, ``reference`` or ``exact``.
        rows: the table, baselines beside each result.
        scores: the pre-trained encoder's, by mode, of the first seed; with ``scratch`` the supervised one's.
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


def expand(modes: Iterable[str]) -> list[str]:
    """Return modes with ``semi`` and ``all`` spelt out, each once."""
    return list(dict.fromkeys(one for mode in modes for one in SEVERAL.get(mode, (mode,))))


def evaluate(
    encoder: Encoder, exam: Exam, *, modes: Sequence[str], seeds: int = 1, baselines: bool = True
) -> Evaluation:
    """Judge an encoder by each mode's probe, and each baseline by the same probe.

    Args:
        encoder: pre-trained; it is moved to the exam's device, and else left as it is.
        exam: data, split, settings.
        modes: names of probes, ``semi`` or ``all``.
        seeds: how often: with the settings' seed and those that follow it. They draw heads, augmentations, the labelled
            part and the random encoder; the pre-trained encoder is one and the same.
        baselines: judge the random encoder and raw coordinates too; without, where they are known already, ``scratch``
            and chance alone stand beside the result.

    Raises:
        UnknownNameError: a mode no probe answers to; nothing is computed.
    """
    begun = time.monotonic()
    judges = {mode: probes.get(mode) for mode in expand(modes)}
    own, found = encoder.to(exam.device), dict[tuple[str, str, str], list[Scores]]()
    first: dict[str, Scores] = {}
    for number in range(seeds):
        config = exam.config.model_copy(update={"seed": exam.config.seed + number})
        for (mode, what), scores in _judge_all(own, replace(exam, config=config), judges, baselines=baselines):
            if what in (PRETRAINED, SUPERVISED):
                first.setdefault(mode, scores)
            for selection, chosen in ((LAST, scores), *scores.beside.items()):
                # A model of its own for each would fill the memory.
                found.setdefault((mode, what, selection), []).append(replace(chosen, model=None, logits=None))
    present = len(np.unique(exam.store.clips.label[exam.split.test]))
    rows = []
    for mode in judges:
        rows += [_row(*key, scores) for key, scores in found.items() if key[0] == mode]
        rows.append(Row(mode, CHANCE, 1 / present))
    return Evaluation(exam.split.name, exam.store.mode, rows, first, exam.split.test, time.monotonic() - begun)


def _judge_all(
    own: Encoder, exam: Exam, judges: dict[str, Probe], *, baselines: bool
) -> Iterable[tuple[tuple[str, str], Scores]]:
    """Yield the scores of the encoder and of the baselines, by mode and what was judged, for one seed."""
    untrained = random_encoder(exam.config, exam.store.layout).to(exam.device)
    raw_linear = linear_on(raw, exam) if baselines else None
    for mode, judge in judges.items():
        if mode == "scratch":
            yield (mode, SUPERVISED), judge(untrained, exam)
        else:
            yield (mode, PRETRAINED), judge(own, exam)
        if raw_linear is None:
            continue
        if mode != "scratch":
            yield (mode, RANDOM), judge(untrained, exam)
        if mode == "knn":
            yield (mode, RAW), knn_on(raw, exam)
        part = part_of(mode, exam)
        what = RAW if mode == "linear" else f"{RAW}, linear"
        yield (mode, what), raw_linear if part is exam else linear_on(raw, part)


def _row(mode: str, what: str, selection: str, scores: Sequence[Scores]) -> Row:
    top1, top5 = [one.top1 for one in scores], [one.top5 for one in scores if one.top5 is not None]
    return Row(
        mode,
        what,
        float(np.mean(top1)),
        float(np.mean(top5)) if top5 else None,
        selection,
        len(scores),
        spread(top1),
        bootstrap(np.stack([one.right for one in scores])),
    )


def as_json(evaluation: Evaluation, *, classes: Sequence[str]) -> dict[str, Any]:
    """Return an evaluation as plain data, confusion matrices and per-clip predictions included."""
    return {
        "protocol": evaluation.protocol,
        "rows": [vars(row) for row in evaluation.rows],
        "classes": list(classes),
        "test": evaluation.test.tolist(),
        "label": next(iter(evaluation.scores.values())).label.tolist() if evaluation.scores else [],
        "predicted": {mode: scores.predicted.tolist() for mode, scores in evaluation.scores.items()},
        "confusion": {mode: evaluation.confusion(mode, len(classes)).tolist() for mode in evaluation.scores},
        "seconds": round(evaluation.seconds, 1),
    }
