"""Feature vectors of clips: pooled tokens of an encoder, or raw coordinates as a baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from smae import progress
from smae.data.loader.batch import Batch
from smae.data.loader.loader import Loader
from smae.errors import ConfigError
from smae.models.encoders import Encoder, encode_measured
from smae.models.masking import missing_tokens
from smae.train.config import Pool

FeatureExtractor = Callable[[Batch], Tensor]
"""Maps a batch of B clips to features [B, D]."""

RAW_FRAMES = 24
"""Number of frames to which raw coordinates are resized."""


@dataclass(frozen=True)
class Features:
    """Features of a set of clips.

    Attributes:
        x: float32 [n, D].
        label: int64 [n].
        index: int64 [n], clip numbers in the store, ascending.
    """

    x: Tensor
    label: Tensor
    index: Tensor


def mean_over_bodies(items: Tensor, batch: Batch) -> Tensor:
    """Return [B, ...]: the mean of items [N, ...] over the present bodies of each clip."""
    total = items.new_zeros(batch.clips, *items.shape[1:]).index_add_(0, batch.clip, items)
    count = torch.bincount(batch.clip, minlength=batch.clips).to(items.dtype)
    return total / count.view(-1, *[1] * (items.ndim - 1))


@dataclass(frozen=True)
class Pooled:
    """Feature extractor: all tokens of a frozen encoder, pooled, then the mean over bodies.

    Attributes:
        encoder: the encoder, used in evaluation mode.
        pool: ``mean`` over joints and time; ``joints``: mean over time; ``tokens``: no mean;
            ``class``: the class token alone.

    Raises:
        ConfigError: ``class``, of an encoder without a class token.
    """

    encoder: Encoder
    pool: Pool = "mean"

    def __post_init__(self) -> None:
        if self.pool == "class" and not self.encoder.has_class_token:
            raise ConfigError("pool=class: this encoder has no class token: choose another pool")

    def __call__(self, batch: Batch) -> Tensor:
        """Return features [B, ``width``]."""
        self.encoder.eval()
        return mean_over_bodies(self.vectors(batch.x, batch.missing), batch)

    def vectors(self, x: Tensor, missing: Tensor | None = None) -> Tensor:
        """Return features [N, ``width``] of items x [N, T, V, C] that lack ``missing`` [N, V]."""
        if self.pool == "class":
            hidden = None
            if missing is not None:
                hidden = missing_tokens(missing, self.encoder.grid.times)
            return self.encoder.encode(x, hidden)[0].float()
        tokens = encode_measured(self.encoder, x, missing, groups=self.encoder.feature_groups).float()
        if self.pool == "mean" and missing is not None:
            return tokens.mean(1) / missing.logical_not().float().mean(1, keepdim=True)
        if self.pool == "mean":
            return tokens.mean(1)
        if self.pool == "joints":
            grid = self.encoder.grid
            tokens = tokens.reshape(tokens.shape[0], grid.times, grid.joints, -1).mean(1)
        return tokens.flatten(1)

    @property
    def width(self) -> int:
        """Length of a feature vector: D, V x D or L x D."""
        grid = self.encoder.grid
        vectors = {"mean": 1, "class": 1, "joints": grid.joints, "tokens": grid.tokens}
        return self.encoder.dim * vectors[self.pool]


def raw_coordinates(batch: Batch) -> Tensor:
    """Return [B, 2 * 24 * V * 3]: both bodies side by side, zeros for an absent second one."""
    n, frames, joints, channels = batch.x.shape
    flat = batch.x.reshape(n, frames, joints * channels).transpose(1, 2)
    short = interpolate(flat, size=RAW_FRAMES, mode="linear", align_corners=False).flatten(1)
    both = short.new_zeros(batch.clips, 2, short.shape[1])
    both[batch.clip, batch.body] = short
    return both.flatten(1)


@torch.no_grad()
def extract(extractor: FeatureExtractor, loader: Loader, *, epoch: int = 0, name: str = "features") -> Features:
    """Return the features of one epoch of a loader, in store order.

    Args:
        extractor: computes the features.
        loader: the clips, shuffled or not.
        epoch: which epoch; it decides the augmentation of an augmented loader.
        name: of the progress task.
    """
    batches, labels, indices = [], [], []
    for batch in progress.track(loader.epoch(epoch), name, total=len(loader), unit="batches"):
        batches.append(extractor(batch).cpu())
        labels.append(batch.label.cpu())
        indices.append(batch.index.cpu())
    index = torch.cat(indices)
    order = index.argsort()
    return Features(torch.cat(batches)[order], torch.cat(labels)[order], index[order])
