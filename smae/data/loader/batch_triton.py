"""Items of a batch by Triton: one kernel that reads packed rows and writes each item once.

A program makes some frames of one item. Another frame or joint that these need (the next frame for
motion, the joint that one is measured from) is computed again and not waited for: its rows were
read a moment ago.
"""

from __future__ import annotations

import zlib

import torch
import triton
import triton.language as tl
from torch import Tensor

from smae.data.loader.augment import BatchPlan, ItemFormat

TILE = 1024
"""Numbers of a program: as many frames as fit."""
_NOISE = tl.constexpr(zlib.crc32(b"noise"))
"""The noise stream's name, as ``smae.rng`` codes it."""


@triton.jit
def _normal(seed, item, epoch, element):
    """Return the normal numbers that ``add_noise`` has at ``element``.

    By the series in ``kernels.py``: a GPU's own logarithm is good to 2**-22 near 1, and no better.
    """
    block = (element // 4).to(tl.uint32)
    zero = block * 0
    a, b, c, d = tl.philox(seed, block, zero + item.to(tl.uint32), zero + epoch.to(tl.uint32), zero + _NOISE)
    later = element % 4 >= 2
    w = 1.0 - (tl.where(later, c, a) >> 8).to(tl.float32) * (1 / 16777216)
    v = (tl.where(later, d, b) >> 8).to(tl.float32) * (1 / 16777216)
    # w = m 2^e with m in [sqrt(1/2), sqrt(2)): the bits of a float32 hold e.
    bits = w.to(tl.int32, bitcast=True)
    exponent = (bits - 0x3F3504F3) >> 23
    m = (bits - (exponent << 23)).to(tl.float32, bitcast=True)
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    logarithm = 2.0 * s * (1.0 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9)))))
    radius = tl.sqrt(-2.0 * (exponent.to(tl.float32) * 0.6931471805599453 + logarithm))
    quarter = tl.floor(4.0 * v + 0.5)
    angle = (v - 0.25 * quarter) * 6.283185307179586
    q = angle * angle
    sine = angle * (1.0 + q * (-1 / 6 + q * (1 / 120 + q * (-1 / 5040 + q * (1 / 362880)))))
    cosine = 1.0 + q * (-1 / 2 + q * (1 / 24 + q * (-1 / 720 + q * (1 / 40320 + q * (-1 / 3628800)))))
    # Odd elements are the sine of the whole angle, even ones its cosine; a quarter turn makes one
    # of the other.
    turns = quarter.to(tl.int32) + tl.where(element % 2 == 1, 3, 0)
    value = tl.where(turns % 2 == 1, -sine, cosine)
    return radius * tl.where(turns % 4 >= 2, -value, value)


@triton.jit
def _mapped(window_ptr, length, map_ptr, time, joint, axis, frames, size, valid):
    """Return coordinate ``axis`` of ``joint`` [1, W] at frames ``time`` [T, 1], resized, mapped."""
    # A fraction of whole numbers, so that both neighbours and the weight are exact.
    position = tl.maximum((2 * time + 1) * length - frames, 0)
    low = position // (2 * frames)
    high = tl.minimum(low + 1, length - 1)
    weight = (position % (2 * frames)).to(tl.float32) / (2 * frames)
    value = tl.zeros(valid.shape, tl.float32)
    for c in tl.static_range(3):
        below = tl.load(window_ptr + low * size + 3 * joint + c, mask=valid, other=0.0)
        above = tl.load(window_ptr + high * size + 3 * joint + c, mask=valid, other=0.0)
        value += tl.load(map_ptr + 3 * axis + c) * (below + weight * (above - below))
    return value


@triton.jit
def _posed(
    window, length, space, sources, parents, changes, time, joint, axis, frames, size, valid, DEPTH: tl.constexpr
):
    """Return coordinate ``axis`` of output joint ``joint`` [1, W] at frames ``time`` [T, 1].

    With changes s of the bones' lengths, x' = x + s (x - p) + s(p) (p - its parent) + ..., p being
    x's parent: x and all above it, each times its own change less that of the one below.
    """
    source = tl.load(sources + joint, mask=joint >= 0, other=0)
    value = _mapped(window, length, space, time, source, axis, frames, size, valid)
    if DEPTH > 0:
        change = tl.load(changes + joint, mask=joint >= 0, other=0.0)
        value += change * value
        joint = joint.to(tl.int64)
        for _ in range(DEPTH):
            joint = tl.load(parents + joint, mask=joint >= 0, other=-1)
            own = tl.load(changes + joint, mask=joint >= 0, other=0.0)
            source = tl.load(sources + joint, mask=joint >= 0, other=0)
            there = valid & (joint >= 0)
            x = _mapped(window, length, space, time, source, axis, frames, size, there)
            value, change = value + (own - change) * x, own
    return value


