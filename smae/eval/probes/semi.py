"""Semi-supervised probes: fine-tuning on 1, 2, 5 or 10 % of the labels, a share of each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smae.eval.probes import Exam, Probe, Scores
from smae.eval.probes.finetune import finetune
from smae.models.encoders import Encoder
from smae.rng import Noise

SHARES = {f"semi-{percent}": percent / 100 for percent in (1, 2, 5, 10)}
"""Probes of this kind, and the share of the train clips whose labels they see."""


def labelled(train: NDArray[np.int64], label: NDArray[np.int64], *, share: float, seed: int) -> NDArray[np.int64]:
    """Return the clips of ``train`` whose labels are seen: of each class its share, rounded, one at least.

    Args:
        train: int64 [n], clip numbers.
        label: int64 [n], their classes.
        share: in (0, 1].
        seed: decides which, so that a seed has the same clips on any machine; a larger share holds the smaller.
    """
    order = Noise(seed, 0, train).uniform("labelled", 1)[:, 0].argsort(kind="stable")
    chosen = []
    for kind in np.unique(label):
        own = order[label[order] == kind]
        chosen.append(train[own[: max(1, round(share * len(own)))]])
    return np.sort(np.concatenate(chosen))


def part_of(mode: str, exam: Exam) -> Exam:
    """Return the exam as a mode sees it: with a semi-supervised one, part of its train clips."""
    if mode not in SHARES:
        return exam
    train = exam.split.train
    label = np.asarray(exam.store.clips.label)[train].astype(np.int64)
    return exam.on(train=labelled(train, label, share=SHARES[mode], seed=exam.config.seed))


def _probe(mode: str) -> Probe:
    def judge(encoder: Encoder, exam: Exam) -> Scores:
        return finetune(encoder, part_of(mode, exam))

    return judge


semi_1, semi_2, semi_5, semi_10 = map(_probe, SHARES)
