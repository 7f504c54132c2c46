"""The contract of a masking: exact partitions, by noise alone, the same in any batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from smae.config import PluginConfig
from smae.models.masking import Mask, Masking
from smae.models.tokens import Grid, patchify
from smae.rng import Noise
from smae.skeleton import NTU25, Layout
from smae.testing.samples import bodies, check

ITEMS = 6


def check_masking(
    masking: Any, *, settings: dict[str, Any] | None = None, layout: Layout = NTU25, frames: int = 40, patch: int = 4
) -> None:
    """Check a masking class for all that smae relies on.

    Args:
        masking: the class named by an entry point of ``smae.maskings``.
        settings: settings of its ``Config``; its defaults when left out.
        layout: arrangement of joints.
        frames: frames of the clips, a multiple of ``patch``.
        patch: frames in a token.

    Raises:
        AssertionError: the first rule that is broken, in words.
    """
    check(
        isinstance(getattr(masking, "Config", None), type) and issubclass(masking.Config, PluginConfig),
        "a masking class needs a Config, a subclass of smae.config.PluginConfig",
    )
    grid = Grid.cut(frames, joints=len(layout), patch=patch)
    made: Masking = masking(masking.Config(**(settings or {})), grid, layout)
    tokens = patchify(bodies(layout, items=ITEMS, frames=frames), grid)
    clip, body = torch.tensor([3, 3, 8, 20, 21, 500]), torch.tensor([0, 1, 0, 0, 1, 0])
    before, mask = tokens.clone(), made(tokens, Noise(1, 0, clip, body))
    check(torch.equal(tokens, before), "the tokens given to a masking were changed in place")
    _check_partition(mask, grid)
    _check_noise(made, tokens, clip, body, mask)


def _check_partition(mask: Mask, grid: Grid) -> None:
    keep, hide = mask.keep, mask.hide
    check(keep.dtype == hide.dtype == torch.int64, f"keep and hide must be int64, found {keep.dtype} and {hide.dtype}")
    check(
        keep.ndim == hide.ndim == 2 and len(keep) == len(hide) == ITEMS, "keep and hide must be [N, K] and [N, L - K]"
    )
    check(keep.shape[1] > 0 and hide.shape[1] > 0, "a mask must keep something and hide something")
    check(_ascending(keep) and _ascending(hide), "each row of keep and hide must ascend")
    every = torch.cat([keep, hide], 1).sort(1).values
    check(
        torch.equal(every, torch.arange(grid.tokens).expand(ITEMS, -1)),
        f"each row of keep and hide together must hold each of the {grid.tokens} tokens once",
    )


def _ascending(index: Tensor) -> bool:
    return bool((index[:, 1:] > index[:, :-1]).all())


def _check_noise(made: Masking, tokens: Tensor, clip: Tensor, body: Tensor, mask: Mask) -> None:
    torch.manual_seed(99)
    check(_same(made(tokens, Noise(1, 0, clip, body)), mask), "the same tokens and noise gave another mask")
    for rows in (torch.tensor([2]), torch.tensor([5, 0, 3])):
        part = made(tokens[rows], Noise(1, 0, clip[rows], body[rows]))
        check(_same(part, Mask(mask.keep[rows], mask.hide[rows])), "an item's mask depends on the batch around it")
    others = (
        ("epoch", Noise(1, 1, clip, body)),
        ("seed", Noise(2, 0, clip, body)),
        ("clip", Noise(1, 0, clip + 1000, body)),
    )
    for what, noise in others:
        changed = made(tokens, noise)
        check(changed.keep.shape == mask.keep.shape, "the number of kept tokens must not depend on the noise")
        check(not _same(changed, mask), f"another {what} gave the same masks: is the noise used?")


def _same(one: Mask, other: Mask) -> bool:
    return torch.equal(one.keep, other.keep) and torch.equal(one.hide, other.hide)
