"""CTR-GCN as an encoder of masked clips: graph convolution whose graphs are refined for every clip.

After Chen, Zhang, Yuan, Li, Deng and Hu, "Channel-wise Topology Refinement Graph Convolution for
Skeleton-Based Action Recognition" (2021), layer by layer as its authors published it in code. To
make it an encoder of visible tokens, this project chose: a hidden joint is a learned vector that
takes the place of its normalised coordinates, and a token is one joint over 4 frames, which the two
strides of 2 make one.

An item is one body here, so the BatchNorm of the input has V x C numbers (joint by joint).
Published weights for two bodies have 2 x V x C, body by body: the first half is the first body's
and maps onto this one; the second body's statistics have no counterpart.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from smae.config import PluginConfig
from smae.models import MAX_WIDTH, DropPath, Grid, unpatchify
from smae.models.encoders import Encoder, block_of, kept
from smae.models.graph import bone_graphs
from smae.models.masking import Mask
from smae.skeleton import Layout

WIDTHS = (1, 1, 1, 1, 2, 2, 2, 4, 4, 4)
"""Width of each block's output, in quarters of the last one's; time is halved where it grows."""
PATCH = 4
"""Frames in a token."""


class CTRGCN(Encoder):
    """BatchNorm of the input, then ten blocks."""

    class Config(PluginConfig):
        """Size of the encoder."""

        dim: int = Field(
            256,
            ge=32,
            le=MAX_WIDTH,
            multiple_of=32,
            description="width D of the last three blocks; the first has D / 4",
        )
        drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth of the last block, rising from 0")

    def __init__(self, config: Config, *, frames: int, layout: Layout) -> None:
        super().__init__()
        self.grid = Grid.cut(frames, joints=len(layout), patch=PATCH)
        self.dim, self.depth, inputs = config.dim, len(WIDTHS), self.grid.channels
        self.norm = JointNorm(self.grid.joints * inputs)
        self.mask_token = nn.Parameter(torch.empty(inputs))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        itself, parent, children = bone_graphs(layout)
        graphs = torch.stack([itself, children, parent])
        graphs = graphs / graphs.sum(1, keepdim=True).clamp(min=1)
        self.blocks = nn.ModuleList()
        for number, factor in enumerate(WIDTHS):
            outputs, drop = config.dim // 4 * factor, config.drop_path * number / (len(WIDTHS) - 1)
            self.blocks.append(RefinedGraphBlock(inputs, outputs, graphs=graphs, first=number == 0, drop_path=drop))
            inputs = outputs

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        """Return features [N, K, D]; see ``Encoder.forward``.

        Hidden joints enter no statistics of the input's BatchNorm.
        """
        grid, tokens = self.grid, self.visible_tokens(x, mask)
        if mask is None:
            y = self.norm(unpatchify(tokens, grid))
        else:
            empty = tokens.new_zeros(len(x), grid.tokens, grid.values)
            index = mask.keep[..., None].expand_as(tokens)
            visible = unpatchify(empty.scatter(1, index, 1.0), grid)
            y = self.norm(unpatchify(empty.scatter(1, index, tokens), grid), visible)
            y = torch.where(visible > 0, y, self.mask_token.to(y.dtype))
        y = y.permute(0, 3, 1, 2)  # [N, C, T, V]
        for block in self.blocks:
            y = block(y)
        features = y.permute(0, 2, 3, 1).flatten(1, 2)
        return kept(features, mask)

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the input, 1 to ``depth`` for the blocks."""
        return block_of(parameter)


