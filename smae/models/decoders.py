"""Decoders: features of the visible tokens in, predictions at the hidden tokens out."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import embedding

from smae.config import PluginConfig
from smae.models import MAX_DEPTH, MAX_WIDTH, Block, Grid, PositionEmbedding, init_weights
from smae.models.masking import Mask
from smae.registry import Registry


class DecoderClass(Protocol):
    """What a decoder plug-in is: a module class with a ``Config`` (a ``PluginConfig``)."""

    def __call__(self, config: Any, *, grid: Grid, width: int) -> nn.Module:
        """Build the decoder; ``width`` is that of features. Its forward takes (features, mask)."""


decoders: Registry[DecoderClass] = Registry(
    "decoder", {"self": "smae.models.decoders:SelfDecoder", "cross": "smae.models.decoders:CrossDecoder"}
)


class _Decoder(nn.Module):
    """Base of the built-in decoders: embedding, mask token, positions, blocks, head."""

    cross: bool

    class Config(PluginConfig):
        """Size of the decoder."""

        dim: int = Field(256, ge=8, le=MAX_WIDTH, description="width")
        depth: int = Field(3, ge=1, le=MAX_DEPTH, description="blocks: 3 for NTU-60, 5 for NTU-120 and PKU-MMD (MAMP)")
        heads: int = Field(8, ge=1, le=MAX_WIDTH, description="attention heads")
        mlp: float = Field(4.0, gt=0, le=64, description="hidden width of the MLP, in units of dim")

    def __init__(self, config: Config, *, grid: Grid, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(width, config.dim)
        self.mask_token = nn.Parameter(torch.empty(config.dim))
        self.pos_embed = PositionEmbedding(grid.times, grid.joints, config.dim)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, mlp=config.mlp, cross=self.cross) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, grid.values)
        self.apply(init_weights)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def embed_tokens(self, features: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
        """Return visible tokens [N, K, dim] and mask tokens [N, H, dim], with their positions."""
        positions = self.pos_embed()
        visible = self.embed(features) + embedding(mask.keep, positions)
        return visible, self.mask_token + embedding(mask.hide, positions)


class SelfDecoder(_Decoder):
    """MAE's decoder: self-attention over visible and mask tokens (arXiv 2111.06377, section 3)."""

    cross = False

    def forward(self, features: Tensor, mask: Mask) -> Tensor:
        """Return predictions [N, H, P] at the hidden tokens, from features [N, K, D]."""
        # Positions are embedded, so the order of tokens does not matter: hidden ones stay last.
        x = torch.cat(self.embed_tokens(features, mask), 1)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x)
        # The last block computes the hidden tokens only: nothing reads the visible ones after it.
        x = last(x, skip=mask.keep.shape[1])
        return self.head(self.norm(x))  # type: ignore[no-any-return]


class CrossDecoder(_Decoder):
    """Mask tokens attend to the visible tokens, not to each other (CrossMAE, arXiv 2401.14391).

    Since hidden tokens are independent, a random share of them can be predicted at a time.
    """

    cross = True

    def forward(self, features: Tensor, mask: Mask) -> Tensor:
        """Return predictions [N, H, P] at the hidden tokens, from features [N, K, D]."""
        visible, x = self.embed_tokens(features, mask)
        for block in self.blocks:
            x = block(x, visible)
        return self.head(self.norm(x))  # type: ignore[no-any-return]
