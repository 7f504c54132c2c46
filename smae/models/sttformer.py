"""STTFormer as an encoder of masked clips: joints of a few frames, a tuple, attend to one another.

After Qiu, Hou, Ren and Zhang, "Spatio-Temporal Tuples Transformer for Skeleton-Based Action
Recognition" (2022), the backbone of SkeletonMAE. To make it an encoder of visible tokens, this
project chose: a token is one joint over a tuple's frames, a hidden joint is a learned vector (the
attention biases fix the joints), and tuples in which nothing is visible are left out.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from smae.config import PluginConfig
from smae.models import MAX_WIDTH, DropPath, Grid, gather
from smae.models.encoders import Encoder, block_of
from smae.models.masking import Mask, mask_from_scores
from smae.skeleton import Layout

SLOPE = 0.1
WIDTHS = (1, 1, 2, 2, 4, 4, 4, 4)
"""Width of each block's output, in quarters of the last one's."""


class STTFormer(Encoder):
    """Input map, then eight blocks: attention within tuples, convolution over tuples."""

    class Config(PluginConfig):
        """Size of the encoder."""

        dim: int = Field(
            256, ge=16, le=MAX_WIDTH, multiple_of=16, description="width D of the last four blocks; the first has D / 4"
        )
        heads: int = Field(3, ge=1, le=MAX_WIDTH, description="attention heads")
        patch: int = Field(6, ge=1, le=4096, description="frames in a tuple")
        drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth of the last block, rising from 0")
        leave_out: bool = Field(
            True, description="leave out tuples in which nothing is visible; counting them waits for a GPU once a step"
        )

    def __init__(self, config: Config, *, frames: int, layout: Layout) -> None:
        super().__init__()
        self.grid = Grid.cut(frames, joints=len(layout), patch=config.patch)
        self.dim, self.depth, self.leave_out = config.dim, len(WIDTHS), config.leave_out
        width = config.dim // 4
        convolution = nn.Conv1d(self.grid.channels, width, 1)
        self.embed = nn.Sequential(convolution, nn.BatchNorm1d(width), nn.LeakyReLU(SLOPE))
        self.mask_token = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        joints, inputs = self.grid.patch * self.grid.joints, width
        self.blocks = nn.ModuleList()
        for number, factor in enumerate(WIDTHS):
            outputs, drop = width * factor, config.drop_path * number / (len(WIDTHS) - 1)
            self.blocks.append(TupleBlock(inputs, outputs, joints=joints, heads=config.heads, drop_path=drop))
            inputs = outputs

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        """Return features [N, K, D]; see ``Encoder.forward``.

        A token's feature is the mean over its tuple's frames. Hidden joints enter no BatchNorm
        statistics of the input map.
        """
        grid, n = self.grid, x.shape[0]
        seen = self._embed(self.visible_tokens(x, mask))
        if mask is None:
            return self._encode(seen).flatten(1, 2)
        tokens = self.mask_token.to(seen.dtype).repeat(grid.patch).expand(n, grid.tokens, -1)
        tokens = tokens.scatter(1, mask.keep[..., None].expand_as(seen), seen)
        if not self.leave_out:
            return gather(self._encode(tokens).flatten(1, 2), mask.keep)
        # By what is kept: a mask may name only some of its hidden tokens.
        flags = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=x.device).scatter_(1, mask.keep, True)
        visible = flags.view(-1, grid.times, grid.joints).any(2)
        # Items with fewer visible tuples than others are filled up with tuples in which all is
        # hidden.
        kept = mask_from_scores((~visible).float(), int(visible.sum(1).max())).keep
        tuples = gather(tokens.view(n, grid.times, -1), kept).view(n, -1, tokens.shape[-1])
        features = self._encode(tuples).flatten(1, 2)
        # Where each kept tuple stands among those that were encoded.
        rank = torch.arange(kept.shape[1], device=x.device).expand_as(kept)
        rank = torch.zeros_like(visible, dtype=torch.long).scatter(1, kept, rank)
        time, joint = mask.keep // grid.joints, mask.keep % grid.joints
        return gather(features, rank.gather(1, time) * grid.joints + joint)

    def _embed(self, tokens: Tensor) -> Tensor:
        """Return tokens [N, K, P] mapped frame by frame to [N, K, patch * width]."""
        n, count, _ = tokens.shape
        mapped = self.embed(tokens.reshape(n, count * self.grid.patch, -1).transpose(1, 2))
        return mapped.transpose(1, 2).reshape(n, count, -1)  # type: ignore[no-any-return]

    def _encode(self, tokens: Tensor) -> Tensor:
        """Return features [N, tuples, V, D] of mapped tokens [N, tuples * V, patch * width]."""
        n, joints, patch = tokens.shape[0], self.grid.joints, self.grid.patch
        tuples = tokens.view(n, -1, joints, patch, tokens.shape[-1] // patch)
        # [N, width, tuples, patch * V], frame by frame.
        x = tuples.permute(0, 4, 1, 3, 2).flatten(3)
        for block in self.blocks:
            x = block(x)
        return x.reshape(*x.shape[:3], patch, joints).mean(3).permute(0, 2, 3, 1)

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the input map, 1 to ``depth`` for the blocks."""
        return block_of(parameter)


