"""Items of a batch by torch: resize, linear map, noise and stream, in a few passes on any device."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from smae.data.loader.augment import BatchPlan, ItemFormat
from smae.rng import Noise


def make_items(rows: Tensor, plan: BatchPlan, *, item_format: ItemFormat) -> Tensor:
    """Return the items of a plan, float32 [N, T, V, 3], from rows [R, V, 3], on the device of the rows."""

    def send(array: object) -> Tensor:
        return torch.as_tensor(array).to(rows.device)

    first, length, transform, joint = map(send, (plan.first, plan.length, plan.transform, plan.joint))
    frames = item_format.frames
    x = resample_and_map(rows, first, length, frames=frames, transform=transform, joint=joint)
    present = None if plan.edits is None else (x != 0).flatten(2).any(2)[..., None, None]
    if plan.noise is not None:
        clip, body, view = map(send, (plan.noise.clip, plan.noise.body, plan.noise.view))
        x = add_noise(x, replace(plan.noise, clip=clip, body=body, view=view), sigma=item_format.sigma)
    if plan.edits is not None and present is not None:
        x = torch.where(present, x + send(plan.edits.offset)[:, None], x)
    x = to_stream(x, stream=item_format.stream, origin=send(item_format.origin))
    if plan.edits is not None:
        blank = send(plan.edits.joint)[:, None] | send(plan.edits.frame)[:, :, None]
        x = x.masked_fill(blank[..., None], 0)
    return x


def resample_and_map(
    rows: Tensor, first: Tensor, length: Tensor, *, frames: int, transform: Tensor, joint: Tensor
) -> Tensor:
    """Return float32 [N, frames, V, 3]: each item's rows resized in time, then mapped in space.

    Half-pixel centres (``align_corners=False``): output frame i of a window of L frames is at
    (i + 1/2) L / frames - 1/2, not below 0; it is computed as a fraction of integers, so its two
    neighbours and weight are exact. The other arguments are those of ``BatchPlan``.
    """
    position = (2 * torch.arange(frames, device=rows.device) + 1) * length[:, None] - frames
    position = position.clamp_min(0)
    low = position // (2 * frames)
    high = torch.minimum(low + 1, length[:, None] - 1)
    weight = ((position % (2 * frames)).to(torch.float32) / (2 * frames))[..., None, None]
    below, above = rows[first[:, None] + low], rows[first[:, None] + high]
    x = below + weight * (above - below)
    x = torch.gather(x, 2, joint[:, None, :, None].expand_as(x))
    # Sums of three products, not matmul: a matmul may run in TF32, which has 10 bits.
    return (x[..., None, :] * transform[:, None, None]).sum(-1)


def add_noise(x: Tensor, noise: Noise, *, sigma: float) -> Tensor:
    """Add Gaussian noise of standard deviation ``sigma`` (metres) to the non-empty frames of x [N, T, V, C].

    Box and Muller, 1958: sqrt(-2 ln u) (cos, sin)(2 pi v) of two uniform numbers are two
    independent normal ones.
    """
    size = x[0].numel()
    pairs = noise.uniform("noise", size + size % 2).unflatten(1, (-1, 2))
    radius, angle = torch.sqrt(-2 * torch.log1p(-pairs[..., 0])), 2 * math.pi * pairs[..., 1]
    normal = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), -1)
    normal = normal.flatten(1)[:, :size].view(x.shape)
    present = (x != 0).flatten(2).any(2)[..., None, None]
    return torch.where(present, x + sigma * normal, x)


def to_stream(x: Tensor, *, stream: str, origin: Tensor) -> Tensor:
    """Return joints x [N, T, V, C] as a stream of ``Augment``; ``origin`` is that of ``ItemFormat``."""
    if stream in ("bone", "bone-motion", "relative"):
        x = x - x[:, :, origin].masked_fill((origin < 0)[:, None], 0)
    if stream in ("motion", "bone-motion"):
        return torch.cat((x[:, 1:] - x[:, :-1], torch.zeros_like(x[:, :1])), 1)
    return x
