"""Encoders: joints or visible tokens in, features out. Decoders: predictions of hidden tokens."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import embedding

from smae.config import PluginConfig
from smae.errors import ConfigError
from smae.models import MAX_DEPTH, MAX_WIDTH, Block, Grid, PositionEmbedding, gather, init_weights, patchify
from smae.models.masking import Mask, missing_tokens
from smae.registry import Registry
from smae.rng import Noise
from smae.skeleton import Layout

_DRAWS = 2
"""Times that groups of tokens are drawn: once gives half of the gain in 1-NN, eight times give no more."""


class EncoderClass(Protocol):
    """What an encoder plug-in is: a module class with a ``Config`` (a ``PluginConfig``)."""

    def __call__(self, config: Any, *, frames: int, layout: Layout) -> Encoder:
        """Build the encoder of clips of ``frames`` frames."""


class Encoder(nn.Module):
    """Base of all encoders.

    Attributes:
        grid: how it cuts a clip into tokens.
        dim: width D of its features.
        depth: number of blocks, for layer-wise learning rates.
        feature_groups: groups in which all tokens are encoded for frozen features, see ``encode_measured``.
        has_class_token: ``encode`` gives one feature of a whole item beside those of its tokens.
    """

    grid: Grid
    dim: int
    depth: int
    feature_groups: int = 1
    has_class_token: bool = False

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        """Return features [N, K, D] of all tokens, or of those a mask keeps.

        Args:
            x: joints [N, T, V, C], or, with a mask, its visible tokens [N, K, P].
            mask: which tokens are visible; None for all.
        """
        raise TypeError(f"{type(self).__name__} must define forward(x, mask)")

    def encode(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the class token's feature [N, D], and those [N, L, D] of all tokens.

        Args:
            x: joints [N, T, V, C], of any number of whole patches.
            hidden: bool [N, L], tokens that are hidden, which keep their place; None for none.
        """
        raise TypeError(f"{type(self).__name__} has no class token")

    def layer_of(self, parameter: str) -> int:
        """Return a parameter's depth, 0 for the embedding to ``depth`` for the last block."""
        raise TypeError(f"{type(self).__name__} must define layer_of(parameter)")

    def visible_tokens(self, x: Tensor, mask: Mask | None) -> Tensor:
        """Return tokens [N, K, P]: ``x`` itself, or those of joints x that are visible."""
        if x.ndim == 3:
            return x
        return kept(patchify(x, self.grid), mask)


def kept(tokens: Tensor, mask: Mask | None) -> Tensor:
    """Return the tokens [N, K, D] that a mask keeps of [N, L, D]; all without one."""
    return tokens if mask is None else gather(tokens, mask.keep)


def block_of(parameter: str) -> int:
    """Return the number, from 1, of the block in ``blocks`` that holds a parameter; 0 for others."""
    return int(parameter.split(".")[1]) + 1 if parameter.startswith("blocks.") else 0


encoders: Registry[EncoderClass] = Registry(
    "encoder",
    {
        "vit": "smae.models.encoders:VisionTransformer",
        "sttformer": "smae.models.sttformer:STTFormer",
        "ctrgcn": "smae.models.ctrgcn:CTRGCN",
        "graph": "smae.models.graph:GraphEncoder",
        "slim": "smae.models.slim:SLiMEncoder",
    },
)


