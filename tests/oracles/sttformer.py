"""The published STTFormer as naive float64 loops, written from its description, over weights by published names."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor, nn

from tests.oracles.models import Array, f64

SLOPE = 0.1
Weights = dict[str, Array]
PUBLISHED = {
    "embed": "input_map",
    "query_key": "to_qkvs",
    "alpha": "alphas",
    "attention_bias": "att0s",
    "proj": "out_nets",
    "feed_forward": "ff_net",
    "temporal": "out_nett",
    "shortcut": "ress",
    "temporal_shortcut": "rest",
}
"""Parts of this project's names, and the published ones."""


def published(encoder: nn.Module) -> Weights:
    """An encoder's weights by their published names."""
    state = encoder.state_dict().items()
    return {".".join(PUBLISHED.get(part, part) for part in name.split(".")): f64(value) for name, value in state}


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, SLOPE * x)


def batch_norm(weights: Weights, name: str, x: Array) -> Array:
    """Of a vector of channels, by the running statistics."""
    mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    return (x - mean) / np.sqrt(variance + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def convolve(weights: Weights, name: str, x: Array, *, axis: int) -> Array:
    """Convolution along tuples (axis 0) or joints (axis 1) of x [tuples, joints, C], zeros outside, then BatchNorm."""
    kernel = weights[f"{name}.0.weight"]
    kernel = kernel[:, :, :, 0] if axis == 0 else kernel[:, :, 0, :]
    reach = kernel.shape[2] // 2
    out = np.zeros((*x.shape[:2], kernel.shape[0]))
    for time in range(x.shape[0]):
        for joint in range(x.shape[1]):
            total = weights[f"{name}.0.bias"].copy()
            for step in range(-reach, reach + 1):
                near = (time + step, joint) if axis == 0 else (time, joint + step)
                if 0 <= near[axis] < x.shape[axis]:
                    total += kernel[:, :, step + reach] @ x[near]
            out[time, joint] = batch_norm(weights, f"{name}.1", total)
    return out


def position(joint: int, width: int) -> Array:
    out = np.zeros(width)
    for pair in range(width // 2):
        angle = joint / 10000 ** (2 * pair / width)
        out[2 * pair], out[2 * pair + 1] = math.sin(angle), math.cos(angle)
    return out


def block(weights: Weights, name: str, x: Array) -> Array:
    """One block on x [tuples, joints of a tuple, C]."""
    tuples, joints, inside = x.shape
    weight, bias = weights[f"{name}.to_qkvs.weight"][:, :, 0, 0], weights[f"{name}.to_qkvs.bias"]
    alpha = weights[f"{name}.alphas"]
    heads, numbers = len(alpha), len(weight) // (2 * len(alpha))
    both = np.zeros((tuples, joints, 2 * heads * numbers))
    for time in range(tuples):
        for joint in range(joints):
            both[time, joint] = weight @ (x[time, joint] + position(joint, inside)) + bias
    query, key = both[:, :, : heads * numbers], both[:, :, heads * numbers :]
    bias = weights[f"{name}.att0s"]
    mixed = np.zeros((tuples, joints, heads * inside))
    for head in range(heads):
        part = slice(head * numbers, (head + 1) * numbers)
        for here in range(joints):
            for there in range(joints):
                match = sum(float(query[time, here, part] @ key[time, there, part]) for time in range(tuples))
                attention = math.tanh(match / (numbers * tuples)) * alpha[head] + bias[head, here, there]
                for time in range(tuples):
                    mixed[time, there, head * inside : (head + 1) * inside] += attention * x[time, here]
    short = convolve(weights, f"{name}.ress", x, axis=1) if f"{name}.ress.0.weight" in weights else x
    y = leaky(convolve(weights, f"{name}.out_nets", mixed, axis=1) + short)
    y = leaky(convolve(weights, f"{name}.ff_net", y, axis=1) + short)
    short = convolve(weights, f"{name}.rest", y, axis=1) if f"{name}.rest.0.weight" in weights else y
    return leaky(convolve(weights, f"{name}.out_nett", y, axis=0) + short)


def encode(encoder: nn.Module, x: Tensor, *, visible: list[int] | None, tuples: list[int]) -> dict[int, Array]:
    """Features by token of one item's joints [T, V, C], the encoder in evaluation mode.

    ``visible`` are the tokens that are not hidden, all when None; ``tuples`` those that are not left out.
    """
    weights = published(encoder)
    patch, joints = encoder.grid.patch, encoder.grid.joints
    frames = f64(x)
    width = len(f64(encoder.mask_token))
    mapped = np.zeros((len(tuples), patch * joints, width))
    for place, time in enumerate(tuples):
        for step in range(patch):
            for joint in range(joints):
                value = f64(encoder.mask_token)
                if visible is None or time * joints + joint in visible:
                    raw = weights["input_map.0.weight"][:, :, 0] @ frames[time * patch + step, joint]
                    value = leaky(batch_norm(weights, "input_map.1", raw + weights["input_map.0.bias"]))
                mapped[place, step * joints + joint] = value
    for number in range(len(encoder.blocks)):
        mapped = block(weights, f"blocks.{number}", mapped)
    out = {}
    for place, time in enumerate(tuples):
        for joint in range(joints):
            over = [mapped[place, step * joints + joint] for step in range(patch)]
            out[time * joints + joint] = sum(over) / patch
    return out
