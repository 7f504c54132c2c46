"""A mask: which tokens of each item are visible and which hidden, and how to make one from scores or kept tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from smae.errors import ConfigError
from smae.models.tokens import Grid, gather, patchify


@dataclass(frozen=True)
class Mask:
    """Token indices of a batch; each row of ``keep`` and ``hide`` ascends, and together they are all tokens.

    Attributes:
        keep: int64 [N, K], visible tokens.
        hide: int64 [N, L - K], hidden tokens.
        found: int64 [N, L], ``restore`` where whoever made the mask knows it already.
        visible: [N, K, P], the tokens at ``keep`` where whoever made the mask took them along.
        source: [N, T, V, C], the joints whose mask this is, where that is known: ``visible`` is of no others.
    """

    keep: Tensor
    hide: Tensor
    found: Tensor | None = field(default=None, repr=False)
    visible: Tensor | None = field(default=None, repr=False)
    source: Tensor | None = field(default=None, repr=False)

    @property
    def restore(self) -> Tensor:
        """int64 [N, L]: where each token of the clip stands in ``cat(keep, hide)``."""
        return self.found if self.found is not None else torch.cat([self.keep, self.hide], 1).argsort(1)

    @property
    def hidden(self) -> Tensor:
        """Bool [N, L]: true where a token is hidden."""
        flags = self.keep.new_ones(self.keep.shape[0], self.keep.shape[1] + self.hide.shape[1], dtype=torch.bool)
        return flags.scatter_(1, self.keep, False)


def visible_tokens(x: Tensor, mask: Mask, grid: Grid) -> Tensor:
    """Return tokens [N, K, P]: those of joints x [N, T, V, C] that a mask keeps, taken already or now."""
    if mask.visible is not None and mask.source is x:
        return mask.visible
    return gather(patchify(x, grid), mask.keep)


def kept_count(ratio: float, total: int, *, setting: str) -> int:
    """Return how many of ``total`` a kept ``ratio`` is, at least one.

    Raises:
        ConfigError: ratio outside (0, 1].
    """
    if not 0 < ratio <= 1:
        raise ConfigError(f"{setting}: expected a share in (0, 1], found {ratio}")
    return max(1, round(ratio * total))


def mask_from_scores(scores: Tensor, keep: int) -> Mask:
    """Return the mask that keeps the ``keep`` lowest of scores [N, L]; equal scores keep the lower index."""
    # By the highest score that is kept: finding it takes no full sort.
    last = scores.topk(keep, dim=1, largest=False, sorted=False).values.amax(1, keepdim=True)
    below, equal = scores < last, scores == last
    room = keep - below.sum(1, keepdim=True)
    return _mask_from_flags(below | (equal & (equal.cumsum(1) <= room)), keep)


def mask_from_kept(keep: Tensor, grid: Grid) -> Mask:
    """Return the mask of kept indices [N, K]; everything else in the grid is hidden."""
    flags = torch.zeros(len(keep), grid.tokens, dtype=torch.bool, device=keep.device).scatter_(1, keep, True)
    return _mask_from_flags(flags, keep.shape[1])


def _mask_from_flags(kept: Tensor, keep: int) -> Mask:
    """Return the mask of flags [N, L], ``keep`` of them set in each row: by counting, without a sort or a wait."""
    token = torch.arange(kept.shape[1], device=kept.device).expand_as(kept)
    before = kept.cumsum(1)
    restore = torch.where(kept, before - 1, keep + token - before)
    both = torch.empty_like(restore).scatter_(1, restore, token)
    return Mask(both[:, :keep], both[:, keep:], restore)
