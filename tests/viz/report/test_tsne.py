"""t-SNE: its slope is the divergence's, its widths give the perplexity, groups stay groups, and nothing is random."""

from __future__ import annotations

import time

import numpy as np
import pytest

from smae.viz.report.tsne import gradient, joint, tsne


def divergence(p, y):
    """Return the Kullback-Leibler divergence of the map's affinities from p, by equations 3 and 4, pair by pair."""
    n = len(y)
    near = [[0.0 if i == j else 1 / (1 + sum((a - b) ** 2 for a, b in zip(y[i], y[j], strict=True)))
             for j in range(n)] for i in range(n)]  # fmt: skip
    total = sum(map(sum, near))
    return sum(p[i][j] * np.log(p[i][j] * total / near[i][j]) for i in range(n) for j in range(n) if i != j)


def test_the_slope_is_that_of_the_divergence():
    rng = np.random.default_rng(1)
    p, y, small = joint(rng.normal(size=(7, 3)), 2.0), rng.normal(size=(7, 2)), 1e-6
    for i in range(7):
        for c in range(2):
            there, back = y.copy(), y.copy()
            there[i, c] += small
            back[i, c] -= small
            by_difference = (divergence(p, there) - divergence(p, back)) / (2 * small)
            assert gradient(p, y)[i, c] == pytest.approx(by_difference, abs=1e-6)


def test_affinities_are_symmetric_sum_to_one_and_have_the_perplexity():
    x = np.random.default_rng(2).normal(size=(60, 5))
    p = joint(x, 10.0)
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


def test_groups_stay_groups_and_the_map_repeats_to_the_bit():
    rng = np.random.default_rng(3)
    label = np.arange(90) % 3
    x = rng.normal(size=(3, 20))[label] * 4 + rng.normal(size=(90, 20))
    y = tsne(x)
    assert y.shape == (90, 2)
    away = ((y[:, None] - y) ** 2).sum(-1)
    np.fill_diagonal(away, np.inf)
    assert (label[away.argmin(1)] == label).all()
    np.testing.assert_array_equal(tsne(x), y)


@pytest.mark.parametrize("x", [np.zeros((9, 4)), np.arange(8.0)[:, None], np.repeat(np.eye(3), 4, axis=0)])
def test_points_that_coincide_or_lie_on_a_line_still_give_finite_places(x):
    assert np.isfinite(tsne(x, steps=50)).all()


@pytest.mark.slow
def test_a_thousand_points_take_less_than_ten_seconds():
    x = np.random.default_rng(4).normal(size=(1000, 64))
    begun = time.process_time()
    tsne(x)
    assert time.process_time() - begun < 10
