"""Clips of a store as a map-style dataset of torch, for models and training loops of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset


class ClipDataset(Dataset[dict[str, Tensor]]):
    """Some clips of a store, each as the tensors of ``StoreClip.tensors``.

    ``smae``'s own ``Loader`` is faster, augments, and gives bodies one by one; this one is for code
    that expects whole clips from a ``DataLoader``.

    Attributes:
        store: holds the clips.
        index: int64 [n], clip numbers in the store, in the order of the items.
        frames: T of every item; None: each clip's own.
    """

    def __init__(self, store: Any, index: NDArray[np.int64], *, frames: int | None) -> None:
        self.store, self.index, self.frames = store, index, frames

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = self.store[int(self.index[item])].tensors(self.frames)
        return tensors

    @property
    def labels(self) -> NDArray[np.int64]:
        """Int64 [n], label of each item, without reading the clips."""
        return np.asarray(self.store.clips.label)[self.index].astype(np.int64)

    def __repr__(self) -> str:
        return f"ClipDataset({len(self):,} clips of {self.store.path}, frames={self.frames})"