class JointNorm(nn.BatchNorm1d):
    """BatchNorm of each coordinate of each joint, over items and frames."""

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """Return x [N, T, V, C] standardised; ``visible``, of the same shape, is 0 where hidden."""
        flat = x.flatten(2).flatten(0, 1)
        if visible is None or not self.training:
            return super().forward(flat).view_as(x)
        weight = visible.flatten(2).flatten(0, 1)
        count = weight.sum(0)
        mean = (flat * weight).sum(0) / count.clamp(min=1)
        variance = ((flat - mean).square() * weight).sum(0) / count.clamp(min=1)
        with torch.no_grad():
            # A joint that no frame shows leaves its running statistics as they are.
            rate = 0.1 * (count > 0)
            self.get_buffer("running_mean").lerp_(mean, rate)
            self.get_buffer("running_var").lerp_(variance * count / (count - 1).clamp(min=1), rate)
            self.get_buffer("num_batches_tracked").add_(1)
        return ((flat - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias).view_as(x)


class RefinedGraphBlock(nn.Module):
    """Graph convolution, then temporal convolution, each with BatchNorm, shortcut and ReLU.

    Three graphs begin as the skeleton's: a joint itself, its children, its parent, each column
    adding up to 1 or 0, and are learned. Time is halved where the width grows; the first block has
    no shortcut around both.
    """

    def __init__(self, inputs: int, outputs: int, *, graphs: Tensor, first: bool, drop_path: float) -> None:
        super().__init__()
        stride, branch = 1 if first or inputs == outputs else 2, outputs // 4
        self.first, self.graph = first, nn.Parameter(graphs.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        self.convs = nn.ModuleList(GraphConv(inputs, outputs) for _ in graphs)
        self.norm_graph = nn.BatchNorm2d(outputs)
        self.graph_shortcut: nn.Module = nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.graph_shortcut = _conv_norm(inputs, outputs)
            if not first:
                self.shortcut = _conv_norm(inputs, outputs, stride=stride)
        self.branches = nn.ModuleList(
            nn.Sequential(
                _conv_norm(outputs, branch), nn.ReLU(), _conv_norm(branch, branch, 5, stride=stride, dilation=dilation)
            )
            for dilation in (1, 2)
        )
        maximum = nn.MaxPool2d((3, 1), stride=(stride, 1), padding=(1, 0))
        self.branches.append(nn.Sequential(_conv_norm(outputs, branch), nn.ReLU(), maximum, nn.BatchNorm2d(branch)))
        self.branches.append(_conv_norm(outputs, branch, stride=stride))
        self.drop_path = DropPath(drop_path)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.norm_graph.weight, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, T / stride, V] of x [N, inputs, T, V]."""
        mixed = sum(conv(x, graph, self.alpha) for conv, graph in zip(self.convs, self.graph, strict=True))
        y = torch.relu(self.drop_path(self.norm_graph(mixed)) + self.graph_shortcut(x))
        y = self.drop_path(torch.cat([branch(y) for branch in self.branches], 1))
        return torch.relu(y if self.first else y + self.shortcut(x))


class GraphConv(nn.Module):
    """Mixes joints by graphs of each clip and channel (the paper's equations 3 to 5).

    Channel c of joint v weighs joint u by A[v, u] + alpha (b[c] + sum over r of
    w[c, r] tanh(q_r[v] - k_r[u])), q and k linear maps of the mean over time.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        relations = 8 if inputs == 3 else inputs // 8
        self.query, self.key = nn.Conv2d(inputs, relations, 1), nn.Conv2d(inputs, relations, 1)
        self.value, self.refine = nn.Conv2d(inputs, outputs, 1), nn.Conv2d(relations, outputs, 1)

    def forward(self, x: Tensor, graph: Tensor, alpha: Tensor) -> Tensor:
        """Return [N, outputs, T, V] of x [N, inputs, T, V] and the graph A [V, V]."""
        mean = x.mean(2, keepdim=True)
        relation = (self.query(mean).transpose(2, 3) - self.key(mean)).tanh()  # [N, relations, V, V]
        graphs = self.refine(relation) * alpha + graph
        return self.value(x) @ graphs.transpose(2, 3)  # type: ignore[no-any-return]


def _conv_norm(inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Return a convolution over time and BatchNorm."""
    far = kernel // 2 * dilation
    conv = nn.Conv2d(inputs, outputs, (kernel, 1), stride=(stride, 1), dilation=(dilation, 1), padding=(far, 0))
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))
