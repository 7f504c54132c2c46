"""The torch form of what is done to a batch's items: resize, map, noise and stream, a few passes on any device."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from smae.data.loader.batch_plan import Plan, Style
from smae.rng import Noise


def make_items(rows: Tensor, plan: Plan, *, style: Style) -> Tensor:
    """Return the items of a plan, float32 [N, T, V, 3], from rows [R, V, 3], on the device of the rows."""

    def sent(array: object) -> Tensor:
        return torch.as_tensor(array).to(rows.device)

    first, length, space, joint = (sent(array) for array in (plan.first, plan.length, plan.map, plan.joint))
    x = resample_and_map(rows, first, length, frames=style.frames, map=space, joint=joint)
    if plan.noise is not None:
        noise = replace(plan.noise, clip=sent(plan.noise.clip), body=sent(plan.noise.body))
        x = add_noise(x, noise, sigma=style.sigma)
    return to_stream(x, stream=style.stream, origin=sent(style.origin))


def resample_and_map(rows: Tensor, first: Tensor, length: Tensor, *, frames: int, map: Tensor, joint: Tensor) -> Tensor:
    """Return float32 [N, frames, V, 3]: each item's rows resized in time, then mapped in space, all at once.

    Half-pixel centres (``align_corners=False``): output frame i of a window of L frames lies at (i + 1/2) L / frames
    - 1/2, not below 0; it is computed as a fraction of integers, so its two neighbours and weight are exact.

    Args:
        rows: float32 [R, V, 3], where the windows lie.
        first: int64 [N], each window's first row.
        length: int64 [N], each window's rows, at least 1.
        frames: frames of the output.
        map: float32 [N, 3, 3], applied to every joint as a column: x' = A x.
        joint: int64 [N, V], the joint that each output joint is taken from (identity, or left and right swapped).
    """
    place = (2 * torch.arange(frames, device=rows.device) + 1) * length[:, None] - frames
    place = place.clamp_min(0)
    low = place // (2 * frames)
    high = torch.minimum(low + 1, length[:, None] - 1)
    weight = ((place % (2 * frames)).to(torch.float32) / (2 * frames))[..., None, None]
    below, above = rows[first[:, None] + low], rows[first[:, None] + high]
    x = below + weight * (above - below)
    x = torch.gather(x, 2, joint[:, None, :, None].expand_as(x))
    # Sums of three products, not matmul: a matmul may run in TF32, which has 10 bits.
    return (x[..., None, :] * map[:, None, None]).sum(-1)


def add_noise(x: Tensor, noise: Noise, *, sigma: float) -> Tensor:
    """Add Gaussian noise of standard deviation ``sigma`` (metres) to the frames of x [N, T, V, C] that are not empty.

    Box and Muller, 1958: sqrt(-2 ln u) (cos, sin)(2 pi v) of two uniform numbers are two independent normal ones.
    """
    size = x[0].numel()
    pairs = noise.uniform("noise", size + size % 2).unflatten(1, (-1, 2))
    radius, angle = torch.sqrt(-2 * torch.log1p(-pairs[..., 0])), 2 * math.pi * pairs[..., 1]
    normal = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), -1).flatten(1)[:, :size].view(x.shape)
    there = (x != 0).flatten(2).any(2)[..., None, None]
    return torch.where(there, x + sigma * normal, x)


def to_stream(x: Tensor, *, stream: str, origin: Tensor) -> Tensor:
    """Return x [N, T, V, C] as joints, bones or relative joints (minus their origin) or motion (the last frame's is 0).

    Args:
        x: joint positions, metres.
        stream: ``"joint"``, ``"relative"``, ``"bone"`` or ``"motion"``.
        origin: int64 [V], the joint that each is measured from; -1: none.
    """
    if stream in ("bone", "relative"):
        return x - x[:, :, origin].masked_fill((origin < 0)[:, None], 0)
    if stream == "motion":
        return torch.cat((x[:, 1:] - x[:, :-1], torch.zeros_like(x[:, :1])), 1)
    return x
