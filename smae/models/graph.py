"""Graph convolution after CTR-GCN, smaller and faster: this project's own variant (see ``ctrgcn``).

Other than in the published network, joints are mapped to the first width and given positions before
the first block, three stages have any number of blocks, a few channels share a graph, all graphs
are refined from 8 relations, and BatchNorm joins the branches over time. A hidden joint is a
learned vector.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from smae.config import PluginConfig
from smae.errors import ConfigError
from smae.models import MAX_DEPTH, MAX_WIDTH, DropPath, Grid, PositionEmbedding
from smae.models.encoders import Encoder, block_of, kept
from smae.models.masking import Mask
from smae.skeleton import Layout

STAGES = 3
RELATIONS = 8
"""Numbers that describe how two joints are related, from which a channel's graph is refined."""
DILATIONS = (1, 2)
"""Of the two convolutions over time, in frames."""
RADIUS = 2
"""Neighbours on either side in a convolution over time."""


class GraphEncoder(Encoder):
    """Input map, then three stages of blocks, each twice as wide as the one before."""

    class Config(PluginConfig):
        """Size of the encoder."""

        dim: int = Field(
            256, ge=16, le=MAX_WIDTH, multiple_of=16, description="width D of the last stage; the first has D / 4"
        )
        depth: int = Field(3, ge=1, le=MAX_DEPTH, description="blocks in each of the three stages")
        share: int = Field(4, ge=1, description="channels that share a graph")
        patch: Literal[1, 2, 4] = Field(4, description="frames in a token: time is halved for the last stages")
        drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth of the last block, rising from 0")

    def __init__(self, config: Config, *, frames: int, layout: Layout) -> None:
        super().__init__()
        self.grid = Grid.cut(frames, joints=len(layout), patch=config.patch)
        self.dim, self.depth = config.dim, STAGES * config.depth
        width = config.dim // 4
        if width % config.share:
            raise ConfigError(
                f"encoder.share={config.share} does not divide the first stage's width, {width} "
                f"(encoder.dim / 4): choose 1, 2 or 4"
            )
        self.embed = nn.Sequential(nn.Linear(self.grid.channels, width), BatchNorm(width))
        self.mask_token = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.pos_embed = PositionEmbedding(self.grid.times, self.grid.joints, width)
        graphs, halvings = bone_graphs(layout), config.patch.bit_length() - 1
        graphs = graphs / graphs.sum(2, keepdim=True).clamp(min=1)
        self.blocks, inputs = nn.ModuleList(), width
        for number in range(self.depth):
            stage, first = number // config.depth, number % config.depth == 0
            outputs = width * 2**stage
            # Time is halved by the first block of each of the last stages.
            stride = 2 if first and stage >= STAGES - halvings else 1
            drop = config.drop_path * number / (self.depth - 1)
            self.blocks.append(
                GraphBlock(inputs, outputs, graphs=graphs, share=config.share, stride=stride, drop_path=drop)
            )
            inputs = outputs

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        """Return features [N, K, D]; see ``Encoder.forward``.

        Hidden joints enter no BatchNorm statistics of the input map.
        """
        grid, n = self.grid, x.shape[0]
        tokens = self.embed(self.visible_tokens(x, mask).view(n, -1, grid.patch, grid.channels))
        if mask is not None:
            seen = tokens
            tokens = self.mask_token.to(seen.dtype).expand(n, grid.tokens, grid.patch, -1)
            tokens = tokens.scatter(1, mask.keep[..., None, None].expand_as(seen), seen)
        tokens = tokens + self.pos_embed()[:, None]
        # [N, T, V, D / 4]
        y = tokens.view(n, grid.times, grid.joints, grid.patch, -1).transpose(2, 3).flatten(1, 2)
        for block in self.blocks:
            y = block(y)
        features = y.flatten(1, 2)
        return kept(features, mask)

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the input map, 1 to ``depth`` for the blocks."""
        return block_of(parameter)


class BatchNorm(nn.BatchNorm1d):
    """BatchNorm of the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x [..., D], each number standardised over all others of the batch."""
        return super().forward(x.reshape(-1, x.shape[-1])).view_as(x)


class GraphBlock(nn.Module):
    """Graph convolution, then temporal convolution, each with BatchNorm, shortcut and ReLU.

    Three graphs begin as the skeleton's: a joint itself, its parent, its children. Channel c mixes
    joints by A_c[v, u] = A[v, u] + alpha sum over r of w[r, c] tanh(q_r[v] - k_r[u]), q and k
    linear maps of the mean over time (the paper's equations 3 to 5); ``share`` channels share one
    A_c. Over time there are four branches, a quarter of the channels each: a convolution over 5
    frames, one over 5 of every second frame, a maximum over 3, the frame itself.
    """

    def __init__(self, inputs: int, outputs: int, *, graphs: Tensor, share: int, stride: int, drop_path: float) -> None:
        super().__init__()
        self.kinds, self.groups, self.stride = len(graphs), outputs // share, stride
        self.graph = nn.Parameter(graphs.clone())
        self.query_key = nn.Linear(inputs, 2 * self.kinds * RELATIONS)
        self.refine = nn.Parameter(torch.empty(self.kinds, RELATIONS, self.groups))
        nn.init.normal_(self.refine, std=RELATIONS**-0.5)
        self.alpha = nn.Parameter(torch.zeros(()))
        self.value, self.norm_graph = nn.Linear(inputs, self.kinds * outputs), BatchNorm(outputs)
        self.split = nn.Sequential(nn.Linear(outputs, outputs), BatchNorm(outputs))
        branch = outputs // 4
        self.temporal = nn.ModuleList(nn.Linear((2 * RADIUS + 1) * branch, branch) for _ in DILATIONS)
        self.norm_time = BatchNorm(outputs)
        self.graph_shortcut, self.shortcut = shortcut(inputs, outputs), shortcut(inputs, outputs)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, T / stride, V, outputs] of x [N, T, V, inputs]."""
        y = torch.relu(self.drop_path(self.norm_graph(self.graph_conv(x))) + self.graph_shortcut(x))
        y = self.drop_path(self.norm_time(self.temporal_conv(y)))
        return torch.relu(y + self.shortcut(x[:, :: self.stride]))

    def graph_conv(self, x: Tensor) -> Tensor:
        """Return [N, T, V, outputs]: values of all neighbours, mixed by each group's graphs."""
        n, times, joints, _ = x.shape
        query, key = self.query_key(x.mean(1)).view(n, joints, 2, self.kinds, RELATIONS).unbind(2)
        relation = (query[:, :, None] - key[:, None]).tanh()  # [N, V, V, kinds, relations]
        refined = torch.einsum("nvukr,krg->ngvku", relation, self.alpha * self.refine)
        graph = refined + self.graph.transpose(0, 1)
        value = self.value(x).view(n, times, joints, self.kinds, self.groups, -1).permute(0, 4, 3, 2, 1, 5)
        # One product a group: the sum over kinds is part of it.
        mixed: Tensor = graph.flatten(3) @ value.reshape(n, self.groups, self.kinds * joints, -1)
        mixed = mixed.view(n, self.groups, joints, times, -1)
        return mixed.permute(0, 3, 2, 1, 4).reshape(n, times, joints, -1)

    def temporal_conv(self, x: Tensor) -> Tensor:
        """Return [N, T / stride, V, outputs]: four branches side by side."""
        *parts, most, same = self.split(x).chunk(4, -1)
        convolved = [
            linear(unfold(part.relu(), radius=RADIUS, dilation=dilation, stride=self.stride))
            for linear, part, dilation in zip(self.temporal, parts, DILATIONS, strict=True)
        ]
        # After ReLU all is at least 0, so the zeros beyond the ends never are the maximum.
        near = unfold(most.relu(), radius=1, dilation=1, stride=self.stride)
        most = torch.stack(near.chunk(3, -1)).amax(0)
        return torch.cat([*convolved, most, same[:, :: self.stride]], -1)


def shortcut(inputs: int, outputs: int) -> nn.Module:
    """Return the identity, or, where widths differ, a linear map and BatchNorm."""
    if inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Linear(inputs, outputs), BatchNorm(outputs))


def unfold(x: Tensor, *, radius: int, dilation: int, stride: int) -> Tensor:
    """Return [N, T / stride, V, (2 radius + 1) D], windows of every ``stride``-th frame of x.

    A window holds frames ``dilation`` apart, from the earliest on; beyond the ends are zeros.
    """
    far = radius * dilation
    padded = pad(x, (0, 0, 0, 0, far, far))
    starts = range(0, 2 * far + 1, dilation)
    return torch.cat([padded[:, start : start + x.shape[1] : stride] for start in starts], -1)


def bone_graphs(layout: Layout) -> Tensor:
    """Return [3, V, V], 0 or 1: each joint (a row) to itself, its parent, its children."""
    graphs = torch.zeros(3, len(layout), len(layout))
    graphs[0] = torch.eye(len(layout))
    for child, parent in layout.bones:
        graphs[1, child, parent] = 1
        graphs[2, parent, child] = 1
    return graphs
