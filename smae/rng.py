"""Counter-based random numbers: pure functions of (seed, stream, epoch, clip, body, view, element).

Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
The same integer arithmetic runs on NumPy arrays and on torch tensors of any device, so a clip gets
the same crop, rotation and mask on any machine, in any order, in a batch of any size.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

MAX_CLIPS, MAX_VIEWS = 2**27, 16
"""Clips of a store and views of a clip whose numbers fit into one 32-bit word."""
_LOW32 = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def philox(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Return four 32-bit words (held in int64) for each counter.

    Args:
        counter: four int64 arrays or tensors that broadcast together, each value in [0, 2**32).
        key: two integers in [0, 2**32).
    """
    a, b, c, d = counter
    low, high = key
    for _ in range(10):
        # Products of two 32-bit words wrap in int64, but their bits are right; the masks undo the
        # sign extension.
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        high_left, low_left = (left >> 32) & _LOW32, left & _LOW32
        high_right, low_right = (right >> 32) & _LOW32, right & _LOW32
        a, b, c, d = high_right ^ b ^ low, low_right, high_left ^ d ^ high, low_left
        low, high = (low + _WEYL[0]) & _LOW32, (high + _WEYL[1]) & _LOW32
    return a, b, c, d


@dataclass(frozen=True)
class Noise:
    """The random numbers of one batch.

    Attributes:
        seed: the run's seed, 0 <= seed < 2**64.
        epoch: 0-based epoch.
        clip: int64 [N] array or tensor, each item's clip number in its store.
        body: int64 [N] like ``clip`` (0 or 1), or 0 for numbers that both bodies of a clip share.
        view: int64 [N] or a number, which of its clip's augmented views the item is.
    """

    seed: int
    epoch: int
    clip: Any
    body: Any = 0
    view: Any = 0

    @property
    def item(self) -> Any:
        """Int64 [N], one number for each clip, body and view, below 2**32."""
        return self.clip * 2 + self.body + self.view * (2 * MAX_CLIPS)

    def uniform(self, stream: str, count: int) -> Any:
        """Return float32 [N, count], uniform on [0, 1) in steps of 2**-24.

        Args:
            stream: name of their use (``"mask"``, ``"crop"``, ...); other names, other numbers.
            count: how many numbers per item.
        """
        blocks = -(-count // 4)
        if hasattr(self.clip, "new_tensor"):
            import torch

            block = torch.arange(blocks, device=self.clip.device)
            words = torch.stack(self._words(stream, block), -1)
            return (words.reshape(len(words), -1)[:, :count] >> 8).to(torch.float32) * 2.0**-24
        import numpy

        drawn = numpy.stack(self._words(stream, numpy.arange(blocks)), -1)
        number = (drawn.reshape(len(drawn), -1)[:, :count] >> 8).astype(numpy.float32)
        return number * numpy.float32(2.0**-24)

    def _words(self, stream: str, block: Any) -> tuple[Any, Any, Any, Any]:
        item = self.item[:, None]
        key = (self.seed & _LOW32, (self.seed >> 32) & _LOW32)
        return philox((block + item * 0, item + block * 0, self.epoch, zlib.crc32(stream.encode())), key)
