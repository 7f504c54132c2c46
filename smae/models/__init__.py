"""What all models are made of: tokens (a joint over a few frames each) and transformer blocks.

Models know nothing of data or training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from smae.errors import ConfigError


@dataclass(frozen=True)
class Grid:
    """How a clip is cut into tokens: ``times`` x ``joints``, token number = time * joints + joint.

    Attributes:
        times: patches along time.
        joints: V.
        patch: frames in a patch.
        channels: C, numbers per joint and frame.
    """

    times: int
    joints: int
    patch: int
    channels: int = 3

    @property
    def tokens(self) -> int:
        """L, tokens in a clip."""
        return self.times * self.joints

    @property
    def values(self) -> int:
        """P, numbers in a token: patch * channels."""
        return self.patch * self.channels

    @staticmethod
    def cut(frames: int, *, joints: int, patch: int, channels: int = 3) -> Grid:
        """Return the grid of clips of ``frames`` frames, which the patch must divide."""
        if frames % patch:
            raise ConfigError(
                f"augment.frames={frames} cannot be cut into patches of encoder.patch={patch} frames: "
                f"choose frames that {patch} divides, such as {max(1, round(frames / patch)) * patch}"
            )
        return Grid(frames // patch, joints, patch, channels)


def patchify(x: Tensor, grid: Grid) -> Tensor:
    """Return tokens [N, L, P] of joints [N, T, V, C]; a token is its frames' x y z in turn."""
    n = x.shape[0]
    patches = x.reshape(n, grid.times, grid.patch, grid.joints, grid.channels)
    return patches.transpose(2, 3).reshape(n, grid.tokens, grid.values)


def unpatchify(tokens: Tensor, grid: Grid) -> Tensor:
    """Return joints [N, T, V, C] of tokens [N, L, P]; the inverse of ``patchify``."""
    n = tokens.shape[0]
    patches = tokens.reshape(n, grid.times, grid.joints, grid.patch, grid.channels)
    return patches.transpose(2, 3).reshape(n, grid.times * grid.patch, grid.joints, grid.channels)


def joints_of(tokens: Tensor, grid: Grid) -> Tensor:
    """Return which joints, bool [N, T, V], belong to the tokens marked in bool [N, L]."""
    return unpatchify(tokens[..., None].expand(-1, -1, grid.values).float(), grid)[..., 0] > 0.5


def gather(tokens: Tensor, index: Tensor) -> Tensor:
    """Return tokens [N, K, D] picked from [N, L, D] by index [N, K]."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


# Transformer blocks: pre-LN, self- or cross-attention, stochastic depth; position embedding.

MAX_WIDTH, MAX_DEPTH = 2**14, 200
"""Largest width and number of blocks of settings: more is a mistake or an attack."""


MAX_SCORES = 2**27
"""Attention scores of a layer that bf16 on the CPU may hold at once: 256 MiB."""


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(C)) v, of q [N, heads, L, C] and k, v [N, heads, S, C]."""
    # torch's fused kernel for the CPU is slow in bf16: of 36 tokens it takes 12 times as long as
    # the formula written out, of 750 tokens 3 times.
    fits = q[..., 0].numel() * k.shape[2] <= MAX_SCORES
    if fits and q.dtype == torch.bfloat16 and q.device.type == "cpu":
        scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        return scores.softmax(-1).to(v.dtype) @ v
    return functional.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, equation 1), fused by torch."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ConfigError(f"width {dim} cannot be shared by {heads} heads: choose a multiple of {heads}")
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, source: Tensor, rotate: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return [N, L, D]: queries of x [N, L, D] attend to source [N, S, D].

        ``rotate`` maps queries and keys [N, heads, L, D / heads]: rotary positions.
        """
        n, length, dim = x.shape
        q = self.query(x).view(n, length, self.heads, -1).transpose(1, 2)
        # Two halves, not one permuted tensor: a single copy then joins their gradients.
        halves = self.key_value(source).chunk(2, -1)
        k, v = (half.view(n, source.shape[1], self.heads, -1).transpose(1, 2) for half in halves)
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        mixed = attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(n, length, dim))  # type: ignore[no-any-return]


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): residual branches are dropped for whole items."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return x [N, ...], items zeroed at ``rate``, others scaled up to keep the mean."""
        if not self.training or self.rate == 0:
            return x
        alive = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * alive / (1 - self.rate)


class CompiledBlock(nn.Module):
    """Base of blocks that are alike: ``train.compile`` compiles one of them for all."""


class Block(CompiledBlock):
    """x + attention(LN(x)), then x + MLP(LN(x)); ``cross``: keys and values are a source's."""

    def __init__(self, dim: int, heads: int, *, mlp: float = 4.0, drop_path: float = 0.0, cross: bool = False) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim)
        self.norm_source = nn.LayerNorm(dim) if cross else None
        self.attention = Attention(dim, heads)
        self.norm_mlp = nn.LayerNorm(dim)
        hidden = int(dim * mlp)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, source: Tensor | None = None, *, skip: int = 0) -> Tensor:
        """Return [N, L - skip, D] of x [N, L, D] and, for cross-attention, source [N, S, D].

        The first ``skip`` tokens only serve as keys and values: a last block computes no outputs
        that are not used.
        """
        query = self.norm_attention(x)
        key = query if self.norm_source is None or source is None else self.norm_source(source)
        x = x[:, skip:] + self.drop_path(self.attention(query[:, skip:], key))
        return x + self.drop_path(self.mlp(self.norm_mlp(x)))  # type: ignore[no-any-return]


def init_weights(module: nn.Module) -> None:
    """Initialise as MAE does: Xavier-uniform linear maps, zero biases; for ``Module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


class PositionEmbedding(nn.Module):
    """Learned positions, time + joint (MAMP's separable embedding).

    Look tokens up with ``functional.embedding``: plain indexing adds its gradients in an order that
    depends on the threads.
    """

    def __init__(self, times: int, joints: int, dim: int) -> None:
        super().__init__()
        self.time = nn.Parameter(torch.empty(times, dim))
        self.joint = nn.Parameter(torch.empty(joints, dim))
        nn.init.trunc_normal_(self.time, std=0.02)
        nn.init.trunc_normal_(self.joint, std=0.02)

    def forward(self) -> Tensor:
        """Return [L, D], token number = time * joints + joint."""
        return (self.time[:, None] + self.joint[None, :]).flatten(0, 1)
