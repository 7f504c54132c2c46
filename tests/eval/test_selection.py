"""Which epoch counts: validation is carved by subject, test chooses nothing but what is called best_test."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from smae.errors import DataError
from smae.eval.baselines import probes
from smae.eval.probes import score
from smae.eval.probes.selection import carve, select
from smae.train.build import build_objective
from tests.fakes import FakeStore
from tests.train.small import small_exam

STORE = FakeStore.toy(clips=60, classes=4, seed=1)


def exam_with(*also, **more):
    return small_exam(STORE, selection={"also": list(also), **more})


@pytest.mark.parametrize("share", [0.01, 0.4, 0.99])
def test_validation_is_some_subjects_of_train_and_no_clip_of_test(share):
    exam = exam_with(val_subjects=share)
    inner, subject = carve(exam), STORE.clips.subject
    assert np.array_equal(np.sort(np.concatenate([inner.split.train, inner.split.test])), exam.split.train)
    held_out, rest = set(subject[inner.split.test]), set(subject[inner.split.train])
    assert not held_out & rest
    assert len(held_out) == min(4, max(1, round(share * 5)))


def test_other_seeds_hold_out_other_subjects():
    drawn = {tuple(carve(small_exam(STORE, seed=seed)).split.test) for seed in range(8)}
    assert len(drawn) > 2


@pytest.mark.parametrize("subjects", [[1] * 60, [-1] * 60, [-1, 2] * 30])
def test_without_subjects_nothing_can_be_carved(subjects):
    store = FakeStore(STORE.joints, STORE.labels, subjects)
    with pytest.raises(DataError, match="leave best_val out"):
        carve(small_exam(store))


class Staged(nn.Module):
    """A classifier that is right about as many clips as its epoch's stage says, in the order asked."""

    def __init__(self):
        super().__init__()
        self.epoch = nn.Parameter(torch.zeros(()), requires_grad=False)


def staged(exam, *, on_val, on_test):
    """Fit and judge of a training whose accuracies are known beforehand; notes who was asked when."""
    asked = []

    def fit(learnt, watch):
        model = Staged()
        for epoch in range(len(on_test)):
            model.epoch.fill_(epoch)
            watch(model)
        return model

    def judge(model, judged):
        where = "test" if judged.split.test is exam.split.test else "val"
        epoch = int(model.epoch)
        asked.append((where, epoch))
        right = (on_test if where == "test" else on_val)[epoch]
        label = torch.arange(10)
        logits = nn.functional.one_hot(torch.where(label < right, label, (label + 1) % 10), 10).float()
        return score(logits, label)

    return fit, judge, asked


def test_last_alone_looks_at_test_once():
    exam = exam_with()
    fit, judge, asked = staged(exam, on_val=[], on_test=[3, 9, 5])
    found = select(fit, judge, exam)
    assert (found.top1, found.beside, asked) == (pytest.approx(0.5), {}, [("test", 2)])


def test_best_val_is_chosen_on_validation_and_scored_on_test_once():
    exam = exam_with("best_val")
    fit, judge, asked = staged(exam, on_val=[2, 7, 7, 1], on_test=[1, 4, 9, 5])
    found = select(fit, judge, exam)
    assert found.top1 == pytest.approx(0.5)
    assert found.beside["best_val"].top1 == pytest.approx(0.4), "the first of equal epochs, whatever test would say"
    assert [epoch for where, epoch in asked if where == "test"] == [1, 3]


def test_best_test_is_the_highest_and_changes_nothing_else():
    exam = exam_with("best_test", "best_val")
    fit, judge, _ = staged(exam, on_val=[9, 1, 1], on_test=[3, 9, 5])
    found = select(fit, judge, exam)
    assert found.top1 == pytest.approx(0.5)
    assert {name: scores.top1 for name, scores in found.beside.items()} == {
        "best_val": pytest.approx(0.3), "best_test": pytest.approx(0.9),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["linear", "finetune"])
def test_looking_does_not_change_the_last_epoch(name):
    short = {"finetune": {"epochs": 2}, "linear": {"epochs": 3}}
    plain = small_exam(STORE, **short)
    looking = small_exam(STORE, **short, selection={"also": ["best_val", "best_test"]})
    encoder = build_objective(plain.config, STORE.layout).encoder
    one, two = probes.get(name)(encoder, plain), probes.get(name)(encoder, looking)
    assert np.array_equal(one.logits, two.logits)
    assert set(two.beside) == {"best_val", "best_test"}
    assert two.beside["best_test"].top1 >= two.top1
