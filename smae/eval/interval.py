"""How sure an accuracy is: mean and spread over seeds, and a bootstrap interval over seeds and test clips."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smae.rng import Noise

DRAWS = 1000
_AT_ONCE = 50


def bootstrap(right: NDArray[np.bool_], *, level: float = 0.95, draws: int = DRAWS) -> tuple[float, float]:
    """Return the percentile interval of an accuracy (Efron, 1979): seeds and clips are drawn anew, with replacement.

    A draw takes S of the S seeds and n of the n clips; its accuracy is the mean over both. Clips are drawn once for all
    seeds, since all were judged on the same ones.

    Args:
        right: bool [S, n], whether each seed's classifier was right about each test clip.
        level: share of the draws that the interval holds.
        draws: how many.
    """
    seeds, clips = right.shape
    means = []
    for first in range(0, draws, _AT_ONCE):
        noise = Noise(0, 0, np.arange(first, min(first + _AT_ONCE, draws)))
        seed = (noise.uniform("bootstrap-seeds", seeds).astype(np.float64) * seeds).astype(np.int64)
        clip = (noise.uniform("bootstrap-clips", clips).astype(np.float64) * clips).astype(np.int64)
        means += [float(right[s][:, c].mean()) for s, c in zip(seed, clip, strict=True)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the 95 % interval of how much more often ``second`` is right than ``first``, both bool [n].

    Both were judged on the same clips, and a draw takes the same ones for both: what makes a clip hard for either does
    not widen the interval.
    """
    gain = second.astype(np.float64) - first
    means = []
    for start in range(0, DRAWS, _AT_ONCE):
        noise = Noise(0, 0, np.arange(start, min(start + _AT_ONCE, DRAWS)))
        clip = (noise.uniform("bootstrap-clips", len(gain)).astype(np.float64) * len(gain)).astype(np.int64)
        means += gain[clip].mean(axis=1).tolist()
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def spread(values: list[float]) -> float | None:
    """Return the standard deviation over seeds (unbiased); None of a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
