"""Triton kernels of the built-in maskings: noise, selection, lists and visible tokens of an item at once, no sort.

The noise is that of ``smae.rng``, as whole numbers below 2**24, so that what is compared here and in the plain form
is the same. The ``keep`` lowest are found by the bits of the threshold, highest first, each by counting the row; among
equals the lower index is kept, as a stable sort would have it. One program writes a row of ``keep``, ``hide`` and
``restore``, and copies the tokens that are kept.
"""

from __future__ import annotations

import struct
import zlib

import torch
import triton
import triton.language as tl
from torch import Tensor

from smae.rng import Noise

Made = tuple[Tensor, Tensor, Tensor, Tensor]
"""``keep`` int64 [N, K], ``hide`` int64 [N, L - K], ``restore`` int64 [N, L], and the visible tokens [N, K, P]."""


@triton.jit
def _number(seed, item, epoch, stream: tl.constexpr, index):
    """Return the 24-bit numbers that ``Noise.uniform(stream, ...)`` has at ``index``."""
    block = (index // 4).to(tl.uint32)
    a, b, c, d = tl.philox(
        seed, block, block * 0 + item.to(tl.uint32), block * 0 + epoch.to(tl.uint32), block * 0 + stream
    )
    lane = index % 4
    word = tl.where(lane < 2, tl.where(lane == 0, a, b), tl.where(lane == 2, c, d))
    return (word >> 8).to(tl.int32)


@triton.jit
def _row_of_numbers(seed, item, epoch, stream: tl.constexpr, BLOCK: tl.constexpr):
    """Return the first BLOCK numbers in order, [BLOCK]: all four words of each block are used."""
    block = tl.arange(0, BLOCK // 4).to(tl.uint32)
    a, b, c, d = tl.philox(
        seed, block, block * 0 + item.to(tl.uint32), block * 0 + epoch.to(tl.uint32), block * 0 + stream
    )
    word = tl.interleave(tl.interleave(a, c), tl.interleave(b, d))
    return (word >> 8).to(tl.int32)


@triton.jit
def _lowest(key, there, keep, BITS: tl.constexpr):
    """Return bool [G, E]: in each row, the ``keep`` lowest of the keys that are there, at least 0 and below 2**BITS."""
    # The largest number that fewer than ``keep`` keys are below: the last key kept.
    threshold = tl.zeros([key.shape[0], 1], key.dtype)
    for bit in tl.static_range(BITS):
        probe = threshold + (tl.full([1, 1], 1, key.dtype) << (BITS - 1 - bit))
        count = tl.sum((there & (key < probe)).to(tl.int32), 1, keep_dims=True)
        threshold = tl.where(count < keep, probe, threshold)
    below = there & (key < threshold)
    equal = there & (key == threshold)
    room = keep - tl.sum(below.to(tl.int32), 1, keep_dims=True)
    return below | (equal & (tl.cumsum(equal.to(tl.int32), 1) <= room))


@triton.jit
def _write(
    kept, there, token, row, tokens_ptr, keep_ptr, hide_ptr, restore_ptr, visible_ptr, tokens, keep,
    VALUES: tl.constexpr,
):  # fmt: skip
    """Write a row of the three index lists, and its visible tokens; all that are not pointers [BLOCK], ascending."""
    before = tl.cumsum(kept.to(tl.int32), 0)
    place = tl.where(kept, before - 1, token - before)
    hidden = there & (kept == 0)
    number = token.to(tl.int64)
    row = row.to(tl.int64)
    tl.store(keep_ptr + row * keep + place, number, mask=kept)
    tl.store(hide_ptr + row * (tokens - keep) + place, number, mask=hidden)
    tl.store(restore_ptr + row * tokens + token, tl.where(kept, place, keep + place).to(tl.int64), mask=there)
    for value in tl.static_range(VALUES):
        number = tl.load(tokens_ptr + (row * tokens + token) * VALUES + value, mask=kept)
        tl.store(visible_ptr + (row * keep + place) * VALUES + value, number, mask=kept)


@triton.jit(do_not_specialize=["seed", "epoch"])
def _flat(
    item_ptr, tokens_ptr, keep_ptr, hide_ptr, restore_ptr, visible_ptr, seed, epoch, tokens, keep, joints, length,
    stream: tl.constexpr, TUBES: tl.constexpr, VALUES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    item = tl.load(item_ptr + row)
    token = tl.arange(0, BLOCK)
    if TUBES:
        key = _number(seed, item, epoch, stream, (token // joints // length) * joints + token % joints)
    else:
        key = _row_of_numbers(seed, item, epoch, stream, BLOCK)
    there = token < tokens
    kept = tl.reshape(_lowest(key[None, :], there[None, :], keep, 24), [BLOCK])
    _write(
        kept, there, token, row, tokens_ptr, keep_ptr, hide_ptr, restore_ptr, visible_ptr, tokens, keep, VALUES
    )  # fmt: skip


@triton.jit(do_not_specialize=["seed", "epoch", "tau_bits"])
def _motion_aware(
    item_ptr, tokens_ptr, keep_ptr, hide_ptr, restore_ptr, visible_ptr, seed, epoch, tau_bits, tokens, keep, joints,
    stream: tl.constexpr, VALUES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    item = tl.load(item_ptr + row)
    token = tl.arange(0, BLOCK)
    there = token < tokens
    # The first patch copies the second one's motion.
    later = tokens_ptr + (row.to(tl.int64) * tokens + tl.where(token < joints, token + joints, token)) * VALUES
    motion = tl.zeros([BLOCK], tl.float64)
    for value in tl.static_range(VALUES):
        here = tl.load(later + value, mask=there, other=0.0)
        before = tl.load(later + value - joints * VALUES, mask=there, other=0.0)
        motion += tl.abs(here - before).to(tl.float64)
    motion = motion / VALUES
    # In double precision by its bits, since a plain argument would be rounded to float32.
    tau = tau_bits.to(tl.float64, bitcast=True)
    rate = motion / (tl.maximum(tl.max(motion, 0), 0.5**40) * tau)
    uniform = tl.maximum(_row_of_numbers(seed, item, epoch, stream, BLOCK).to(tl.float64) / 16777216, 1 / 33554432)
    # Rounded at the end: what two machines' logarithms differ by is lost in that.
    score = (rate - tl.log(-tl.log(uniform))).to(tl.float32) + 0.0
    bits = score.to(tl.int32, bitcast=True)
    # Floats order as their bits do, those below zero the other way round; the flipped sign bit puts them first.
    key = ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) ^ -0x80000000).to(tl.uint32, bitcast=True)
    kept = tl.reshape(_lowest(key[None, :], there[None, :], keep, 32), [BLOCK])
    _write(
        kept, there, token, row, tokens_ptr, keep_ptr, hide_ptr, restore_ptr, visible_ptr, tokens, keep, VALUES
    )  # fmt: skip


@triton.jit(do_not_specialize=["seed", "epoch"])
def _product(
    item_ptr, tokens_ptr, keep_ptr, hide_ptr, restore_ptr, visible_ptr, seed, epoch, times, joints, keep_times,
    keep_joints, time_stream: tl.constexpr, joint_stream: tl.constexpr, VALUES: tl.constexpr, TIMES: tl.constexpr,
    JOINTS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    item = tl.load(item_ptr + row)
    time, joint = tl.arange(0, TIMES), tl.arange(0, JOINTS)
    time_key = _number(seed, item, epoch, time_stream, time)[None, :]
    joint_key = _number(seed, item, epoch, joint_stream, joint)[None, :]
    time_kept = tl.reshape(_lowest(time_key, (time < times)[None, :], keep_times, 24), [TIMES])
    joint_kept = _lowest(joint_key, (joint < joints)[None, :], keep_joints, 24)
    there = (time < times)[:, None] & (joint < joints)[None, :]
    token = time[:, None] * joints + joint[None, :]
    kept = time_kept[:, None] & joint_kept
    _write(
        tl.reshape(kept, [TIMES * JOINTS]), tl.reshape(there, [TIMES * JOINTS]), tl.reshape(token, [TIMES * JOINTS]),
        row, tokens_ptr, keep_ptr, hide_ptr, restore_ptr, visible_ptr, times * joints, keep_times * keep_joints, VALUES,
    )  # fmt: skip


@triton.jit(do_not_specialize=["seed", "epoch"])
def _body_part(
    item_ptr, tokens_ptr, keep_ptr, hide_ptr, restore_ptr, visible_ptr, part_ptr, seed, epoch, times, joints, parts,
    length, keep, part_stream: tl.constexpr, joint_stream: tl.constexpr, VALUES: tl.constexpr, TIMES: tl.constexpr,
    JOINTS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    item = tl.load(item_ptr + row)
    time, joint = tl.arange(0, TIMES)[:, None], tl.arange(0, JOINTS)[None, :]
    there = (time < times) & (joint < joints)
    part = tl.load(part_ptr + joint, mask=joint < joints, other=0)
    # Every time patch of a stretch draws the same numbers, and so keeps the same joints.
    stretch = time // length
    rank = _number(seed, item, epoch, part_stream, stretch * parts + part)
    within = _number(seed, item, epoch, joint_stream, stretch * joints + joint)
    kept = _lowest(rank.to(tl.int64) * 16777216 + within, there, keep, 48)
    token = time * joints + joint
    _write(
        tl.reshape(kept, [TIMES * JOINTS]), tl.reshape(there, [TIMES * JOINTS]), tl.reshape(token, [TIMES * JOINTS]),
        row, tokens_ptr, keep_ptr, hide_ptr, restore_ptr, visible_ptr, times * joints, times * keep, VALUES,
    )  # fmt: skip


def lowest(noise: Noise, stream: str, values: Tensor, *, keep: int) -> Made:
    """Return what keeps the ``keep`` of the tokens ``values`` [N, L, P] with the lowest noise."""
    tokens, made = values.shape[1], _made(values, keep)
    _flat[(len(values),)](
        _item(noise), values.contiguous(), *made, noise.seed, noise.epoch, tokens, keep, 1, 1,
        stream=_code(stream), TUBES=False, VALUES=values.shape[2], BLOCK=_block(tokens),
    )  # fmt: skip
    return made


def tubes(noise: Noise, stream: str, values: Tensor, *, joints: int, length: int, keep: int) -> Made:
    """Return what keeps ``keep`` of the tokens ``values`` in tubes of ``length`` time patches, by the tubes' noise."""
    tokens, made = values.shape[1], _made(values, keep)
    _flat[(len(values),)](
        _item(noise), values.contiguous(), *made, noise.seed, noise.epoch, tokens, keep, joints, length,
        stream=_code(stream), TUBES=True, VALUES=values.shape[2], BLOCK=_block(tokens),
    )  # fmt: skip
    return made


def motion_aware(noise: Noise, stream: str, values: Tensor, *, joints: int, tau: float, keep: int) -> Made:
    """Return what keeps ``keep`` of the tokens ``values`` [N, L, P], moving ones less often."""
    tokens, made = values.shape[1], _made(values, keep)
    bits = struct.unpack("<q", struct.pack("<d", tau))[0]
    _motion_aware[(len(values),)](
        _item(noise), values.contiguous(), *made, noise.seed, noise.epoch, bits, tokens, keep, joints,
        stream=_code(stream), VALUES=values.shape[2], BLOCK=_block(tokens),
    )  # fmt: skip
    return made


def product(
    noise: Noise, streams: tuple[str, str], values: Tensor, *, times: int, joints: int, keep_times: int,
    keep_joints: int,
) -> Made:  # fmt: skip
    """Return what keeps the kept time patches' kept joints, each drawn by its own stream."""
    made = _made(values, keep_times * keep_joints)
    _product[(len(values),)](
        _item(noise), values.contiguous(), *made, noise.seed, noise.epoch, times, joints, keep_times, keep_joints,
        time_stream=_code(streams[0]), joint_stream=_code(streams[1]), VALUES=values.shape[2],
        TIMES=_block(times), JOINTS=_block(joints),
    )  # fmt: skip
    return made


def body_parts(
    noise: Noise, streams: tuple[str, str], values: Tensor, *, part_of: Tensor, parts: int, times: int, length: int,
    keep: int,
) -> Made:  # fmt: skip
    """Return what keeps ``keep`` joints in each stretch of ``length`` time patches, part by part.

    Args:
        noise: of the items.
        streams: of the parts' ranks, and of the joints' within a part.
        values: the tokens [N, L, P].
        part_of: int32 [V], each joint's part, from 0.
        parts, times, length, keep: see above.
    """
    joints, made = len(part_of), _made(values, times * keep)
    _body_part[(len(values),)](
        _item(noise), values.contiguous(), *made, part_of, noise.seed, noise.epoch, times, joints, parts, length, keep,
        part_stream=_code(streams[0]), joint_stream=_code(streams[1]), VALUES=values.shape[2],
        TIMES=_block(times), JOINTS=_block(joints),
    )  # fmt: skip
    return made


def _item(noise: Noise) -> Tensor:
    item: Tensor = noise.item.contiguous()
    return item


def _made(values: Tensor, keep: int) -> Made:
    items, tokens, size = values.shape
    keeps, hides, restores = (
        torch.empty(items, count, dtype=torch.int64, device=values.device) for count in (keep, tokens - keep, tokens)
    )
    return keeps, hides, restores, values.new_empty(items, keep, size)


def _code(stream: str) -> int:
    return zlib.crc32(stream.encode())


def _block(count: int) -> int:
    return max(16, 1 << (count - 1).bit_length())
