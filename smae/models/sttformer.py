"""STTFormer as an encoder of masked clips: joints of a few frames, a tuple, attend to one another.

After Qiu, Hou, Ren and Zhang, "Spatio-Temporal Tuples Transformer for Skeleton-Based Action Recognition" (2022), the
backbone of SkeletonMAE. Where it stands for an encoder of visible tokens, the choices are this project's: a token is
one joint over a tuple's frames, a hidden joint is a learned vector in its place (the static maps fix the joints), and
tuples in which nothing is visible are left out.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from smae.config import PluginConfig
from smae.models.encoders import Encoder
from smae.models.mask import Mask, mask_from_scores
from smae.models.tokens import Grid, gather, patchify
from smae.models.transformer import DropPath
from smae.skeleton import Layout

SLOPE = 0.1
WIDTHS = (1, 1, 2, 2, 4, 4, 4, 4)
"""Width of each block's output, in quarters of the last one's."""


class TuplesTransformer(Encoder):
    """Input map, then eight blocks of attention within tuples and convolution over neighbouring tuples."""

    class Config(PluginConfig):
        """Size of the encoder."""

        dim: int = Field(256, ge=16, multiple_of=16, description="width D of the last four blocks; the first has D / 4")
        heads: int = Field(3, ge=1, description="attention heads")
        patch: int = Field(6, ge=1, description="frames in a tuple")
        drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth of the last block, rising from 0")
        leave_out: bool = Field(
            True, description="leave out tuples in which nothing is visible; counting them waits for a GPU once a step"
        )

    def __init__(self, config: Config, *, frames: int, layout: Layout) -> None:
        super().__init__()
        self.grid = Grid.cut(frames, joints=len(layout), patch=config.patch)
        self.dim, self.depth, self.leave_out = config.dim, len(WIDTHS), config.leave_out
        first = config.dim // 4
        self.enter = nn.Sequential(nn.Conv1d(self.grid.channels, first, 1), nn.BatchNorm1d(first), nn.LeakyReLU(SLOPE))
        self.unknown = nn.Parameter(torch.empty(first))
        nn.init.trunc_normal_(self.unknown, std=0.02)
        joints, before = self.grid.patch * self.grid.joints, first
        self.blocks = nn.ModuleList()
        for number, width in enumerate(WIDTHS):
            drop = config.drop_path * number / (len(WIDTHS) - 1)
            self.blocks.append(TuplesBlock(before, first * width, joints=joints, heads=config.heads, drop_path=drop))
            before = first * width

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        """Return features [N, K, D] of joints x [N, T, V, C]: all tokens, or those a mask keeps.

        A token's feature is the mean over its tuple's frames. What a mask hides enters nothing, no mean of a batch
        either.
        """
        grid, tokens = self.grid, patchify(x, self.grid)
        if mask is None:
            return self._encode(self._enter(tokens)).flatten(1, 2)
        seen = self._enter(gather(tokens, mask.keep))
        known = self.unknown.to(seen.dtype).repeat(grid.patch).expand(len(x), grid.tokens, -1)
        known = known.scatter(1, mask.keep[..., None].expand_as(seen), seen)
        if not self.leave_out:
            return gather(self._encode(known).flatten(1, 2), mask.keep)
        # By what is kept: a mask that was thinned names only some of its hidden tokens.
        flags = torch.zeros(known.shape[:2], dtype=torch.bool, device=x.device).scatter_(1, mask.keep, True)
        visible = flags.view(-1, grid.times, grid.joints).any(2)
        # Items that see fewer tuples than others fill up with tuples of which they see nothing.
        kept = mask_from_scores((~visible).float(), int(visible.sum(1).max())).keep
        tuples = gather(known.view(len(x), grid.times, -1), kept).view(len(x), -1, known.shape[-1])
        features = self._encode(tuples).flatten(1, 2)
        stands = torch.zeros_like(visible, dtype=torch.long)
        stands = stands.scatter(1, kept, torch.arange(kept.shape[1], device=x.device).expand_as(kept))
        time, joint = mask.keep // grid.joints, mask.keep % grid.joints
        return gather(features, stands.gather(1, time) * grid.joints + joint)

    def _enter(self, tokens: Tensor) -> Tensor:
        """Return tokens [N, K, P] mapped frame by frame to [N, K, patch * width]."""
        n, count, _ = tokens.shape
        mapped = self.enter(tokens.reshape(n, count * self.grid.patch, -1).transpose(1, 2))
        return mapped.transpose(1, 2).reshape(n, count, -1)  # type: ignore[no-any-return]

    def _encode(self, tokens: Tensor) -> Tensor:
        """Return features [N, tuples, V, D] of mapped tokens [N, tuples * V, patch * width]."""
        n, joints, patch = len(tokens), self.grid.joints, self.grid.patch
        cut = tokens.view(n, -1, joints, patch, tokens.shape[-1] // patch)
        x = cut.permute(0, 4, 1, 3, 2).flatten(3)  # [N, width, tuples, patch * V], frame by frame
        for block in self.blocks:
            x = block(x)
        return x.reshape(*x.shape[:3], patch, joints).mean(3).permute(0, 2, 3, 1)

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the input map, 1 to ``depth`` for the blocks."""
        return int(parameter.split(".")[1]) + 1 if parameter.startswith("blocks.") else 0