@triton.jit(do_not_specialize=["seed", "epoch", "sigma"])
def _items(
    rows_ptr,
    first_ptr,
    length_ptr,
    map_ptr,
    joint_ptr,
    origin_ptr,
    item_ptr,
    parent_ptr,
    delta_ptr,
    offset_ptr,
    blank_joint_ptr,
    blank_frame_ptr,
    out_ptr,
    seed,
    epoch,
    sigma,
    frames,
    joints,
    NOISE: tl.constexpr,
    EDIT: tl.constexpr,
    DEPTH: tl.constexpr,
    DIFFERENCE: tl.constexpr,
    MOTION: tl.constexpr,
    TIMES: tl.constexpr,
    WIDTH: tl.constexpr,
):
    n, size = tl.program_id(0), 3 * joints
    # In 64 bits: frames times rows of a long clip, and the rows' addresses, may exceed 2**31.
    time = (tl.program_id(1) * TIMES + tl.arange(0, TIMES)).to(tl.int64)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    window, length = rows_ptr + tl.load(first_ptr + n) * size, tl.load(length_ptr + n)
    map_ptr += n * 9
    joint_ptr += n * joints
    if DEPTH > 0:
        delta_ptr += n * joints
    item = tl.load(item_ptr + n)
    inside = column < size
    joint, axis = tl.where(inside, column // 3, -1), column % 3
    x = tl.zeros([TIMES, WIDTH], tl.float32)
    # Motion takes two rounds: these frames, then the next ones minus these.
    for later in tl.static_range(MOTION + 1):
        frame = time + later
        valid = inside & (frame < frames)
        y = _posed(
            window, length, map_ptr, joint_ptr, parent_ptr, delta_ptr, frame, joint, axis, frames, size, valid, DEPTH
        )
        # Empty frames get no noise.
        present = tl.max(tl.abs(y), 1, keep_dims=True) > 0
        if NOISE:
            noise = _normal(seed, item, epoch, frame * size + column)
            y += tl.where(valid & present, sigma * noise, 0.0)
        if EDIT:
            y += tl.where(present, tl.load(offset_ptr + n * size + column, mask=valid, other=0.0), 0.0)
        if DIFFERENCE:
            other = tl.load(origin_ptr + joint, mask=inside, other=-1)
            seen = valid & (other >= 0)
            base = _posed(
                window, length, map_ptr, joint_ptr, parent_ptr, delta_ptr, frame, other, axis, frames, size, seen, DEPTH
            )
            if NOISE:
                noise = _normal(seed, item, epoch, frame * size + 3 * other + axis)
                base += tl.where(seen & present, sigma * noise, 0.0)
            if EDIT:
                shift = tl.load(offset_ptr + n * size + 3 * other + axis, mask=seen, other=0.0)
                base += tl.where(present, shift, 0.0)
            y -= base
        x = y - x
    if MOTION:
        x = tl.where(time + 1 < frames, x, 0.0)
    if EDIT:
        kept = tl.load(blank_joint_ptr + n * joints + joint, mask=inside, other=1) == 0
        kept &= tl.load(blank_frame_ptr + n * frames + time, mask=time < frames, other=1) == 0
        x = tl.where(kept, x, 0.0)
    out = out_ptr + (n.to(tl.int64) * frames + time) * size + column
    tl.store(out, x, mask=inside & (time < frames))


def make_items(rows: Tensor, plan: BatchPlan, *, item_format: ItemFormat) -> Tensor:
    """Return what ``smae.data.loader.make_items`` returns; the same to float32 rounding."""

    def send(array: object) -> Tensor:
        return torch.as_tensor(array).to(rows.device).contiguous()

    joints, items, frames = rows.shape[1], len(plan.first), item_format.frames
    out = rows.new_empty(items, frames, joints, 3)
    width = triton.next_power_of_2(3 * joints)
    times = max(1, TILE // width)
    first, length, transform, joint = map(send, (plan.first, plan.length, plan.transform, plan.joint))
    item, seed, epoch = first, 0, 0
    if plan.noise is not None:
        item, seed, epoch = send(plan.noise.item), plan.noise.seed, plan.noise.epoch
    parent, depth = torch.full((joints,), -1), 0
    edits: tuple[Tensor, ...] = (rows, rows, first, first)
    if plan.edits is not None:
        blanks = (plan.edits.joint.view("uint8"), plan.edits.frame.view("uint8"))
        edits = (send(plan.edits.stretch), send(plan.edits.offset), *map(send, blanks))
        depths = [0] * joints
        for child, above in item_format.bones.tolist():
            parent[child], depths[child] = above, depths[above] + 1
        depth = max(depths) if plan.edits.stretch.any() else 0
    pointers = (rows, first, length, transform, joint, send(item_format.origin), item, send(parent), *edits, out)
    constants = {
        "NOISE": plan.noise is not None,
        "EDIT": plan.edits is not None,
        "DEPTH": depth,
        "DIFFERENCE": item_format.stream in ("bone", "bone-motion", "relative"),
        "MOTION": item_format.stream.endswith("motion"),
        "TIMES": times,
        "WIDTH": width,
    }
    grid = (items, triton.cdiv(frames, times))
    _items[grid](*pointers, seed, epoch, item_format.sigma, frames, joints, **constants)
    return out
