"""Features: means over bodies, raw coordinates, store order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smae import progress
from smae.errors import ConfigError
from smae.eval.features import RAW_FRAMES, Pooled, extract, raw_coordinates
from smae.skeleton import NTU25
from smae.testing.models import small_batch
from smae.train.config import build_objective
from smae.train.run_folder import Run
from tests.fakes import FakeStore
from tests.train.small import small_config, small_context, small_loop

BATCH = small_batch(NTU25, frames=24, clips=3)


def test_the_mean_is_over_each_clips_own_bodies():
    items = torch.randn(4, 2, 5)
    mean = BATCH.clip_means(items)[0]
    assert mean.shape == (3, 2, 5)
    for clip in range(3):
        assert torch.allclose(mean[clip], items[BATCH.clip == clip].mean(0))


def test_raw_coordinates_put_bodies_side_by_side_and_zeros_without_one():
    both = raw_coordinates(BATCH).reshape(3, 2, 25 * 3, RAW_FRAMES)
    for item in range(4):
        found = both[BATCH.clip[item], BATCH.body[item]].T.reshape(RAW_FRAMES, 25, 3)
        assert torch.allclose(found, BATCH.x[item], atol=1e-6)
    assert not both[1:, 1].any()


class Counts:
    """A reporter that records what is counted."""

    def __init__(self):
        self.counts = []

    def begin(self, task):
        pass

    def update(self, task):
        self.counts.append((task.name, task.done, task.total, task.unit))

    end = begin


def test_features_come_in_store_order():
    store = FakeStore.random(clips=20, seed=0, frames=(16, 30))
    context = small_context(store)
    plain = extract(raw_coordinates, context.loader("train", batch=4))
    reporter = Counts()
    loader = context.loader("train", augmented=True, batch=4)
    with progress.reporting(reporter):
        mixed = extract(raw_coordinates, loader, epoch=1, name="train")
    for found in (plain, mixed):
        assert found.index.tolist() == context.split.train.tolist()
        assert found.label.tolist() == store.clips.label[context.split.train].tolist()
    assert not torch.equal(plain.x, mixed.x)
    assert reporter.counts == [("train", done, 4, "batches") for done in range(1, 5)]


def test_pooled_is_the_mean_of_all_tokens_in_evaluation_mode(tmp_path):
    store = FakeStore.random(clips=4, seed=0, frames=(16, 30))
    encoder = small_loop(store, Run(tmp_path), small_config(encoder={"drop_path": 0.5})).objective.encoder
    encoder.train()
    batch = small_batch(NTU25, frames=12, clips=3)
    with torch.no_grad():
        found, again = Pooled(encoder)(batch), Pooled(encoder)(batch)
        expected = batch.clip_means(encoder(batch.x).mean(1))[0]
    assert not encoder.training
    assert torch.equal(found, again)
    assert np.abs((found - expected).numpy()).max() < 1e-6


def test_joints_and_tokens_can_stand_side_by_side(tmp_path):
    encoder = small_loop(FakeStore.random(clips=4, seed=0), Run(tmp_path), small_config()).objective.encoder
    batch = small_batch(NTU25, frames=12, clips=3)
    with torch.no_grad():
        tokens = batch.clip_means(encoder(batch.x))[0]
        joints, whole = (Pooled(encoder, pool)(batch) for pool in ("joints", "tokens"))
    times, dim = encoder.grid.times, encoder.dim
    assert (Pooled(encoder, "joints").width, Pooled(encoder, "tokens").width) == (25 * dim, times * 25 * dim)
    torch.testing.assert_close(whole, tokens.flatten(1))
    for joint in range(25):
        own = torch.stack([tokens[:, time * 25 + joint] for time in range(times)]).mean(0)
        torch.testing.assert_close(joints[:, joint * dim : (joint + 1) * dim], own)


def test_the_class_token_is_a_feature_of_encoders_that_have_one():
    config = small_config(encoder={"name": "slim", "dim": 16, "depth": 1, "heads": 2, "patch": 4})
    encoder, batch = build_objective(config, NTU25).encoder, small_batch(NTU25, frames=12, clips=3)
    found = Pooled(encoder, "class")
    with torch.no_grad():
        assert torch.equal(found(batch), batch.clip_means(encoder.encode(batch.x)[0])[0])
    assert found.width == 16
    with pytest.raises(ConfigError, match="has no class token: choose another pool"):
        Pooled(build_objective(small_config(), NTU25).encoder, "class")
