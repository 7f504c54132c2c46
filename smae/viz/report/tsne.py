"""t-SNE of up to some thousand points, exact and without anything random: the same points, the same map.

Source: van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008 (equations 1, 4 and 5); the start from
the principal components after Kobak and Berens, Nature Communications 10, 2019; the rate after Belkina et al., ibid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PERPLEXITY = 30.0
EXAGGERATION, EXAGGERATED, STEPS = 12.0, 150, 500
"""How many times the attraction is exaggerated, in how many of the first steps, of how many in all."""

_COMPONENTS = 50
_ROWS = 32
_TINY = 1e-12


def tsne(x: Floats, *, perplexity: float = PERPLEXITY, steps: int = STEPS) -> Floats:
    """Return places [n, 2] of points [n, D], n at least 4; neighbours stay neighbours, far distances mean nothing.

    Args:
        x: points.
        perplexity: about how many neighbours count; at most a third of the others.
        steps: of gradient descent.
    """
    x = _principal(x, _COMPONENTS)
    p = joint(x, min(perplexity, (len(x) - 1) / 3)).astype(np.float32)
    first = x[:, :2] if x.shape[1] > 1 else np.pad(x, ((0, 0), (0, 2 - x.shape[1])))
    y = (1e-4 * first / max(first[:, 0].std(), _TINY)).astype(np.float32)
    exaggerated = p * np.float32(EXAGGERATION)
    rate = max(len(x) / EXAGGERATION / 4, 50.0)
    moved, gain = np.zeros_like(y), np.ones_like(y)
    for step in range(steps):
        early = step < EXAGGERATED
        slope = gradient(exaggerated if early else p, y)
        gain = np.maximum(np.where((slope > 0) == (moved > 0), gain * 0.8, gain + 0.2), 0.01)
        moved = (0.5 if early else 0.8) * moved - np.float32(rate) * gain * slope
        y = y + moved
        y -= y.mean(0)
    return np.asarray(y, np.float64)


def gradient(p: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Return the slope [n, 2] of the Kullback-Leibler divergence from p [n, n] at places y (equation 5).

    Some rows at a time, which stay in the cache, and without products of matrices, whose threads would wait for each
    other longer than they compute.
    """
    pull, push, total = np.empty_like(y), np.empty_like(y), -float(len(y))  # a point's nearness to itself is not meant
    for start in range(0, len(y), _ROWS):
        rows = slice(start, start + _ROWS)
        apart = [y[rows, c, None] - y[:, c] for c in (0, 1)]
        near = np.square(apart[0])
        near += np.square(apart[1])
        near += 1
        np.reciprocal(near, out=near)
        total += float(near.sum())
        drawn = p[rows] * near
        near *= near
        for c in (0, 1):
            pull[rows, c] = np.einsum("ij,ij->i", drawn, apart[c])
            push[rows, c] = np.einsum("ij,ij->i", near, apart[c])
    return np.asarray(4 * (pull - push / total), y.dtype)


def joint(x: Floats, perplexity: float) -> Floats:
    """Return symmetric affinities [n, n] that sum to 1; each point's width gives the wanted perplexity (equation 1)."""
    squares = _squares(x)
    np.fill_diagonal(squares, np.inf)
    squares -= squares.min(1, keepdims=True)
    low, high = np.zeros(len(x)), np.full(len(x), np.inf)
    sharp = 1 / np.maximum(np.median(np.where(np.isfinite(squares), squares, 0), axis=1), _TINY)
    wanted = np.log(perplexity)
    for _ in range(50):
        share = np.exp(-squares * sharp[:, None])
        share /= share.sum(1, keepdims=True)
        entropy = -(share * np.log(np.maximum(share, _TINY))).sum(1)
        wide = entropy > wanted
        low, high = np.where(wide, sharp, low), np.where(wide, high, sharp)
        sharp = np.where(np.isfinite(high), (low + high) / 2, 2 * sharp)
    return np.asarray(np.maximum((share + share.T) / (2 * len(x)), _TINY * (1 - np.eye(len(x)))))


def _squares(x: NDArray[Any]) -> NDArray[Any]:
    """Return squared distances [n, n] of points [n, D]."""
    size = (x * x).sum(1)
    squares: NDArray[Any] = x @ (-2 * x.T)
    squares += size
    squares += size[:, None]
    np.maximum(squares, 0, out=squares)
    return squares


def _principal(x: Floats, most: int) -> Floats:
    """Return the points' principal components, each with its sign fixed: its largest weight is positive."""
    u, s, v = np.linalg.svd(x - x.mean(0), full_matrices=False)
    sign = np.sign(v[np.arange(len(v)), np.abs(v).argmax(1)])
    components: Floats = (u * s * sign)[:, :most]
    return components
