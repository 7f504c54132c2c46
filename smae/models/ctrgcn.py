"""CTR-GCN as an encoder of masked clips: joints mix along graphs that every clip refines, frames with their neighbours.

After Chen, Zhang, Yuan, Li, Deng and Hu, "Channel-wise Topology Refinement Graph Convolution for Skeleton-Based Action
Recognition" (2021). Where it stands for an encoder of visible tokens, the choices are this project's: frames are halved
between stages, so that what comes out are tokens of one joint over a few frames; a hidden joint is a learned vector in
its place (the graphs are over all joints); a few channels share a graph (``share=1``: as published).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from smae.config import PluginConfig
from smae.errors import ConfigError
from smae.models.encoders import Encoder
from smae.models.mask import Mask
from smae.models.tokens import Grid, gather, patchify
from smae.models.transformer import DropPath, Places
from smae.skeleton import Layout

STAGES = 3
RELATIONS = 8
"""Numbers that tell how one joint stands to another, from which a channel's graph is refined."""
SPREADS = (1, 2)
"""Frames between neighbours in the two convolutions over time."""
REACH = 2
"""Neighbours on either side in a convolution over time."""


class GraphConvolution(Encoder):
    """Input map, then three stages of blocks, each twice as wide as the one before."""

    class Config(PluginConfig):
        """Size of the encoder."""

        dim: int = Field(256, ge=16, multiple_of=16, description="width D of the last stage; the first has D / 4")
        depth: int = Field(3, ge=1, description="blocks in each of the three stages")
        share: int = Field(4, ge=1, description="channels that share a graph; 1 as published")
        patch: Literal[1, 2, 4] = Field(4, description="frames in a token: time is halved for the last stages")
        drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth of the last block, rising from 0")

    def __init__(self, config: Config, *, frames: int, layout: Layout) -> None:
        super().__init__()
        self.grid = Grid.cut(frames, joints=len(layout), patch=config.patch)
        self.dim, self.depth = config.dim, STAGES * config.depth
        if config.dim // 4 % config.share:
            raise ConfigError(
                f"encoder.share={config.share} does not divide the first stage's width, {config.dim // 4} "
                f"(encoder.dim / 4): choose 1, 2 or 4"
            )
        width = config.dim // 4
        self.enter = nn.Sequential(nn.Linear(self.grid.channels, width), Norm(width))
        self.unknown = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.unknown, std=0.02)
        self.places = Places(self.grid.times, self.grid.joints, width)
        graphs, halvings = bone_graphs(layout), config.patch.bit_length() - 1
        self.blocks = nn.ModuleList()
        for number in range(self.depth):
            stage, place = divmod(number, config.depth)
            outside = config.dim // 4 * 2**stage
            stride = 2 if place == 0 and stage >= STAGES - halvings else 1
            drop = config.drop_path * number / (self.depth - 1)
            self.blocks.append(
                GraphBlock(width, outside, graphs=graphs, share=config.share, stride=stride, drop_path=drop)
            )
            width = outside

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        """Return features [N, K, D] of joints x [N, T, V, C]: all tokens, or those a mask keeps.

        What a mask hides enters nothing, no mean of a batch either.
        """
        grid, tokens, n = self.grid, patchify(x, self.grid), len(x)
        if mask is None:
            known = self.enter(tokens.view(n, grid.tokens, grid.patch, grid.channels))
        else:
            seen = self.enter(gather(tokens, mask.keep).view(n, -1, grid.patch, grid.channels))
            known = self.unknown.to(seen.dtype).expand(n, grid.tokens, grid.patch, -1)
            known = known.scatter(1, mask.keep[..., None, None].expand_as(seen), seen)
        known = known + self.places()[:, None]
        y = known.view(n, grid.times, grid.joints, grid.patch, -1).transpose(2, 3).flatten(1, 2)  # [N, T, V, D / 4]
        for block in self.blocks:
            y = block(y)
        features = y.flatten(1, 2)
        return features if mask is None else gather(features, mask.keep)

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the input map, 1 to ``depth`` for the blocks."""
        return int(parameter.split(".")[1]) + 1 if parameter.startswith("blocks.") else 0


class Norm(nn.BatchNorm1d):
    """BatchNorm of the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x [..., D], each number standardised over all others of the batch."""
        return super().forward(x.reshape(-1, x.shape[-1])).view_as(x)


class GraphBlock(nn.Module):
    """Along the graphs, BatchNorm, shortcut, ReLU; then over time, BatchNorm, shortcut from the beginning, ReLU.

    Three graphs begin as the bones have it: a joint itself, its parent, its children. Channel c mixes joints by
    A_c[v, u] = A[v, u] + alpha sum over r of w[r, c] tanh(q_r[v] - k_r[u]), q and k linear maps of the mean over time
    (the paper's equations 3 to 5); ``share`` channels have one. Over time four branches, a quarter of the channels
    each: a convolution over 5 frames, one over 5 of every second frame, a maximum over 3, the frame itself.
    """

    def __init__(self, inside: int, outside: int, *, graphs: Tensor, share: int, stride: int, drop_path: float) -> None:
        super().__init__()
        kinds, groups, part = len(graphs), outside // share, outside // 4
        self.kinds, self.groups, self.stride = kinds, groups, stride
        self.graph = nn.Parameter(graphs.clone())
        self.query_key = nn.Linear(inside, 2 * kinds * RELATIONS)
        self.refine = nn.Parameter(torch.empty(kinds, RELATIONS, groups))
        nn.init.normal_(self.refine, std=RELATIONS**-0.5)
        self.alpha = nn.Parameter(torch.zeros(()))
        self.value, self.norm_graph = nn.Linear(inside, kinds * outside), Norm(outside)
        self.split = nn.Sequential(nn.Linear(outside, outside), Norm(outside))
        self.over = nn.ModuleList(nn.Linear((2 * REACH + 1) * part, part) for _ in SPREADS)
        self.norm_time = Norm(outside)
        self.short, self.around = shortcut(inside, outside), shortcut(inside, outside)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, T / stride, V, outside] of x [N, T, V, inside]."""
        y = torch.relu(self.drop_path(self.norm_graph(self.along_bones(x))) + self.short(x))
        y = self.drop_path(self.norm_time(self.over_time(y)))
        return torch.relu(y + self.around(x[:, :: self.stride]))

    def along_bones(self, x: Tensor) -> Tensor:
        """Return [N, T, V, outside]: values of the three kinds of neighbours, mixed by each group's graphs."""
        n, times, joints, _ = x.shape
        one, other = self.query_key(x.mean(1)).view(n, joints, 2, self.kinds, RELATIONS).unbind(2)
        relation = (one[:, :, None] - other[:, None]).tanh()  # [N, V, V, kinds, relations]
        graph = torch.einsum("nvukr,krg->ngvku", relation, self.alpha * self.refine) + self.graph.transpose(0, 1)
        value = self.value(x).view(n, times, joints, self.kinds, self.groups, -1).permute(0, 4, 3, 2, 1, 5)
        # One product a group: the sum over kinds is part of it.
        mixed: Tensor = graph.flatten(3) @ value.reshape(n, self.groups, self.kinds * joints, -1)
        mixed = mixed.view(n, self.groups, joints, times, -1)
        return mixed.permute(0, 3, 2, 1, 4).reshape(n, times, joints, -1)

    def over_time(self, x: Tensor) -> Tensor:
        """Return [N, T / stride, V, outside]: four branches side by side."""
        *parts, most, same = self.split(x).chunk(4, -1)
        spread = [
            over(neighbours(part.relu(), reach=REACH, spread=step, stride=self.stride))
            for over, part, step in zip(self.over, parts, SPREADS, strict=True)
        ]
        # What BatchNorm and ReLU leave is at least 0: zeros beyond the ends never win.
        near = neighbours(most.relu(), reach=1, spread=1, stride=self.stride)
        most = torch.stack(near.chunk(3, -1)).amax(0)
        return torch.cat([*spread, most, same[:, :: self.stride]], -1)


def shortcut(inside: int, outside: int) -> nn.Module:
    """Return x itself, or, where widths differ, a linear map and BatchNorm."""
    return nn.Identity() if inside == outside else nn.Sequential(nn.Linear(inside, outside), Norm(outside))


def neighbours(x: Tensor, *, reach: int, spread: int, stride: int) -> Tensor:
    """Return [N, T / stride, V, (2 reach + 1) D]: with every ``stride``-th frame of x [N, T, V, D] those around it.

    Neighbours stand ``spread`` frames apart, from the earliest to the latest; beyond the ends are zeros.
    """
    far = reach * spread
    padded = pad(x, (0, 0, 0, 0, far, far))
    starts = range(0, 2 * far + 1, spread)
    return torch.cat([padded[:, start : start + x.shape[1] : stride] for start in starts], -1)


def bone_graphs(layout: Layout) -> Tensor:
    """Return [3, V, V]: from each joint to itself, to its parent, to its children, rows that add up to 1 or 0."""
    graphs = torch.zeros(3, len(layout), len(layout))
    graphs[0] = torch.eye(len(layout))
    for child, parent in layout.bones:
        graphs[1, child, parent] = 1
        graphs[2, parent, child] = 1
    return graphs / graphs.sum(2, keepdim=True).clamp(min=1)
