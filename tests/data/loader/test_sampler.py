"""Sample order: a pure permutation, well mixed, that never needs more than a few blocks at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from smae.data.loader.sampler import SEGMENT, EpochDraws, batches_of, block_of, by_subject, shuffled

CLIPS = np.arange(1000) * 3
BLOCKS = np.arange(1000) // 50


DRAWS = EpochDraws(7, 0, "ab" * 32)


def order(*, window: int = 4, **changes: Any) -> np.ndarray:
    return shuffled(CLIPS, BLOCKS, window=window, draws=replace(DRAWS, **changes))


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
        int(np.flatnonzero(shuffled(clips, blocks, window=8, draws=EpochDraws(0, e, "x")) == 0)[0]) for e in range(1200)
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


def test_batches_of_few_subjects_are_the_order_sorted_and_cut_segment_by_segment() -> None:
    batch, subject = 10, np.random.default_rng(0).integers(0, 6, 1000)
    before = order()
    after = by_subject(before, subject[before], batch=batch, draws=DRAWS)
    for start in range(0, 1000, batch * SEGMENT):
        part, clips = after[start : start + batch * SEGMENT], before[start : start + batch * SEGMENT]
        cut = [part[at : at + batch].tolist() for at in range(0, len(part), batch)]
        # Some order of the subjects and then of the batches gives this: all of a subject's clips, in the order
        # they came in, fill whole batches but for the two they share with their neighbours.
        assert sorted(part) == sorted(clips)
        for name in range(6):
            own = [clip for clip in clips if subject[clip] == name]
            whole = [clip for some in cut if set(subject[some]) == {name} for clip in some]
            assert len(own) - len(whole) < 2 * batch
            for some in cut:
                places = [own.index(clip) for clip in some if subject[clip] == name]
                assert places == list(range(places[0], places[0] + len(places))) if places else True
    assert np.mean([len(set(subject[some])) for some in batches_of(after, batch=batch)]) < 1.4
    for draws in (replace(DRAWS, seed=8), replace(DRAWS, epoch=1), replace(DRAWS, fingerprint="cd" * 32)):
        changed = by_subject(before, subject[before], batch=batch, draws=draws)
        assert (changed != after).mean() > 0.9, draws


def test_a_last_batch_that_is_not_full_stays_the_last() -> None:
    subject = np.arange(90) % 3
    for epoch in range(20):
        after = by_subject(np.arange(90), subject, batch=40, draws=replace(DRAWS, epoch=epoch))
        assert sorted(after) == list(range(90))
        # Of three subjects of 30 clips, sorted, the last ten are of one.
        assert len(set(subject[after[80:]])) == 1