class TupleBlock(nn.Module):
    """Attention among the joints of a tuple, then convolution over neighbouring tuples.

    With p = x plus fixed positions, attention = alpha tanh(sum over tuples and numbers of q k /
    (numbers x tuples)) + bias: one map a head for all tuples of an item, applied to x itself; no
    softmax, no values. The heads' outputs side by side go through a convolution over 5 joints; a
    linear map; and a convolution over 3 tuples, each with BatchNorm, shortcut and LeakyReLU. Where
    the width changes, shortcuts are linear maps with BatchNorm: of x for the first two, of what
    enters the convolution over tuples for the last.
    """

    def __init__(self, inputs: int, outputs: int, *, joints: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.heads, self.numbers = heads, outputs // 4
        self.query_key = nn.Conv2d(inputs, 2 * heads * self.numbers, 1)
        self.alpha = nn.Parameter(torch.ones(heads))
        self.attention_bias = nn.Parameter(torch.full((heads, joints, joints), 1 / joints))
        self.proj = _conv_norm(heads * inputs, outputs, kernel=(1, 5))
        self.feed_forward = _conv_norm(outputs, outputs, kernel=(1, 1))
        self.temporal = _conv_norm(outputs, outputs, kernel=(3, 1))
        self.shortcut: nn.Module = nn.Identity()
        self.temporal_shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = _conv_norm(inputs, outputs, kernel=(1, 1))
            self.temporal_shortcut = _conv_norm(outputs, outputs, kernel=(1, 1))
        self.drop_path = DropPath(drop_path)
        self.register_buffer("positions", sinusoids(joints, inputs), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, tuples, J] of x [N, inputs, tuples, J], J joints of a tuple."""
        n, _, tuples, joints = x.shape
        positions = self.get_buffer("positions").to(x.dtype)
        halves = self.query_key(x + positions).view(n, 2, self.heads, self.numbers * tuples, joints)
        scores = halves[:, 0].transpose(2, 3) @ halves[:, 1] / (self.numbers * tuples)
        attention = scores.tanh() * self.alpha[:, None, None] + self.attention_bias
        mixed = (x.flatten(1, 2)[:, None] @ attention.to(x.dtype)).view(n, -1, tuples, joints)
        shortcut = self.shortcut(x)
        y = leaky_relu(self.drop_path(self.proj(mixed)) + shortcut, SLOPE)
        y = leaky_relu(self.drop_path(self.feed_forward(y)) + shortcut, SLOPE)
        return leaky_relu(self.drop_path(self.temporal(y)) + self.temporal_shortcut(y), SLOPE)


def _conv_norm(inputs: int, outputs: int, *, kernel: tuple[int, int]) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.BatchNorm2d(outputs))


def sinusoids(joints: int, width: int) -> Tensor:
    """Return [width, 1, joints]: sin and cos of joint / 10000^(2i / width), alternating.

    After Vaswani et al. 2017, section 3.5.
    """
    rate = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = rate[:, None] * torch.arange(joints, dtype=torch.float64)
    return torch.stack([angle.sin(), angle.cos()], 1).flatten(0, 1)[:, None].float()
