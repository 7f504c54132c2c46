"""Joints that a recording lacks, as its layout has none of that name: never seen, never predicted.

A batch of several stores says which: ``missing``, bool [N, V]. Their values were not measured, so
the encoder sees no token of theirs, and no loss asks for one.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smae.models.encoders import Encoder
from smae.models.masking import Mask, Masking, mask_from_scores, mask_tokens
from smae.models.tokens import gather, patchify
from smae.rng import Noise

_DRAWS = 2
"""Times that groups of tokens are drawn: once gives half of the gain in 1-NN, eight times give no more."""
_STEPS = 2**24
"""Random numbers are multiples of 1 / this: as integers their sums do not round."""


def missing_tokens(missing: Tensor, times: int) -> Tensor:
    """Return bool [N, L], the tokens of missing joints, bool [N, V], in ``times`` time patches."""
    return missing.repeat(1, times)


def mask_measured(
    masking: Masking, tokens: Tensor, noise: Noise, *, missing: Tensor | None, least_joints: int
) -> tuple[Mask, Tensor]:
    """Return the mask of tokens [N, L, P] and the visible ones, none of a missing joint.

    In a time patch, other joints take the place of missing ones that the masking would show: the
    same ones wherever it would show the same joints, so that whole joints stay whole. All items
    show equally many tokens, so at most those of a clip with ``least_joints``.

    Args:
        masking: draws the mask as if all joints were there.
        tokens: [N, L, P].
        noise: of the N items.
        missing: bool [N, V]; None: none is, and the mask is the masking's.
        least_joints: smallest number of joints that a clip has.
    """
    if missing is None:
        return mask_tokens(masking, tokens, noise)
    drawn, joints = masking(tokens, noise), missing.shape[1]
    lost = missing_tokens(missing, tokens.shape[1] // joints)
    shown = drawn.hidden.logical_not().view(len(tokens), -1, joints)
    draw = (noise.uniform("missing joints", joints) * _STEPS).long()[:, None]
    # Equal sets of shown joints have equal sums, and so the same order of substitutes.
    order = (draw + (draw * shown).sum(2, keepdim=True)) % _STEPS
    group = torch.where(missing[:, None], 2, shown.logical_not().long())
    rank = (group * _STEPS + order).argsort(dim=2, stable=True).argsort(dim=2)
    shown = ((rank < shown.sum(2, keepdim=True)) & ~missing[:, None]).flatten(1)
    count = min(drawn.keep.shape[1], least_joints * (tokens.shape[1] // joints))
    scores = noise.uniform("missing tokens", tokens.shape[1])
    scores = scores + shown.logical_not().float() + 2 * lost.float()
    mask = mask_from_scores(scores, count)
    mask.missing = lost
    return mask, gather(tokens, mask.keep)


def mean_of_targets(losses: Tensor, mask: Mask) -> Tensor:
    """Return the mean of losses [N, H, ...] at measured hidden tokens: of each item, then of all."""
    if mask.missing is None:
        return losses.mean()
    measured = mask.missing.gather(1, mask.hide).logical_not().to(losses.dtype)
    sums = (losses.flatten(2).mean(2) * measured).sum(1)
    return (sums / measured.sum(1).clamp_min(1)).mean()


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
