"""Batch: what the loader hands to an objective or a protocol."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from smae.rng import Noise


@dataclass(frozen=True)
class Batch:
    """The present bodies of B clips, all on one device. An absent body is not in it.

    Attributes:
        x: float32 [N, T, V, C], one item per present body: cropped, resized, augmented; metres.
        clip: int64 [N], which of the batch's B clips the item belongs to, ascending from 0.
        body: int64 [N], 0 or 1: which body of its clip.
        index: int64 [B], clip numbers in the store.
        label: int64 [B], index into the store's classes.
        epoch: 0-based epoch that the batch was drawn in.
    """

    x: Tensor
    clip: Tensor
    body: Tensor
    index: Tensor
    label: Tensor
    epoch: int

    @property
    def clips(self) -> int:
        """Number of clips, B."""
        return int(self.index.shape[0])

    def noise(self, seed: int) -> Noise:
        """Return the random numbers of the batch's N items, each keyed by its own clip number and body."""
        return Noise(seed, self.epoch, clip=self.index[self.clip], body=self.body)
