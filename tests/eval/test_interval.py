"""Spread and bootstrap against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from smae.eval.interval import bootstrap, spread


def test_the_spread_is_the_unbiased_standard_deviation():
    values = [0.5, 0.7, 0.9]
    mean = sum(values) / 3
    assert spread(values) == pytest.approx((sum((value - mean) ** 2 for value in values) / 2) ** 0.5)
    assert spread([0.5]) is None


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_of_one_seed_it_is_the_binomial_interval(share):
    right = np.arange(1000)[None] < 1000 * share
    low, high = bootstrap(right)
    width = 1.96 * (share * (1 - share) / 1000) ** 0.5
    assert low == pytest.approx(share - width, abs=0.004)
    assert high == pytest.approx(share + width, abs=0.004)


def test_seeds_that_differ_widen_it_and_certainty_has_no_width():
    alike = np.tile(np.arange(200) < 100, (4, 1))
    apart = np.stack([np.arange(200) < 100 + shift for shift in (-60, -20, 20, 60)])
    assert np.subtract(*bootstrap(apart)[::-1]) > 1.3 * np.subtract(*bootstrap(alike)[::-1])
    assert bootstrap(np.ones((3, 20), bool)) == (1, 1)
    assert bootstrap(apart) == bootstrap(apart), "the same numbers every time"
