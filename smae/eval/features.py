"""One vector per clip: an encoder's tokens, pooled, or the raw coordinates themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from smae.data.loader.batch import Batch
from smae.data.loader.loader import Loader
from smae.models.encoders import Encoder
from smae.train.config import Pool

Describe = Callable[[Batch], Tensor]
"""Batch of B clips -> features [B, D]."""

RAW_FRAMES = 24
"""Frames to which raw coordinates are resized for the comparison with no encoder at all."""


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
    """The describer by an encoder: every token visible, pooled (by the mean over joints and time), mean over bodies.

    Attributes:
        encoder: it.
        pool: ``mean``, ``joints`` or ``tokens``.
    """

    encoder: Encoder
    pool: Pool = "mean"

    def __call__(self, batch: Batch) -> Tensor:
        """Return features [B, ``width``]."""
        self.encoder.eval()
        tokens = self.encoder(batch.x).float()
        if self.pool == "mean":
            return mean_over_bodies(tokens.mean(1), batch)
        if self.pool == "joints":
            grid = self.encoder.grid
            tokens = tokens.reshape(len(tokens), grid.times, grid.joints, -1).mean(1)
        return mean_over_bodies(tokens.flatten(1), batch)

    @property
    def width(self) -> int:
        """Numbers in a feature vector: D, V x D or L x D."""
        grid = self.encoder.grid
        return self.encoder.dim * {"mean": 1, "joints": grid.joints, "tokens": grid.tokens}[self.pool]


def raw(batch: Batch) -> Tensor:
    """Return raw coordinates [B, 2 * 24 * V * 3]: both bodies side by side, an absent second one zeros."""
    n, frames, joints, channels = batch.x.shape
    flat = batch.x.reshape(n, frames, joints * channels).transpose(1, 2)
    short = interpolate(flat, size=RAW_FRAMES, mode="linear", align_corners=False).flatten(1)
    both = short.new_zeros(batch.clips, 2, short.shape[1])
    both[batch.clip, batch.body] = short
    return both.flatten(1)


@torch.no_grad()
def extract(
    describe: Describe, loader: Loader, *, epoch: int = 0, tell: Callable[[int, int], None] = lambda done, total: None
) -> Features:
    """Return the features of a loader's clips, in store order whatever the loader's."""
    rows, labels, indices = [], [], []
    for done, batch in enumerate(loader.epoch(epoch), 1):
        rows.append(describe(batch).cpu())
        labels.append(batch.label.cpu())
        indices.append(batch.index.cpu())
        tell(done, len(loader))
    index = torch.cat(indices)
    order = index.argsort()
    return Features(torch.cat(rows)[order], torch.cat(labels)[order], index[order])
