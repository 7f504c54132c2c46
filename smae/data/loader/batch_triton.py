"""The Triton form of what is done to a batch's items: one kernel that reads packed rows and writes each item once.

A program makes some frames of one item. What another frame or joint is needed for (the next frame for motion, the
joint that one is measured from) is computed again rather than waited for: its rows were read a moment ago.
"""

from __future__ import annotations

import zlib

import torch
import triton
import triton.language as tl
from torch import Tensor

from smae.data.loader.batch_plan import Plan, Style

TILE = 1024
"""Numbers of a program: as many frames as fit."""


@triton.jit
def _normal(seed, item, epoch, element, STREAM: tl.constexpr):
    """Return the normal numbers that ``augment_torch.add_noise`` has at ``element``.

    By the series that ``items_fast`` uses: a GPU's own logarithm is good to 2**-22 near 1, and no better.
    """
    block = (element // 4).to(tl.uint32)
    a, b, c, d = tl.philox(
        seed, block, block * 0 + item.to(tl.uint32), block * 0 + epoch.to(tl.uint32), block * 0 + STREAM
    )
    later = element % 4 >= 2
    w = 1.0 - (tl.where(later, c, a) >> 8).to(tl.float32) * (1 / 16777216)
    v = (tl.where(later, d, b) >> 8).to(tl.float32) * (1 / 16777216)
    # w = m 2^e with m in [sqrt(1/2), sqrt(2)): the bits of a float32 are its logarithm's whole part.
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
    # Odd elements are the sine of the whole angle, even ones its cosine; a quarter turn makes one of the other.
    turns = quarter.to(tl.int32) + tl.where(element % 2 == 1, 3, 0)
    value = tl.where(turns % 2 == 1, -sine, cosine)
    return radius * tl.where(turns % 4 >= 2, -value, value)


@triton.jit
def _mapped(window_ptr, length, map_ptr, time, joint, axis, frames, size, there):
    """Return coordinate ``axis`` of ``joint`` [1, W] at frames ``time`` [T, 1] of a window, mapped: float32 [T, W]."""
    # A fraction of whole numbers, so that both neighbours and the weight are exact.
    place = tl.maximum((2 * time + 1) * length - frames, 0)
    low = place // (2 * frames)
    high = tl.minimum(low + 1, length - 1)
    weight = (place % (2 * frames)).to(tl.float32) / (2 * frames)
    value = tl.zeros(there.shape, tl.float32)
    for c in tl.static_range(3):
        below = tl.load(window_ptr + low * size + 3 * joint + c, mask=there, other=0.0)
        above = tl.load(window_ptr + high * size + 3 * joint + c, mask=there, other=0.0)
        value += tl.load(map_ptr + 3 * axis + c) * (below + weight * (above - below))
    return value


@triton.jit
def _frames(
    window_ptr, length, map_ptr, joint_ptr, origin_ptr, seed, item, epoch, sigma, time, place, frames, size,
    STREAM: tl.constexpr, NOISE: tl.constexpr, DIFFERENCE: tl.constexpr,
):  # fmt: skip
    """Return frames ``time`` [T, 1] of an item, as they are or as differences, float32 [T, W]; 0 beyond its end."""
    there = (place < size) & (time < frames)
    joint, axis = place // 3, place % 3
    source = tl.load(joint_ptr + joint, mask=place < size, other=0)
    x = _mapped(window_ptr, length, map_ptr, time, source, axis, frames, size, there)
    seen = tl.max(tl.abs(x), 1, keep_dims=True) > 0
    if NOISE:
        x += tl.where(there & seen, sigma * _normal(seed, item, epoch, time * size + place, STREAM), 0.0)
    if DIFFERENCE:
        origin = tl.load(origin_ptr + joint, mask=place < size, other=-1)
        some = there & (origin >= 0)
        source = tl.load(joint_ptr + origin, mask=(place < size) & (origin >= 0), other=0)
        above = _mapped(window_ptr, length, map_ptr, time, source, axis, frames, size, some)
        if NOISE:
            element = time * size + 3 * origin + axis
            above += tl.where(some & seen, sigma * _normal(seed, item, epoch, element, STREAM), 0.0)
        x -= above
    return x


@triton.jit(do_not_specialize=["seed", "epoch", "sigma"])
def _items(
    rows_ptr, first_ptr, length_ptr, map_ptr, joint_ptr, origin_ptr, item_ptr, out_ptr, seed, epoch, sigma, frames,
    joints, STREAM: tl.constexpr, NOISE: tl.constexpr, DIFFERENCE: tl.constexpr, MOTION: tl.constexpr,
    TIMES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    n, size = tl.program_id(0), 3 * joints
    # In 64 bits: the places of a long clip's frames are products beyond 2**31, and so may the rows' addresses be.
    time = (tl.program_id(1) * TIMES + tl.arange(0, TIMES)).to(tl.int64)[:, None]
    place = tl.arange(0, WIDTH)[None, :]
    window_ptr, length = rows_ptr + tl.load(first_ptr + n) * size, tl.load(length_ptr + n)
    map_ptr += n * 9
    joint_ptr += n * joints
    item = tl.load(item_ptr + n)
    x = _frames(
        window_ptr, length, map_ptr, joint_ptr, origin_ptr, seed, item, epoch, sigma, time, place, frames, size,
        STREAM, NOISE, DIFFERENCE,
    )  # fmt: skip
    if MOTION:
        after = _frames(
            window_ptr, length, map_ptr, joint_ptr, origin_ptr, seed, item, epoch, sigma, time + 1, place, frames,
            size, STREAM, NOISE, DIFFERENCE,
        )  # fmt: skip
        x = tl.where(time + 1 < frames, after - x, 0.0)
    out = out_ptr + (n.to(tl.int64) * frames + time) * size + place
    tl.store(out, x, mask=(place < size) & (time < frames))


def make_items(rows: Tensor, plan: Plan, *, style: Style) -> Tensor:
    """Return what ``augment_torch.make_items`` returns; the same to float32 rounding."""

    def sent(array: object) -> Tensor:
        return torch.as_tensor(array).to(rows.device).contiguous()

    noise, joints, items = plan.noise, rows.shape[1], len(plan.first)
    out = rows.new_empty(items, style.frames, joints, 3)
    width = triton.next_power_of_2(3 * joints)
    times = max(1, TILE // width)
    first = sent(plan.first)
    _items[(items, triton.cdiv(style.frames, times))](
        rows, first, *(sent(one) for one in (plan.length, plan.map, plan.joint, style.origin)),
        sent(noise.item) if noise else first, out, noise.seed if noise else 0, noise.epoch if noise else 0,
        style.sigma, style.frames, joints, STREAM=zlib.crc32(b"noise"), NOISE=noise is not None,
        DIFFERENCE=style.stream in ("bone", "relative"), MOTION=style.stream == "motion", TIMES=times, WIDTH=width,
    )  # fmt: skip
    return out
