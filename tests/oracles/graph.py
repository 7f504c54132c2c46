"""The variant of CTR-GCN as naive float64 loops over frames, joints and channels, written from its description."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor, nn

from smae.skeleton import Layout
from tests.oracles.models import Array, f64


def batch_norm(layer: nn.Module, x: Array) -> Array:
    """Of a vector of channels, by the running statistics."""
    mean, variance = f64(layer.running_mean), f64(layer.running_var)
    return (x - mean) / np.sqrt(variance + layer.eps) * f64(layer.weight) + f64(layer.bias)


def linear(layer: nn.Linear, x: Array) -> Array:
    """Of a vector."""
    return f64(layer.weight) @ x + f64(layer.bias)


def everywhere(x: Array, change) -> Array:
    """``change`` of every joint in every frame of x [T, V, C]."""
    return np.array([[change(x[time, joint]) for joint in range(x.shape[1])] for time in range(x.shape[0])])


def shortcut(layer: nn.Module, x: Array) -> Array:
    return (
        x if isinstance(layer, nn.Identity) else everywhere(x, lambda one: batch_norm(layer[1], linear(layer[0], one)))
    )


def graphs(layer: nn.Module, x: Array) -> Array:
    """[kinds, channels, V, V]: how channel c of joint v weighs that of joint u."""
    joints, kinds, relations = x.shape[1], layer.kinds, layer.refine.shape[1]
    channels = layer.value.out_features // kinds
    share = channels // layer.groups
    out = np.zeros((kinds, channels, joints, joints))
    mean = [linear(layer.query_key, x[:, joint].mean(0)) for joint in range(joints)]
    for kind in range(kinds):
        for channel in range(channels):
            weights = f64(layer.refine)[kind, :, channel // share]
            for v in range(joints):
                for u in range(joints):
                    total = 0.0
                    for r in range(relations):
                        query = mean[v][kind * relations + r]
                        key = mean[u][(kinds + kind) * relations + r]
                        total += weights[r] * math.tanh(query - key)
                    out[kind, channel, v, u] = f64(layer.graph)[kind, v, u] + float(f64(layer.alpha)) * total
    return out


def graph_conv(layer: nn.Module, x: Array) -> Array:
    times, joints, _ = x.shape
    graph = graphs(layer, x)
    kinds, channels = graph.shape[:2]
    value = everywhere(x, lambda one: linear(layer.value, one))
    out = np.zeros((times, joints, channels))
    for time in range(times):
        for channel in range(channels):
            for v in range(joints):
                for u in range(joints):
                    for kind in range(kinds):
                        weight = graph[kind, channel, v, u]
                        out[time, v, channel] += weight * value[time, u, kind * channels + channel]
    return out


def temporal_conv(layer: nn.Module, x: Array) -> Array:
    """Four branches of x [T, V, C], each of a quarter of the channels, at every ``stride``-th frame."""
    mapped = everywhere(x, lambda one: batch_norm(layer.split[1], linear(layer.split[0], one)))
    part = mapped.shape[2] // 4
    rows = []
    for time in range(0, len(x), layer.stride):
        row = []
        for joint in range(x.shape[1]):
            branches = []
            for branch, spread in enumerate((1, 2)):
                seen = []
                for step in (-2, -1, 0, 1, 2):
                    other = time + spread * step
                    inside = 0 <= other < len(x)
                    channels = slice(branch * part, (branch + 1) * part)
                    seen.append(np.maximum(mapped[other, joint, channels], 0) if inside else np.zeros(part))
                branches.append(linear(layer.temporal[branch], np.concatenate(seen)))
            near = [mapped[t, joint, 2 * part : 3 * part] for t in range(max(0, time - 1), min(len(x), time + 2))]
            branches += [np.maximum(np.max(near, 0), 0), mapped[time, joint, 3 * part :]]
            row.append(np.concatenate(branches))
        rows.append(row)
    return np.array(rows)


def block(layer: nn.Module, x: Array) -> Array:
    """One block on x [T, V, C]."""
    y = everywhere(graph_conv(layer, x), lambda one: batch_norm(layer.norm_graph, one))
    y = np.maximum(y + shortcut(layer.graph_shortcut, x), 0)
    y = everywhere(temporal_conv(layer, y), lambda one: batch_norm(layer.norm_time, one))
    return np.maximum(y + shortcut(layer.shortcut, x[:: layer.stride]), 0)


def encode(encoder: nn.Module, x: Tensor, *, visible: list[int] | None) -> dict[int, Array]:
    """Features by token of one item's joints [T, V, C], the encoder in evaluation mode.

    ``visible`` are the tokens that are not hidden, all when None.
    """
    frames, grid = f64(x), encoder.grid
    positions = f64(encoder.pos_embed())
    mapped = np.zeros((len(frames), grid.joints, len(f64(encoder.mask_token))))
    for time in range(len(frames)):
        for joint in range(grid.joints):
            token = time // grid.patch * grid.joints + joint
            value = f64(encoder.mask_token)
            if visible is None or token in visible:
                value = batch_norm(encoder.embed[1], linear(encoder.embed[0], frames[time, joint]))
            mapped[time, joint] = value + positions[token]
    for layer in encoder.blocks:
        mapped = block(layer, mapped)
    return {
        time * grid.joints + joint: mapped[time, joint] for time in range(grid.times) for joint in range(grid.joints)
    }


def bones(layout: Layout) -> Array:
    """[3, V, V]: a joint to itself, to its parent, to its children, shared evenly."""
    out = np.zeros((3, len(layout), len(layout)))
    for joint in range(len(layout)):
        out[0, joint, joint] = 1
        parents = [parent for child, parent in layout.bones if child == joint]
        children = [child for child, parent in layout.bones if parent == joint]
        for kind, others in ((1, parents), (2, children)):
            for other in others:
                out[kind, joint, other] = 1 / len(others)
    return out
