"""Counter-based noise: the published known answers, one stream on NumPy and torch, nothing that depends on a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smae.rng import Noise, philox

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("word", "key", "expected"),
    [
        (0, 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (ONES, ONES, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ],
)
@pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_philox_gives_the_known_answers_of_its_authors(make, word, key, expected):
    counter = tuple(make([word]) for _ in range(4))
    assert tuple(int(out[0]) for out in philox(counter, (key, key))) == expected


@pytest.mark.parametrize("seed", [0, 7, 2**32 + 3, 2**64 - 1])
def test_numpy_and_torch_draw_the_same(seed):
    clip, body = np.array([0, 3, 70_000]), np.array([0, 1, 1])
    drawn = Noise(seed, 5, clip, body).uniform("mask", 11)
    assert drawn.dtype == np.float32
    assert drawn.shape == (3, 11)
    same = Noise(seed, 5, torch.from_numpy(clip), torch.from_numpy(body)).uniform("mask", 11)
    assert same.dtype == torch.float32
    assert np.array_equal(drawn, same.numpy())


def test_an_item_draws_the_same_in_any_batch():
    clip, body = torch.arange(40), torch.arange(40) % 2
    whole = Noise(3, 1, clip, body).uniform("mask", 30)
    for rows in (torch.tensor([7]), torch.tensor([39, 0, 12])):
        assert torch.equal(Noise(3, 1, clip[rows], body[rows]).uniform("mask", 30), whole[rows])


def test_more_numbers_begin_with_the_fewer():
    few, many = (Noise(3, 1, np.arange(4)).uniform("mask", count) for count in (5, 50))
    assert np.array_equal(few, many[:, :5])


@pytest.mark.parametrize("change", [{"seed": 4}, {"epoch": 2}, {"clip": np.arange(1, 9)}, {"body": 1}])
def test_every_part_of_the_key_matters(change):
    key = {"seed": 3, "epoch": 1, "clip": np.arange(8), "body": 0}
    assert not np.any(Noise(**key).uniform("mask", 4) == Noise(**key | change).uniform("mask", 4))


def test_every_stream_has_numbers_of_its_own():
    noise = Noise(3, 1, np.arange(8))
    assert not np.any(noise.uniform("mask", 4) == noise.uniform("crop", 4))


def test_the_numbers_are_uniform_and_unrelated():
    drawn = Noise(1, 0, np.arange(2000)).uniform("mask", 100).astype(np.float64)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert np.array_equal(drawn * 2**24, np.round(drawn * 2**24))
    counts = np.histogram(drawn, bins=64, range=(0, 1))[0]
    expected = drawn.size / 64
    # chi-square of 63 degrees of freedom: mean 63, standard deviation sqrt(126)
    assert abs(((counts - expected) ** 2 / expected).sum() - 63) < 5 * np.sqrt(126)
    correlation = np.corrcoef(drawn[:, :8], rowvar=False) - np.eye(8)
    assert np.abs(correlation).max() < 5 / np.sqrt(2000)
