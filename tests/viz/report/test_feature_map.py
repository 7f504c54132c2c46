"""Feature maps: gradient and affinities of t-SNE, clusters, determinism, interrupts; the choice of clips."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest

from smae import interrupts
from smae.errors import Interrupted
from smae.viz.report.feature_map import affinities, choose, gradient, tsne


def divergence(p, y):
    """Return the Kullback-Leibler divergence of the map's affinities from p, by equations 3 and 4, pair by pair."""
    n = len(y)
    near = [[0.0 if i == j else 1 / (1 + sum((a - b) ** 2 for a, b in zip(y[i], y[j], strict=True)))
             for j in range(n)] for i in range(n)]  # fmt: skip
    total = sum(map(sum, near))
    return sum(p[i][j] * np.log(p[i][j] * total / near[i][j]) for i in range(n) for j in range(n) if i != j)


def test_gradient_is_that_of_the_divergence():
    rng = np.random.default_rng(1)
    p, y, small = affinities(rng.normal(size=(7, 3)), 2.0), rng.normal(size=(7, 2)), 1e-6
    for i in range(7):
        for c in range(2):
            there, back = y.copy(), y.copy()
            there[i, c] += small
            back[i, c] -= small
            by_difference = (divergence(p, there) - divergence(p, back)) / (2 * small)
            assert gradient(p, y)[i, c] == pytest.approx(by_difference, abs=1e-6)


def test_affinities_are_symmetric_sum_to_one_and_have_the_perplexity():
    x = np.random.default_rng(2).normal(size=(60, 5))
    p = affinities(x, 10.0)
    np.testing.assert_allclose(p, p.T)
    assert p.sum() == pytest.approx(1)
    assert (np.diag(p) == 0).all()
    # The conditional affinities of one point, widened until exp(entropy) is the perplexity, by hand.
    squares = np.delete(((x[0] - x) ** 2).sum(1), 0)
    low, high = 1e-6, 1e6
    for _ in range(200):
        middle = np.sqrt(low * high)
        share = np.exp(-(squares - squares.min()) * middle)
        share /= share.sum()
        entropy = -(share * np.log(np.maximum(share, 1e-300))).sum()
        low, high = (middle, high) if entropy > np.log(10) else (low, middle)
    of_first = share / (2 * len(x))
    assert (p[0, 1:] >= of_first - 1e-9).all(), "the symmetric ones are the mean of both directions"


def test_clusters_stay_clusters_and_the_map_is_deterministic():
    rng = np.random.default_rng(3)
    label = np.arange(90) % 3
    x = rng.normal(size=(3, 20))[label] * 4 + rng.normal(size=(90, 20))
    y = tsne(x)
    assert y.shape == (90, 2)
    distance = ((y[:, None] - y) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    assert (label[distance.argmin(1)] == label).all()
    np.testing.assert_array_equal(tsne(x), y)


@pytest.mark.parametrize("x", [np.zeros((9, 4)), np.arange(8.0)[:, None], np.repeat(np.eye(3), 4, axis=0)])
def test_degenerate_points_give_finite_positions(x):
    assert np.isfinite(tsne(x, steps=50)).all()


def test_an_interrupt_ends_it_between_steps():
    with interrupts.deferred():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted):
            tsne(np.random.default_rng(5).normal(size=(20, 3)))


def test_the_choice_of_clips_is_fixed():
    clips = np.arange(100, 5000, 3)
    chosen = choose(clips, 1000)
    assert len(chosen) == len(set(chosen.tolist())) == 1000
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, choose(clips, 1000))
    np.testing.assert_array_equal(choose(clips[:7], 1000), clips[:7])


@pytest.mark.slow
def test_a_thousand_points_take_less_than_ten_seconds():
    x = np.random.default_rng(4).normal(size=(1000, 64))
    begun = time.process_time()
    tsne(x)
    assert time.process_time() - begun < 10
