"""Which epoch counts: validation is carved by subject, test chooses nothing but what is called best_test."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from smae.errors import DataError
from smae.eval.probes import probes, score, select, validation_context
from smae.train.config import build_objective
from tests.fakes import FakeStore
from tests.train.small import small_context

STORE = FakeStore.toy(clips=60, classes=4, seed=1)


def context_with(*also, **more):
    return small_context(STORE, selection={"also": list(also), **more})


@pytest.mark.parametrize("share", [0.01, 0.4, 0.99])
def test_validation_is_some_subjects_of_train_and_no_clip_of_test(share):
    context = context_with(val_subjects=share)
    inner, subject = validation_context(context), STORE.clips.subject
    assert np.array_equal(np.sort(np.concatenate([inner.split.train, inner.split.test])), context.split.train)
    held_out, rest = set(subject[inner.split.test]), set(subject[inner.split.train])
    assert not held_out & rest
    assert len(held_out) == min(4, max(1, round(share * 5)))


def test_other_seeds_hold_out_other_subjects():
    drawn = {tuple(validation_context(small_context(STORE, seed=seed)).split.test) for seed in range(8)}
    assert len(drawn) > 2


@pytest.mark.parametrize("subjects", [[1] * 60, [-1] * 60, [-1, 2] * 30])
def test_without_subjects_nothing_can_be_carved(subjects):
    store = FakeStore(STORE.joints, STORE.labels, subjects)
    with pytest.raises(DataError, match="leave best_val out"):
        validation_context(small_context(store))


class Staged(nn.Module):
    """A classifier that is right about as many clips as its epoch's stage says, in the given order."""

    def __init__(self):
        super().__init__()
        self.epoch = nn.Parameter(torch.zeros(()), requires_grad=False)


def staged(context, *, on_val, on_test):
    """Return a fit and an evaluation with known accuracies, and a list that records the calls."""
    calls = []

    def fit(fold, on_epoch):
        model = Staged()
        for epoch in range(len(on_test)):
            model.epoch.fill_(epoch)
            on_epoch(model)
        return model

    def evaluate(model, fold):
        where = "test" if fold.split.test is context.split.test else "val"
        epoch = int(model.epoch)
        calls.append((where, epoch))
        right = (on_test if where == "test" else on_val)[epoch]
        label = torch.arange(10)
        logits = nn.functional.one_hot(torch.where(label < right, label, (label + 1) % 10), 10).float()
        return score(logits, label)

    return fit, evaluate, calls


def test_last_alone_looks_at_test_once():
    context = context_with()
    fit, evaluate, calls = staged(context, on_val=[], on_test=[3, 9, 5])
    found = select(fit, evaluate, context)
    assert (found.top1, found.alternatives, calls) == (pytest.approx(0.5), {}, [("test", 2)])


def test_best_val_is_chosen_on_validation_and_scored_on_test_once():
    context = context_with("best_val")
    fit, evaluate, calls = staged(context, on_val=[2, 7, 7, 1], on_test=[1, 4, 9, 5])
    found = select(fit, evaluate, context)
    assert found.top1 == pytest.approx(0.5)
    assert found.alternatives["best_val"].top1 == pytest.approx(0.4), "the first of equal epochs; test does not decide"
    assert [epoch for where, epoch in calls if where == "test"] == [1, 3]


def test_best_test_is_the_highest_and_changes_nothing_else():
    context = context_with("best_test", "best_val")
    fit, evaluate, _ = staged(context, on_val=[9, 1, 1], on_test=[3, 9, 5])
    found = select(fit, evaluate, context)
    assert found.top1 == pytest.approx(0.5)
    assert {name: scores.top1 for name, scores in found.alternatives.items()} == {
        "best_val": pytest.approx(0.3), "best_test": pytest.approx(0.9),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["linear", "finetune"])
def test_looking_does_not_change_the_last_epoch(name):
    short = {"finetune": {"epochs": 2}, "linear": {"epochs": 3}}
    plain = small_context(STORE, **short)
    looking = small_context(STORE, **short, selection={"also": ["best_val", "best_test"]})
    encoder = build_objective(plain.config, STORE.layout).encoder
    one, two = probes.get(name)(encoder, plain), probes.get(name)(encoder, looking)
    assert np.array_equal(one.logits, two.logits)
    assert set(two.alternatives) == {"best_val", "best_test"}
    assert two.alternatives["best_test"].top1 >= two.top1
