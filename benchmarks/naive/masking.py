"""Masks as many public repositories draw them: noise is sorted, and sorted again for the way back."""

from __future__ import annotations

import torch
from torch import Tensor

Masked = tuple[Tensor, Tensor, Tensor]


def random(tokens: Tensor, *, keep: int, noise: Tensor | None = None) -> Masked:
    """Return visible tokens [N, K, P], mask [N, L] (1 where hidden) and restore [N, L] of tokens [N, L, P]."""
    items, count, _ = tokens.shape
    if noise is None:
        noise = torch.rand(items, count, device=tokens.device)
    shuffle = torch.argsort(noise, dim=1)
    restore = torch.argsort(shuffle, dim=1)
    kept = shuffle[:, :keep]
    visible = torch.gather(tokens, 1, kept.unsqueeze(-1).repeat(1, 1, tokens.shape[2]))
    mask = torch.ones(items, count, device=tokens.device)
    mask[:, :keep] = 0
    return visible, torch.gather(mask, 1, restore), restore


def motion_aware(tokens: Tensor, *, keep: int, joints: int, tau: float, noise: Tensor | None = None) -> Masked:
    """Return the same, moving tokens hidden more often (MAMP's rule)."""
    items, count, values = tokens.shape
    patches = tokens.reshape(items, -1, joints, values)
    motion = torch.zeros_like(patches)
    motion[:, 1:] = torch.abs(patches[:, 1:] - patches[:, :-1])
    motion[:, 0] = motion[:, 1]
    motion = motion.mean(dim=3).reshape(items, count)
    motion = motion / (motion.max(dim=1, keepdim=True).values * tau + 1e-10)
    chance = torch.softmax(motion, dim=1)
    if noise is None:
        noise = torch.rand(items, count, device=tokens.device)
    return random(tokens, keep=keep, noise=torch.log(chance) - torch.log(-torch.log(noise)))
