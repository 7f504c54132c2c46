"""STTFormer as naive float64 loops over tuples, joints and channels, written from its description."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor, nn

from tests.oracles.models import Array, f64

SLOPE = 0.1


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, SLOPE * x)


def batch_norm(layer: nn.Module, x: Array) -> Array:
    """Of a vector of channels, by the running statistics."""
    mean, variance = f64(layer.running_mean), f64(layer.running_var)
    return (x - mean) / np.sqrt(variance + layer.eps) * f64(layer.weight) + f64(layer.bias)


def convolve(pair: nn.Sequential, x: Array, *, axis: int) -> Array:
    """Convolution along tuples (axis 0) or joints (axis 1) of x [tuples, joints, C], zeros outside, then BatchNorm."""
    conv, norm = pair
    kernel = f64(conv.weight)[:, :, :, 0] if axis == 0 else f64(conv.weight)[:, :, 0, :]
    reach = kernel.shape[2] // 2
    out = np.zeros((*x.shape[:2], kernel.shape[0]))
    for time in range(x.shape[0]):
        for joint in range(x.shape[1]):
            total = f64(conv.bias).copy()
            for step in range(-reach, reach + 1):
                near = (time + step, joint) if axis == 0 else (time, joint + step)
                if 0 <= near[axis] < x.shape[axis]:
                    total += kernel[:, :, step + reach] @ x[near]
            out[time, joint] = batch_norm(norm, total)
    return out


def position(joint: int, width: int) -> Array:
    out = np.zeros(width)
    for pair in range(width // 2):
        angle = joint / 10000 ** (2 * pair / width)
        out[2 * pair], out[2 * pair + 1] = math.sin(angle), math.cos(angle)
    return out


def block(layer: nn.Module, x: Array) -> Array:
    """One block on x [tuples, joints of a tuple, C]."""
    tuples, joints, inside = x.shape
    heads, numbers = layer.heads, layer.numbers
    weight, bias = f64(layer.query_key.weight)[:, :, 0, 0], f64(layer.query_key.bias)
    both = np.zeros((tuples, joints, 2 * heads * numbers))
    for time in range(tuples):
        for joint in range(joints):
            both[time, joint] = weight @ (x[time, joint] + position(joint, inside)) + bias
    query, key = both[:, :, : heads * numbers], both[:, :, heads * numbers :]
    alpha, bias = f64(layer.alpha), f64(layer.attention_bias)
    mixed = np.zeros((tuples, joints, heads * inside))
    for head in range(heads):
        part = slice(head * numbers, (head + 1) * numbers)
        for here in range(joints):
            for there in range(joints):
                match = sum(float(query[time, here, part] @ key[time, there, part]) for time in range(tuples))
                attention = math.tanh(match / (numbers * tuples)) * alpha[head] + bias[head, here, there]
                for time in range(tuples):
                    mixed[time, there, head * inside : (head + 1) * inside] += attention * x[time, here]
    short = x if isinstance(layer.shortcut, nn.Identity) else convolve(layer.shortcut, x, axis=1)
    y = leaky(convolve(layer.proj, mixed, axis=1) + short)
    y = leaky(convolve(layer.feed_forward, y, axis=1) + short)
    return leaky(convolve(layer.temporal, y, axis=0) + y)


def encode(encoder: nn.Module, x: Tensor, *, visible: list[int] | None, tuples: list[int]) -> dict[int, Array]:
    """Features by token of one item's joints [T, V, C], the encoder in evaluation mode.

    ``visible`` are the tokens that are not hidden, all when None; ``tuples`` those that are not left out.
    """
    conv, norm, _ = encoder.embed
    patch, joints = encoder.grid.patch, encoder.grid.joints
    frames = f64(x)
    width = len(f64(encoder.mask_token))
    mapped = np.zeros((len(tuples), patch * joints, width))
    for place, time in enumerate(tuples):
        for step in range(patch):
            for joint in range(joints):
                value = f64(encoder.mask_token)
                if visible is None or time * joints + joint in visible:
                    raw = f64(conv.weight)[:, :, 0] @ frames[time * patch + step, joint] + f64(conv.bias)
                    value = leaky(batch_norm(norm, raw))
                mapped[place, step * joints + joint] = value
    for layer in encoder.blocks:
        mapped = block(layer, mapped)
    out = {}
    for place, time in enumerate(tuples):
        for joint in range(joints):
            over = [mapped[place, step * joints + joint] for step in range(patch)]
            out[time * joints + joint] = sum(over) / patch
    return out
