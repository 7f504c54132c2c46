"""Sample order: a pure permutation, well mixed, that never needs more than a few blocks at once."""

from __future__ import annotations

import numpy as np
import pytest

from smae.data.loader.sampler import batches_of, block_of, shuffled

CLIPS = np.arange(1000) * 3
BLOCKS = np.arange(1000) // 50


def order(**changes: object) -> np.ndarray:
    settings = {"window": 4, "seed": 7, "epoch": 0, "fingerprint": "ab" * 32} | changes
    return shuffled(CLIPS, BLOCKS, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [1, 4, 20, 99])
def test_every_clip_comes_once(window: int) -> None:
    np.testing.assert_array_equal(np.sort(order(window=window)), np.arange(1000))


def test_order_is_a_pure_function_of_seed_epoch_and_store() -> None:
    np.testing.assert_array_equal(order(), order())
    for change in ({"seed": 8}, {"epoch": 1}, {"fingerprint": "cd" * 32}, {"window": 5}):
        assert (order() != order(**change)).mean() > 0.9, change


@pytest.mark.parametrize("window", [1, 2, 4, 7])
def test_no_more_than_window_blocks_are_open_at_any_clip(window: int) -> None:
    for epoch in range(5):
        blocks = BLOCKS[order(window=window, epoch=epoch)]
        first = np.array([np.flatnonzero(blocks == b)[0] for b in range(20)])
        last = np.array([np.flatnonzero(blocks == b)[-1] for b in range(20)])
        for place in range(1000):
            assert ((first <= place) & (place <= last)).sum() <= window


def test_blocks_come_in_another_order_each_epoch() -> None:
    first = [int(BLOCKS[order(window=1, epoch=epoch)][0]) for epoch in range(30)]
    assert len(set(first)) > 10


def test_first_and_last_clips_come_from_many_blocks() -> None:
    for epoch in range(10):
        blocks = BLOCKS[order(epoch=epoch)]
        assert len(set(blocks[:40])) >= 3
        assert len(set(blocks[-40:])) >= 3


def test_a_small_store_is_one_full_shuffle() -> None:
    # Each of 60 clips should stand at each of 60 places equally often: chi-squared of the place of clip 0.
    clips, blocks = np.arange(60), np.arange(60) // 20
    places = [
        int(np.flatnonzero(shuffled(clips, blocks, window=8, seed=0, epoch=e, fingerprint="x") == 0)[0])
        for e in range(1200)
    ]
    counts = np.bincount(places, minlength=60)
    assert ((counts - 20) ** 2 / 20).sum() < 110  # 59 degrees of freedom: 110 has p < 1e-4


def test_a_clip_belongs_to_the_block_of_its_first_row() -> None:
    np.testing.assert_array_equal(block_of(np.array([0, 9, 10, 25]), block_rows=10), [0, 0, 1, 2])


def test_steps_cover_the_order_and_skip_what_was_consumed() -> None:
    whole = batches_of(np.arange(10), batch=4)
    assert [step.tolist() for step in whole] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [step.tolist() for step in batches_of(np.arange(10), batch=4, skip=4)] == [[4, 5, 6, 7], [8, 9]]
    assert [step.tolist() for step in batches_of(np.arange(10), batch=4, skip=4, drop_last=True)] == [[4, 5, 6, 7]]
    assert batches_of(np.arange(10), batch=4, skip=10) == []


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_take_turns_within_each_step(world: int) -> None:
    whole = batches_of(np.arange(10), batch=4, skip=1)
    parts = [batches_of(np.arange(10), batch=4, skip=1, rank=rank, world=world) for rank in range(world)]
    for step, *shares in zip(whole, *parts, strict=True):
        assert sorted(np.concatenate(shares).tolist()) == step.tolist()
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
