"""The published CTR-GCN as naive float64 loops, written from its description, over weights by their published names.

``l1`` to ``l10`` are the blocks. In each, ``gcn1`` holds three graph convolutions (``convs.0`` to ``convs.2``, of
``conv1`` to ``conv4``), the graphs ``PA``, ``alpha``, ``bn`` and, where widths differ, the residual ``down``; ``tcn1``
four branches over time; ``residual`` the outer residual where width or stride differ.
"""

from __future__ import annotations

import re

import numpy as np

from smae.skeleton import Layout
from tests.oracles.models import Array

Weights = dict[str, Array]
STRIDES = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1)
OURS = {
    "norm.": "data_bn.",
    ".graph_shortcut.": ".gcn1.down.",
    ".shortcut.0.": ".residual.conv.",
    ".shortcut.1.": ".residual.bn.",
    ".graph": ".gcn1.PA",
    ".alpha": ".gcn1.alpha",
    ".norm_graph.": ".gcn1.bn.",
    ".convs.": ".gcn1.convs.",
    ".query.": ".conv1.",
    ".key.": ".conv2.",
    ".value.": ".conv3.",
    ".refine.": ".conv4.",
    ".branches.": ".tcn1.branches.",
}
"""Parts of this project's names, and the published ones."""
BRANCHES = {"0.0": "0", "0.1": "1", "2.0": "3.conv", "2.1": "3.bn"}
"""Within the two branches that convolve; the branch of the maximum has its second BatchNorm at 4."""


def published_name(name: str) -> str:
    """The published name of one of this project's weights."""
    name = re.sub(r"^blocks\.(\d+)", lambda found: f"l{int(found[1]) + 1}", name)
    for ours, theirs in OURS.items():
        if name.startswith(ours) or (ours.startswith(".") and ours in name):
            name = name.replace(ours, theirs, 1)
            if ours == ".graph_shortcut.":
                break
    found = re.match(r"(.*branches\.)(\d)\.(.+)\.(\w+)$", name)
    if found is None:
        return name
    start, branch, inside, kind = found.groups()
    if branch in "01":
        inside = BRANCHES[inside]
    elif branch == "2":
        inside = {"0.0": "0", "0.1": "1", "3": "4"}[inside]
    return f"{start}{branch}.{inside}.{kind}"


def norm(weights: Weights, name: str, x: Array) -> Array:
    """BatchNorm of the first axis of x [C, ...] by running statistics."""
    kinds = ("running_mean", "running_var", "weight", "bias")
    mean, variance, scale, bias = (weights[f"{name}.{kind}"].reshape(-1, *[1] * (x.ndim - 1)) for kind in kinds)
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias


def convolve(weights: Weights, name: str, x: Array, *, stride: int = 1, dilation: int = 1) -> Array:
    """Convolution over time of x [C, T, V]; beyond the ends are zeros."""
    kernel = weights[f"{name}.weight"][..., 0]
    size, times = kernel.shape[2], x.shape[1]
    out = np.zeros((len(kernel), len(range(0, times, stride)), x.shape[2]))
    for place, time in enumerate(range(0, times, stride)):
        for step in range(size):
            other = time + (step - size // 2) * dilation
            if 0 <= other < times:
                out[:, place] += kernel[:, :, step] @ x[:, other]
    return out + weights[f"{name}.bias"][:, None, None]


def graph_conv(weights: Weights, name: str, x: Array, graph: Array, alpha: float) -> Array:
    first, second = (convolve(weights, f"{name}.conv{one}", x).mean(1) for one in (1, 2))
    value = convolve(weights, f"{name}.conv3", x)
    matrix, bias = weights[f"{name}.conv4.weight"][..., 0, 0], weights[f"{name}.conv4.bias"]
    out = np.zeros_like(value)
    for u in range(x.shape[2]):
        for v in range(x.shape[2]):
            weight = alpha * (matrix @ np.tanh(first[:, u] - second[:, v]) + bias) + graph[u, v]
            out[:, :, u] += weight[:, None] * value[:, :, v]
    return out


def branches(weights: Weights, name: str, x: Array, *, stride: int) -> Array:
    out = []
    for number, dilation in enumerate((1, 2)):
        start = f"{name}.branches.{number}"
        y = np.maximum(norm(weights, f"{start}.1", convolve(weights, f"{start}.0", x)), 0)
        y = convolve(weights, f"{start}.3.conv", y, stride=stride, dilation=dilation)
        out.append(norm(weights, f"{start}.3.bn", y))
    start = f"{name}.branches.2"
    y = np.maximum(norm(weights, f"{start}.1", convolve(weights, f"{start}.0", x)), 0)
    times = range(0, x.shape[1], stride)
    highest = np.stack([y[:, max(0, time - 1) : time + 2].max(1) for time in times], 1)
    out.append(norm(weights, f"{start}.4", highest))
    start = f"{name}.branches.3"
    out.append(norm(weights, f"{start}.1", convolve(weights, f"{start}.0", x, stride=stride)))
    return np.concatenate(out)


def block(weights: Weights, name: str, x: Array, *, stride: int, first: bool) -> Array:
    graphs, alpha = weights[f"{name}.gcn1.PA"], float(weights[f"{name}.gcn1.alpha"][0])
    y = sum(graph_conv(weights, f"{name}.gcn1.convs.{kind}", x, graphs[kind], alpha) for kind in range(3))
    y = norm(weights, f"{name}.gcn1.bn", y)
    if f"{name}.gcn1.down.0.weight" in weights:
        y += norm(weights, f"{name}.gcn1.down.1", convolve(weights, f"{name}.gcn1.down.0", x))
    else:
        y += x
    y = branches(weights, f"{name}.tcn1", np.maximum(y, 0), stride=stride)
    if f"{name}.residual.conv.weight" in weights:
        y += norm(weights, f"{name}.residual.bn", convolve(weights, f"{name}.residual.conv", x, stride=stride))
    elif not first:
        y += x
    return np.maximum(y, 0)


def encode(weights: Weights, joints: Array, *, visible: Array | None = None, unknown: Array | None = None) -> Array:
    """Features [T / 4, V, D] of one body's joints [T, V, C]; ``unknown`` [C] stands where ``visible`` [T, V] is not."""
    times, count, channels = joints.shape
    x = norm(weights, "data_bn", joints.reshape(times, count * channels).T)
    x = x.reshape(count, channels, times).transpose(1, 2, 0)
    if visible is not None:
        x = np.where(visible, x, unknown[:, None, None])
    for number, stride in enumerate(STRIDES):
        x = block(weights, f"l{number + 1}", x, stride=stride, first=number == 0)
    return x.transpose(1, 2, 0)


def adjacency(layout: Layout) -> Array:
    """[3, V, V]: self, inward (row parent, column child), outward; each column shared evenly."""
    out = np.zeros((3, len(layout), len(layout)))
    for joint in range(len(layout)):
        out[0, joint, joint] = 1
    for child, parent in layout.bones:
        out[1, parent, child] = 1
        siblings = sum(other == parent for _, other in layout.bones)
        out[2, child, parent] = 1 / siblings
    return out
