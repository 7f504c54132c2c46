"""Targets as naive float64 loops, written from the definitions of MAE, MAMP and this project."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tests.oracles.models import Array, tokens_of

EPS = 1e-6


def motion(x: Array) -> Array:
    """x[t + 1] - x[t] of joints [T, V, C]; the last frame is 0."""
    out = np.zeros_like(x)
    for time in range(len(x) - 1):
        out[time] = x[time + 1] - x[time]
    return out


def unbiased(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) + EPS)


def target(x: Array, *, patch: int, normalise: str) -> Array:
    """Target tokens [L, P] of one item's joints (or motion) [T, V, C]."""
    if normalise == "token":
        tokens = tokens_of(x, patch=patch)
        for token in tokens:
            mean, scale = unbiased(token.tolist())
            token[:] = (token - mean) / scale
        return tokens
    out = x.copy()
    frames, joints, channels = x.shape
    for channel in range(channels):
        if normalise == "clip":
            for joint in range(joints):
                mean, scale = unbiased(x[:, joint, channel].tolist())
                out[:, joint, channel] = (x[:, joint, channel] - mean) / scale
        elif normalise == "movement":
            scales = [unbiased(x[:, joint, channel].tolist())[1] ** 2 - EPS for joint in range(joints)]
            scale = math.sqrt(sum(scales) / joints + EPS)
            for joint in range(joints):
                out[:, joint, channel] = (x[:, joint, channel] - unbiased(x[:, joint, channel].tolist())[0]) / scale
        elif normalise == "body":
            mean, scale = unbiased([x[t, v, channel] for t in range(frames) for v in range(joints)])
            out[:, :, channel] = (x[:, :, channel] - mean) / scale
    return tokens_of(out, patch=patch)


def loss(predicted: NDArray[np.float64], wanted: list[Array], hide: list[list[int]]) -> float:
    """Mean over items, hidden tokens and their numbers of (prediction - target)^2."""
    total, count = 0.0, 0
    for item, tokens in enumerate(hide):
        for place, token in enumerate(tokens):
            for number, value in enumerate(wanted[item][token]):
                total += (predicted[item, place, number] - value) ** 2
                count += 1
    return total / count
