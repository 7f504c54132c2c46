"""What hidden tokens are asked for: coordinates or motion, normalised or not, and the way back to metres."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from smae.models.tokens import Grid, patchify


@dataclass(frozen=True)
class Target:
    """Normalised target and how it was normalised: ``tokens = (plain - mean) / scale``.

    Attributes:
        tokens: [N, L, P].
        mean: broadcasts to [N, L, P].
        scale: broadcasts to [N, L, P].
    """

    tokens: Tensor
    mean: Tensor
    scale: Tensor


def motion(x: Tensor) -> Tensor:
    """Return x[t + 1] - x[t] of joints [N, T, V, C], the last frame 0 (MAMP, ICCV 2023, section 3.2)."""
    return torch.cat([x[:, 1:] - x[:, :-1], torch.zeros_like(x[:, :1])], 1)


def make_target(x: Tensor, grid: Grid, *, normalise: str, floor: float = 1e-3) -> Target:
    """Return the target tokens of joints (or their motion) x [N, T, V, C].

    Args:
        x: what is to be predicted.
        grid: how tokens are cut.
        normalise: ``token``: each token by its own mean and unbiased variance, eps 1e-6 (MAE, section 4.1; MAMP);
            ``clip``: each coordinate of each joint by its mean and variance over all time stamps of the clip, so that
            what remains is movement, a still joint's sensor noise blown up to the size of a wave of the hand;
            ``movement``: each coordinate of each joint by its mean over time, each axis by the variance about those
            means, averaged over joints: movement in true proportion (this project's); ``body``: each axis by its mean
            and variance over all time stamps and joints; ``none``.
        floor: metres; ``scale = sqrt(variance + floor^2)``, so that what stands still is not blown up to full size. The
            default gives the published eps of 1e-6.
    """
    plain = patchify(x, grid)
    if normalise == "none":
        return Target(plain, torch.zeros_like(plain[:, :1, :1]), torch.ones_like(plain[:, :1, :1]))
    if normalise == "token":
        mean, variance = plain.mean(-1, keepdim=True), plain.var(-1, keepdim=True)
    else:
        over = (1, 2) if normalise == "body" else (1,)
        variance = x.var(over, keepdim=True)
        if normalise == "movement":
            variance = variance.mean(2, keepdim=True)
        mean = patchify(x.mean(over, keepdim=True).expand_as(x), grid)
        variance = patchify(variance.expand_as(x), grid)
    scale = (variance + floor**2).sqrt()
    return Target((plain - mean) / scale, mean, scale)
