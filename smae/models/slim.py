"""SLiM's encoder: a ViT with a class token, registers, gated MLPs and rotary positions in time.

After Do, Chen, Youk and Kim, "Less is More" (arXiv 2603.10648), layer by layer as its authors
published it in code, on torch's own attention. A hidden token is a learned one in its place, so
hiding saves no work. Class token and registers have no position in time, joints a learned one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import silu

from smae.config import PluginConfig
from smae.errors import ConfigError
from smae.models import (
    MAX_DEPTH,
    MAX_WIDTH,
    Attention,
    CompiledBlock,
    DropPath,
    Grid,
    gather,
    patchify,
)
from smae.models.encoders import Encoder, block_of
from smae.models.masking import Mask
from smae.skeleton import Layout


class SLiMEncoder(Encoder):
    """Pre-LN ViT over (time patch, joint) tokens, a class token and registers."""

    has_class_token = True

    class Config(PluginConfig):
        """Size of the encoder."""

        dim: int = Field(256, ge=8, le=MAX_WIDTH, description="width D")
        depth: int = Field(8, ge=1, le=MAX_DEPTH, description="blocks")
        heads: int = Field(8, ge=1, le=MAX_WIDTH, description="attention heads")
        registers: int = Field(4, ge=0, le=1024, description="tokens without input and output")
        patch: int = Field(8, ge=1, le=4096, description="frames in a token")
        drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth, rising from 0 to this")

    def __init__(self, config: Config, *, frames: int, layout: Layout) -> None:
        super().__init__()
        self.grid = Grid.cut(frames, joints=len(layout), patch=config.patch)
        self.dim, self.depth, self.size = config.dim, config.depth, config.dim // config.heads
        if self.size % 2:
            raise ConfigError(
                f"encoder.dim={config.dim}: rotary positions turn pairs of numbers, and "
                f"{config.heads} heads have {self.size} each: choose an even number"
            )
        self.embed = nn.Linear(self.grid.values, config.dim)
        self.class_token = nn.Parameter(torch.empty(config.dim))
        self.registers = nn.Parameter(torch.empty(config.registers, config.dim))
        self.mask_token = nn.Parameter(torch.empty(config.dim))
        self.joint_embed = nn.Parameter(torch.empty(len(layout), config.dim))
        steps = max(1, config.depth - 1)
        self.blocks = nn.ModuleList(
            RotaryBlock(config.dim, config.heads, drop_path=config.drop_path * number / steps)
            for number in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        for name, weight in self.named_parameters():
            if name.endswith(".bias"):
                nn.init.zeros_(weight)
            elif "norm" not in name:
                nn.init.trunc_normal_(weight, std=0.02)

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        tokens = self.embed(self.visible_tokens(x, mask))
        if mask is None:
            return self._attend(tokens)[1]
        every = self.mask_token.to(tokens.dtype).expand(x.shape[0], self.grid.tokens, -1)
        every = every.scatter(1, mask.keep[..., None].expand_as(tokens), tokens)
        return gather(self._attend(every)[1], mask.keep)

    def encode(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        grid = replace(self.grid, times=x.shape[1] // self.grid.patch)
        tokens = self.embed(patchify(x, grid))
        if hidden is not None:
            tokens = torch.where(hidden[..., None], self.mask_token.to(tokens.dtype), tokens)
        return self._attend(tokens)

    def _attend(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the class token and of embedded tokens [N, times * V, D]."""
        first, times = 1 + len(self.registers), tokens.shape[1] // self.grid.joints
        lead = torch.cat([self.class_token[None], self.registers]).expand(tokens.shape[0], -1, -1)
        features = torch.cat([lead, tokens + self.joint_embed.repeat(times, 1)], 1)
        time = torch.arange(times, device=tokens.device).repeat_interleave(self.grid.joints)
        # Angle 0 leaves class token and registers as they are.
        rotate = rotary(torch.cat([time.new_zeros(first), time]), self.size, dtype=features.dtype)
        for block in self.blocks:
            features = block(features, rotate)
        features = self.norm(features)
        return features[:, 0], features[:, first:]

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the embedding, 1 to ``depth`` for blocks, ``depth`` for the last norm."""
        return self.depth if parameter.startswith("norm.") else block_of(parameter)


class RotaryBlock(CompiledBlock):
    """x + attention(LN(x)) with rotary positions, then x + SwiGLU(LN(x))."""

    def __init__(self, dim: int, heads: int, *, drop_path: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads)
        self.norm_mlp = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = SwiGLU(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, rotate: Callable[[Tensor], Tensor]) -> Tensor:
        """Return [N, L, D] of x [N, L, D]."""
        y = self.norm_attention(x)
        x = x + self.drop_path(self.attention(y, y, rotate))
        return x + self.drop_path(self.mlp(self.norm_mlp(x)))  # type: ignore[no-any-return]


class SwiGLU(nn.Module):
    """silu(gate) x value, then a linear map (arXiv 2002.05202).

    The hidden width is 8/3 of D, rounded up to a multiple of 8, as in DINOv2.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = (4 * dim * 2 // 3 + 7) // 8 * 8
        self.gate_value, self.proj = nn.Linear(dim, 2 * hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, L, D] of x [N, L, D]."""
        gate, value = self.gate_value(x).chunk(2, -1)
        return self.proj(silu(gate) * value)  # type: ignore[no-any-return]


def rotary(time: Tensor, size: int, *, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return the map of queries or keys [..., L, size] at times [L] (RoPE, arXiv 2104.09864).

    Number i and number i + size / 2 turn together by the angle time / 10000^(2i / size).
    """
    rate = 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float64, device=time.device) / size)
    angle = (time[:, None] * rate).repeat(1, 2)
    # Not in half precision: angles of neighbouring times would fall together.
    wide = torch.promote_types(dtype, torch.float32)
    cos, sin = angle.cos().to(wide), angle.sin().to(wide)

    def rotate(x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return (x * cos + torch.cat([-second, first], -1) * sin).to(x.dtype)

    return rotate
