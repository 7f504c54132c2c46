"""Masking, attention and transformers as naive float64 loops over tokens and heads, written from their docstrings."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]


def f64(x: Tensor) -> Array:
    return x.detach().double().numpy()


def tokens_of(x: Array, *, patch: int) -> Array:
    """Joints [T, V, C] -> tokens [L, P]: token = time * V + joint; numbers frame by frame, x y z within a frame."""
    frames, joints, channels = x.shape
    out = np.zeros((frames // patch * joints, patch * channels))
    for time in range(frames // patch):
        for joint in range(joints):
            for step in range(patch):
                for channel in range(channels):
                    out[time * joints + joint, step * channels + channel] = x[time * patch + step, joint, channel]
    return out


def motion_log_probability(tokens: Array, *, times: int, joints: int, tau: float) -> Array:
    """Log of the softmax of m / (max m * tau), m = mean |patch_t - patch_(t-1)|, the first patch's copied (MAMP)."""
    motion = np.zeros((times, joints))
    for time in range(1, times):
        for joint in range(joints):
            here, before = tokens[time * joints + joint], tokens[(time - 1) * joints + joint]
            motion[time, joint] = sum(abs(a - b) for a, b in zip(here, before, strict=True)) / len(here)
    motion[0] = motion[1]
    scaled = (motion / (motion.max() * tau)).ravel()
    return scaled - math.log(sum(math.exp(value) for value in scaled))


def linear(layer: nn.Linear, x: Array) -> Array:
    return f64(layer.weight) @ x + f64(layer.bias)


def layer_norm(layer: nn.LayerNorm, x: Array) -> Array:
    mean = x.mean()
    variance = ((x - mean) ** 2).mean()
    return (x - mean) / math.sqrt(variance + layer.eps) * f64(layer.weight) + f64(layer.bias)


def gelu(x: Array) -> Array:
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])


def attention(layer: nn.Module, queries: list[Array], sources: list[Array]) -> list[Array]:
    """One query after another, one head after another, one key after another."""
    heads, dim = layer.heads, len(queries[0])
    size = dim // heads
    pairs = [linear(layer.key_value, source) for source in sources]
    out = []
    for query in queries:
        q, mixed = linear(layer.query, query), np.zeros(dim)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = [q[part] @ pair[:dim][part] / math.sqrt(size) for pair in pairs]
            weights = [math.exp(score - max(scores)) for score in scores]
            for weight, pair in zip(weights, pairs, strict=True):
                mixed[part] += weight / sum(weights) * pair[dim:][part]
        out.append(linear(layer.proj, mixed))
    return out


def block(layer: nn.Module, x: list[Array], source: list[Array] | None = None) -> list[Array]:
    queries = [layer_norm(layer.norm_attention, token) for token in x]
    keys = queries if source is None else [layer_norm(layer.norm_source, token) for token in source]
    x = [token + added for token, added in zip(x, attention(layer.attention, queries, keys), strict=True)]
    first, _, second = layer.mlp
    return [token + linear(second, gelu(linear(first, layer_norm(layer.norm_mlp, token)))) for token in x]


def position(layer: nn.Module, token: int) -> Array:
    joints = len(layer.joint)
    return f64(layer.time[token // joints]) + f64(layer.joint[token % joints])


def with_movement(token: Array, *, channels: int, scale: float) -> Array:
    """A token's numbers, then each less the mean of its coordinate over the token's frames, times the scale."""
    means = [token[c::channels].mean() for c in range(channels)]
    return np.array([*token, *(scale * (value - means[i % channels]) for i, value in enumerate(token))])


def encode(encoder: nn.Module, x: Tensor, keep: list[int]) -> Array:
    """Features [K, D] of the kept tokens of one item's joints [T, V, C]."""
    tokens = tokens_of(f64(x), patch=encoder.grid.patch)
    if encoder.movement:
        tokens = np.stack([with_movement(token, channels=x.shape[-1], scale=encoder.movement) for token in tokens])
    features = [linear(encoder.embed, tokens[token]) + position(encoder.pos_embed, token) for token in keep]
    for layer in encoder.blocks:
        features = block(layer, features)
    return np.stack([layer_norm(encoder.norm, feature) for feature in features])


def decode(decoder: nn.Module, features: Tensor, keep: list[int], hide: list[int], *, cross: bool) -> Array:
    """Predictions [H, P] at the hidden tokens of one item, from features [K, D] of its kept ones."""
    visible = [
        linear(decoder.embed, f64(row)) + position(decoder.pos_embed, t) for row, t in zip(features, keep, strict=True)
    ]
    hidden = [f64(decoder.mask_token) + position(decoder.pos_embed, token) for token in hide]
    for layer in decoder.blocks:
        if cross:
            hidden = block(layer, hidden, visible)
        else:
            both = block(layer, visible + hidden)
            visible, hidden = both[: len(keep)], both[len(keep) :]
    return np.stack([linear(decoder.head, layer_norm(decoder.norm, token)) for token in hidden])
