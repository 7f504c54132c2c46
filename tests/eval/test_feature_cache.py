"""Kept features: used when all that they depend on is the same, never when damaged, bounded in size."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from smae.atomic_io import atomic_file
from smae.eval import features
from smae.eval.features import Pooled
from smae.eval.probes import probes
from smae.train.config import build_objective
from tests.fakes import FakeStore
from tests.train.small import small_context

STORE = FakeStore.toy(clips=30, classes=3, seed=1, frames=16)
X = torch.arange(12.0).reshape(4, 3)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return features.cache_folder()


@pytest.fixture
def encoded(monkeypatch):
    """Keep features of stores in memory too; return the batches that were encoded."""
    monkeypatch.setattr(features, "Store", FakeStore)
    seen = []
    whole = Pooled.__call__
    monkeypatch.setattr(Pooled, "__call__", lambda self, batch: seen.append(batch.index) or whole(self, batch))
    return seen


def test_what_is_kept_is_read_again():
    assert features.read_features("a", clips=4) is None
    features.keep_features("a", X)
    assert torch.equal(features.read_features("a", clips=4), X)
    assert features.read_features("a", clips=5) is None


def test_damaged_files_and_files_of_another_key_are_not_used(folder):
    features.keep_features("a", X)
    path = folder / "a.safetensors"
    whole = path.read_bytes()
    (folder / "b.safetensors").write_bytes(whole)
    assert features.read_features("b", clips=4) is None
    for damaged in (whole[:-1], whole[:40], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        assert features.read_features("a", clips=4) is None
    path.unlink()
    path.mkdir()
    assert features.read_features("a", clips=4) is None
    features.keep_features("a", X)


def test_features_that_another_process_is_writing_are_left_to_it(folder):
    with atomic_file(folder / "a.safetensors"):
        features.keep_features("a", X)
    assert features.read_features("a", clips=4) is None


def test_those_used_least_recently_are_deleted(folder, monkeypatch):
    big = torch.zeros(100, 100)
    monkeypatch.setattr(features, "LIMIT", 100_000)
    features.keep_features("a", big)
    features.keep_features("b", big + 1)
    for age, key in enumerate("ba"):
        os.utime(folder / f"{key}.safetensors", (1000 - age, 1000 - age))
    assert features.read_features("a", clips=100) is not None
    features.keep_features("c", big + 2)
    found = {key for key in "abc" if features.read_features(key, clips=100) is not None}
    assert found == {"a", "c"}
    features.keep_features("d", big, parts=2)
    assert features.read_features("d", clips=100) is None, "two such views take more than half of the limit"


def test_a_second_command_encodes_nothing_and_scores_the_same(encoded):
    found = []
    for _ in range(2):
        context = small_context(STORE, linear={"epochs": 3, "views": 2, "test_views": 1})
        encoder = build_objective(context.config, STORE.layout).encoder
        found.append(([probes.get(name)(encoder, context) for name in ("linear", "knn")], len(encoded)))
    (first, before), (second, after) = found
    assert before == after > 0
    assert np.array_equal(first[0].logits, second[0].logits)
    assert np.array_equal(first[1].predicted, second[1].predicted)


def test_anything_that_decides_the_numbers_asks_for_new_ones(encoded):
    context = small_context(STORE)
    encoder = build_objective(context.config, STORE.layout).encoder
    other = build_objective(small_context(STORE, seed=1).config, STORE.layout).encoder

    def computes(context, extractor, **options):
        before = len(encoded)
        context.features(extractor, "train", **options)
        return len(encoded) > before

    asked = [
        (context, Pooled(encoder), {}),
        (context, Pooled(other), {}),
        (context, Pooled(encoder, "joints"), {}),
        (context, Pooled(encoder), {"view": 0}),
        (context, Pooled(encoder), {"view": 1}),
        (replace(context, precision="bf16"), Pooled(encoder), {}),
        (small_context(STORE, augment={"frames": 12, "crop": (0.9, 0.9)}), Pooled(encoder), {}),
        (context.with_clips(train=context.split.train[:-1]), Pooled(encoder), {}),
        (replace(context, reuse=False), Pooled(encoder), {}),
    ]
    fresh = [(replace(one, cache={}), extractor, options) for one, extractor, options in asked]
    assert all(computes(one, extractor, **options) for one, extractor, options in fresh)
    again = [(replace(one, cache={}), extractor, options) for one, extractor, options in asked[:-1]]
    assert not any(computes(one, extractor, **options) for one, extractor, options in again)
    assert computes(replace(context, cache={}), lambda batch: Pooled(encoder)(batch)), "code of others is not known"
