"""The labelled part: a share of each class, drawn by the seed, nested, and all that fine-tuning sees."""

from __future__ import annotations

import numpy as np
import pytest

from smae.config import LABEL_SHARES, expand_modes
from smae.eval.probes.finetune import labelled_subset, semi_context
from smae.eval.records import CHANCE, MOST_FREQUENT, SUPERVISED
from tests.eval.evaluated import STORE, check, train
from tests.fakes import FakeStore
from tests.train.small import small_context

TRAIN = np.arange(1000, 4000, 3)
LABEL = np.random.default_rng(0).choice(5, size=len(TRAIN), p=[0.5, 0.2, 0.2, 0.09, 0.01])


@pytest.mark.parametrize("share", [0.01, 0.02, 0.05, 0.1, 1.0])
def test_every_class_gives_its_share(share):
    chosen = labelled_subset(TRAIN, LABEL, share=share, seed=3)
    assert len(np.unique(chosen)) == len(chosen)
    assert np.array_equal(chosen, np.sort(chosen))
    picked = LABEL[np.searchsorted(TRAIN, chosen)]
    for kind in range(5):
        assert (picked == kind).sum() == max(1, round(share * int((kind == LABEL).sum())))


def test_a_seed_decides_and_a_larger_share_holds_the_smaller():
    small, large = (labelled_subset(TRAIN, LABEL, share=share, seed=1) for share in (0.02, 0.1))
    assert set(small) <= set(large)
    assert np.array_equal(small, labelled_subset(TRAIN, LABEL, share=0.02, seed=1))
    assert not np.array_equal(small, labelled_subset(TRAIN, LABEL, share=0.02, seed=2))


def test_every_clip_is_labelled_equally_often():
    train, label = np.arange(40), np.arange(40) % 2
    counts = sum(np.isin(train, labelled_subset(train, label, share=0.25, seed=seed)) for seed in range(800))
    assert np.abs(counts / 800 - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 800)


def test_the_context_trains_on_the_labelled_part_and_is_scored_on_the_same_test():
    context = small_context(FakeStore.toy(clips=60, classes=4, seed=1))
    part = semi_context("semi-10", context)
    assert len(part.split.train) == 4
    assert np.array_equal(part.split.test, context.split.test)
    assert semi_context("finetune", context) is context


def test_all_is_one_table_and_several_seeds_have_spread_and_interval(tmp_path):
    assert expand_modes(["semi", "knn", "semi-5"]) == [*LABEL_SHARES, "knn"]
    assert expand_modes(["all"]) == ["linear", "knn", "finetune", *LABEL_SHARES, "scratch"]
    result = check(train(tmp_path / "run"), "knn", "semi-5", "scratch", seeds=2)
    rows = {(row.mode, row.what): row for row in result.rows}
    assert (rows["scratch", SUPERVISED].seeds, len(result.rows)) == (2, 6 + 5 + 4)
    for row in result.rows:
        if row.what not in (CHANCE, MOST_FREQUENT):
            assert row.interval[0] <= row.top1 <= row.interval[1]
            assert row.std >= 0
    assert result.results[2].records[0].predicted.shape == (len(STORE.split("all").test),)
