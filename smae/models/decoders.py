"""Decoders: features of the visible tokens in, predictions at the hidden tokens out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import embedding

from smae.config import PluginConfig
from smae.models.mask import Mask
from smae.models.tokens import Grid, gather
from smae.models.transformer import Block, Places, init_weights
from smae.registry import Registry


class DecoderClass(Protocol):
    """What a decoder plug-in is: a module class with a ``Config`` (a ``PluginConfig``)."""

    def __call__(self, config: Any, *, grid: Grid, width: int) -> nn.Module:
        """Build the decoder of features of ``width``; its forward takes (features, mask), as below."""
        ...


decoders: Registry[DecoderClass] = Registry(
    "decoder",
    {
        "self": "smae.models.decoders:SelfDecoder",
        "cross": "smae.models.decoders:CrossDecoder",
    },
)


class _Config(PluginConfig):
    """Size of the decoder."""

    dim: int = Field(256, ge=8, description="width")
    depth: int = Field(3, ge=1, description="blocks: 3 for NTU-60, 5 for NTU-120 and PKU-MMD (MAMP)")
    heads: int = Field(8, ge=1, description="attention heads")
    mlp: float = Field(4.0, gt=0, description="hidden width of the MLP, in units of dim")


class _Decoder(nn.Module):
    """What both decoders share: the way in, the mask token, places, the way out."""

    Config = _Config

    def __init__(self, config: _Config, *, grid: Grid, width: int) -> None:
        super().__init__()
        cross = isinstance(self, CrossDecoder)
        self.enter = nn.Linear(width, config.dim)
        self.unknown = nn.Parameter(torch.empty(config.dim))
        self.places = Places(grid.times, grid.joints, config.dim)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, mlp=config.mlp, cross=cross) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.predict = nn.Linear(config.dim, grid.values)
        self.apply(init_weights)
        nn.init.trunc_normal_(self.unknown, std=0.02)

    def parts(self, features: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
        """Return the visible tokens [N, K, D'] and the hidden ones' queries [N, H, D'], each at its place."""
        places = self.places()
        return self.enter(features) + embedding(mask.keep, places), self.unknown + embedding(mask.hide, places)


class SelfDecoder(_Decoder):
    """MAE's decoder: visible and hidden tokens together through self-attention (arXiv 2111.06377, section 3)."""

    def forward(self, features: Tensor, mask: Mask) -> Tensor:
        """Return predictions [N, H, P] at the hidden tokens, from features [N, K, D] of the kept ones."""
        x = torch.cat(self.parts(features, mask), 1)
        # Attention does not mind the order of tokens: hidden ones simply stay last. Nobody asks for the others after
        # the last block, which only reads them.
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            x = block(x, skip=mask.keep.shape[1] if number == last else 0)
        return self.predict(self.norm(x))  # type: ignore[no-any-return]


class CrossDecoder(_Decoder):
    """Hidden tokens read from the visible ones and not from each other (CrossMAE, arXiv 2401.14391).

    Since hidden tokens are independent, ``share`` of them, drawn at random, can be predicted at a time.
    """

    def forward(self, features: Tensor, mask: Mask) -> Tensor:
        """Return predictions [N, H, P] at the hidden tokens, from features [N, K, D] of the kept ones."""
        visible, x = self.parts(features, mask)
        for block in self.blocks:
            x = block(x, visible)
        return self.predict(self.norm(x))  # type: ignore[no-any-return]


def thin(mask: Mask, scores: Tensor, count: int) -> Mask:
    """Return the mask with only ``count`` of its hidden tokens, those of lowest scores [N, H], ascending."""
    picked = scores.argsort(dim=1, stable=True)[:, :count].sort(1).values
    return replace(mask, hide=gather(mask.hide[..., None], picked)[..., 0], found=None)