class TuplesBlock(nn.Module):
    """Attention among the joints of a tuple, applied to x itself, then convolution over neighbouring tuples.

    With p = x plus fixed positions, A = alpha tanh(sum over tuples and numbers of q k / (numbers x tuples)) + static,
    one map a head for all tuples of an item: no softmax, no values. Its outputs side by side go through a convolution
    over 5 joints, BatchNorm, shortcut, LeakyReLU; a linear map, BatchNorm, shortcut, LeakyReLU; and a convolution over
    3 tuples, BatchNorm, shortcut, LeakyReLU.
    """

    def __init__(self, inside: int, outside: int, *, joints: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.heads, self.numbers = heads, outside // 4
        self.query_key = nn.Conv2d(inside, 2 * heads * self.numbers, 1)
        self.alpha = nn.Parameter(torch.ones(heads))
        self.static = nn.Parameter(torch.full((heads, joints, joints), 1 / joints))
        self.mix = nn.Sequential(nn.Conv2d(heads * inside, outside, (1, 5), padding=(0, 2)), nn.BatchNorm2d(outside))
        self.feed = nn.Sequential(nn.Conv2d(outside, outside, 1), nn.BatchNorm2d(outside))
        self.neighbours = nn.Sequential(nn.Conv2d(outside, outside, (3, 1), padding=(1, 0)), nn.BatchNorm2d(outside))
        self.shortcut: nn.Module = nn.Identity()
        if inside != outside:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1), nn.BatchNorm2d(outside))
        self.drop_path = DropPath(drop_path)
        self.register_buffer("places", positions(joints, inside), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outside, tuples, joints of a tuple] of x [N, inside, tuples, joints of a tuple]."""
        n, _, tuples, joints = x.shape
        places: Tensor = self.get_buffer("places")
        halves = self.query_key(x + places.to(x.dtype)).view(n, 2, self.heads, self.numbers * tuples, joints)
        match = halves[:, 0].transpose(2, 3) @ halves[:, 1] / (self.numbers * tuples)
        attention = match.tanh() * self.alpha[:, None, None] + self.static
        mixed = (x.flatten(1, 2)[:, None] @ attention.to(x.dtype)).view(n, -1, tuples, joints)
        short = self.shortcut(x)
        y = leaky_relu(self.drop_path(self.mix(mixed)) + short, SLOPE)
        y = leaky_relu(self.drop_path(self.feed(y)) + short, SLOPE)
        return leaky_relu(self.drop_path(self.neighbours(y)) + y, SLOPE)


def positions(joints: int, width: int) -> Tensor:
    """Return [width, 1, joints]: sin, cos by turns of joint / 10000^(2i / width) (Vaswani et al. 2017, section 3.5)."""
    rate = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = rate[:, None] * torch.arange(joints, dtype=torch.float64)
    return torch.stack([angle.sin(), angle.cos()], 1).flatten(0, 1)[:, None].float()