class VisionTransformer(Encoder):
    """Plain pre-LN ViT over (time patch, joint) tokens, without class token (after MAMP).

    With ``movement`` s (this project's choice) it embeds [x, s (x - mean of x over the token)] in
    place of x: where joints are differs by more than how they move, which few steps hardly see.
    """

    class Config(PluginConfig):
        """Size of the encoder, and what it sees of a token."""

        dim: int = Field(256, ge=8, le=MAX_WIDTH, description="width D")
        depth: int = Field(8, ge=1, le=MAX_DEPTH, description="blocks")
        heads: int = Field(8, ge=1, le=MAX_WIDTH, description="attention heads")
        mlp: float = Field(4.0, gt=0, le=64, description="hidden width of the MLP, in units of D")
        patch: int = Field(4, ge=1, le=4096, description="frames in a token")
        drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth of the last block, rising from 0")
        movement: float = Field(
            0.0, ge=0, le=100, description="scale of a token's movement, seen beside its coordinates; 0: without"
        )
        feature_groups: int = Field(
            1, ge=1, le=1024, description="frozen features: tokens encoded in so many groups, about 1 / masking.keep"
        )

    def __init__(self, config: Config, *, frames: int, layout: Layout) -> None:
        super().__init__()
        self.grid = Grid.cut(frames, joints=len(layout), patch=config.patch)
        self.dim, self.depth, self.feature_groups = config.dim, config.depth, config.feature_groups
        self.movement = config.movement
        if self.movement and self.grid.patch == 1:
            raise ConfigError("encoder.movement needs encoder.patch=2 or more: one frame does not move")
        self.embed = nn.Linear((2 if self.movement else 1) * self.grid.values, config.dim)
        self.pos_embed = PositionEmbedding(self.grid.times, self.grid.joints, config.dim)
        steps = max(1, config.depth - 1)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, mlp=config.mlp, drop_path=config.drop_path * i / steps)
            for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.apply(init_weights)

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        positions = self.pos_embed()
        if mask is not None:
            positions = embedding(mask.keep, positions)
        tokens = self.visible_tokens(x, mask)
        if self.movement:
            frames = tokens.view(*tokens.shape[:2], self.grid.patch, self.grid.channels)
            moved = self.movement * (frames - frames.mean(-2, keepdim=True))
            tokens = torch.cat([tokens, moved.flatten(-2)], -1)
        features = self.embed(tokens) + positions
        for block in self.blocks:
            features = block(features)
        return self.norm(features)  # type: ignore[no-any-return]

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the embedding, 1 to ``depth`` for blocks, ``depth`` for the last norm."""
        return self.depth if parameter.startswith("norm.") else block_of(parameter)


def encode_measured(encoder: Encoder, x: Tensor, missing: Tensor | None, *, groups: int = 1) -> Tensor:
    """Return features [N, L, D] of joints x [N, T, V, C], those of missing joints, bool [N, V], 0.

    Items that lack the same joints go through the encoder together; without ``missing`` all do.

    Args:
        encoder: computes the features.
        x: joints.
        missing: joints that items lack; None for none.
        groups: of tokens that are encoded apart. An encoder that was pre-trained on a few visible
            tokens gives better features of as few. Groups are drawn twice, always the same ones, and
            a token's two features averaged.
    """
    grid = encoder.grid
    if missing is None and groups == 1:
        return encoder(x)  # type: ignore[no-any-return]
    tokens = patchify(x, grid)
    if missing is None:
        return _encode_tokens(encoder, tokens, np.arange(grid.tokens), groups)
    features = torch.zeros(len(x), grid.tokens, encoder.dim, device=x.device)
    for lacking in torch.unique(missing, dim=0):
        rows = (missing == lacking).all(1).nonzero()[:, 0]
        shown = np.flatnonzero(~missing_tokens(lacking[None], grid.times)[0].cpu().numpy())
        encoded = _encode_tokens(encoder, tokens[rows], shown, groups)
        features = features.to(encoded.dtype)
        features[rows] = encoded
    return features


def _encode_tokens(encoder: Encoder, tokens: Tensor, shown: NDArray[np.int64], groups: int) -> Tensor:
    """Return features [N, L, D] of tokens [N, L, P], 0 where not among those ``shown``, [S] ascending."""
    # All by NumPy, so that masks are constants of a graph that is exported.
    draws, every = min(groups, _DRAWS), np.arange(tokens.shape[1])
    order = Noise(0, 0, np.arange(draws)).uniform("groups", len(shown)).argsort(axis=1, kind="stable")
    features = tokens.new_zeros(tokens.shape[0], tokens.shape[1], encoder.dim)
    for part in (part for draw in order for part in np.array_split(draw, min(groups, len(shown)))):
        keep = shown[np.sort(part)]
        hide = np.setdiff1d(every, keep)
        rows = (keep, hide, np.argsort(np.concatenate([keep, hide])))
        mask = Mask(*(torch.from_numpy(row).to(tokens.device).expand(tokens.shape[0], -1) for row in rows))
        encoded = encoder(gather(tokens, mask.keep), mask)
        features = features.to(encoded.dtype).index_add(1, mask.keep[0], encoded)
    return features / draws


class DecoderClass(Protocol):
    """What a decoder plug-in is: a module class with a ``Config`` (a ``PluginConfig``)."""

    def __call__(self, config: Any, *, grid: Grid, width: int) -> nn.Module:
        """Build the decoder; ``width`` is that of features. Its forward takes (features, mask)."""


decoders: Registry[DecoderClass] = Registry(
    "decoder",
    {
        "self": "smae.models.encoders:SelfDecoder",
        "cross": "smae.models.encoders:CrossDecoder",
    },
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
