"""Triton kernels of the built-in maskings: noise, selection, lists and visible tokens at once.

The noise is that of ``smae.rng``, as whole numbers below 2**24, so that torch and the kernels
compare the same numbers. There is no sort: the threshold with ``keep`` numbers up to it is found
bit by bit, highest first, counting the row each time; among equal numbers the lower index is kept,
as in a stable sort. One program writes one row of ``keep``, ``hide`` and ``restore``, and copies
the tokens that are kept.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from smae.rng import Noise

# Names of the noise streams, as ``smae.rng`` codes them.
_MASK = tl.constexpr(zlib.crc32(b"mask"))
_FRAMES = tl.constexpr(zlib.crc32(b"mask-frames"))
_JOINTS = tl.constexpr(zlib.crc32(b"mask-joints"))
_PARTS = tl.constexpr(zlib.crc32(b"mask-parts"))

Output = tuple[Tensor, Tensor, Tensor, Tensor]
"""Int64 ``keep`` [N, K], ``hide`` [N, L - K], ``restore`` [N, L]; visible tokens [N, K, P]."""


@triton.jit
def _words(seed, item, epoch, stream: tl.constexpr, block):
    """Return the four 32-bit words of Philox at each block, as ``Noise`` draws them."""
    zero = block * 0
    return tl.philox(seed, block, zero + item.to(tl.uint32), zero + epoch.to(tl.uint32), zero + stream)


@triton.jit
def _number(seed, item, epoch, stream: tl.constexpr, index):
    """Return the 24-bit numbers that ``Noise.uniform(stream, ...)`` has at ``index``."""
    a, b, c, d = _words(seed, item, epoch, stream, (index // 4).to(tl.uint32))
    lane = index % 4
    word = tl.where(lane < 2, tl.where(lane == 0, a, b), tl.where(lane == 2, c, d))
    return (word >> 8).to(tl.int32)


@triton.jit
def _row_of_numbers(seed, item, epoch, stream: tl.constexpr, BLOCK: tl.constexpr):
    """Return the first BLOCK numbers in order: all four words of each Philox block are used."""
    a, b, c, d = _words(seed, item, epoch, stream, tl.arange(0, BLOCK // 4).to(tl.uint32))
    word = tl.interleave(tl.interleave(a, c), tl.interleave(b, d))
    return (word >> 8).to(tl.int32)


@triton.jit
def _lowest(key, valid, keep, BITS: tl.constexpr):
    """Return bool [G, E]: each row's ``keep`` lowest valid keys; keys are in [0, 2**BITS)."""
    # The largest number that fewer than ``keep`` keys are below: the last key kept.
    threshold = tl.zeros([key.shape[0], 1], key.dtype)
    for bit in tl.static_range(BITS):
        probe = threshold + (tl.full([1, 1], 1, key.dtype) << (BITS - 1 - bit))
        count = tl.sum((valid & (key < probe)).to(tl.int32), 1, keep_dims=True)
        threshold = tl.where(count < keep, probe, threshold)
    below = valid & (key < threshold)
    equal = valid & (key == threshold)
    missing = keep - tl.sum(below.to(tl.int32), 1, keep_dims=True)
    return below | (equal & (tl.cumsum(equal.to(tl.int32), 1) <= missing))


@triton.jit
def _write(kept, valid, token, row, tokens_ptr, lists_ptr, visible_ptr, tokens, keep, VALUES: tl.constexpr):
    """Write a row of the three index lists and its visible tokens; ``token`` [BLOCK] ascends."""
    kept_so_far = tl.cumsum(kept.to(tl.int32), 0)
    position = tl.where(kept, kept_so_far - 1, token - kept_so_far)
    # Products of rows and tokens may exceed 2**31.
    number, row, rows = token.to(tl.int64), row.to(tl.int64), tl.num_programs(0).to(tl.int64)
    # The lists stand one after another: keep [N, K], hide [N, L - K], restore [N, L].
    hide_ptr, restore_ptr = lists_ptr + rows * keep, lists_ptr + rows * tokens
    tl.store(lists_ptr + row * keep + position, number, mask=kept)
    tl.store(hide_ptr + row * (tokens - keep) + position, number, mask=valid & (kept == 0))
    restore = tl.where(kept, position, keep + position)
    tl.store(restore_ptr + row * tokens + token, restore.to(tl.int64), mask=valid)
    for value in tl.static_range(VALUES):
        number = tl.load(tokens_ptr + (row * tokens + token) * VALUES + value, mask=kept)
        tl.store(visible_ptr + (row * keep + position) * VALUES + value, number, mask=kept)


@triton.jit
def _motion_scores(tokens_ptr, seed, item, epoch, tau, row, tokens, joints, VALUES: tl.constexpr, BLOCK: tl.constexpr):
    """Return the scores of motion-aware masking as uint32 [BLOCK] of the same order."""
    token = tl.arange(0, BLOCK)
    # The first patch copies the second one's motion.
    source = tl.where(token < joints, token + joints, token)
    later = tokens_ptr + (row.to(tl.int64) * tokens + source) * VALUES
    motion = tl.zeros([BLOCK], tl.float64)
    for value in tl.static_range(VALUES):
        here = tl.load(later + value, mask=token < tokens, other=0.0)
        before = tl.load(later + value - joints * VALUES, mask=token < tokens, other=0.0)
        motion += tl.abs(here - before).to(tl.float64)
    motion = motion / VALUES
    rate = motion / (tl.maximum(tl.max(motion, 0), 0.5**40) * tau)
    number = _row_of_numbers(seed, item, epoch, _MASK, BLOCK).to(tl.float64)
    uniform = tl.maximum(number / 16777216, 1 / 33554432)
    # Rounded at the end, so that what two machines' logarithms differ by is lost.
    score = (rate - tl.log(-tl.log(uniform))).to(tl.float32) + 0.0
    bits = score.to(tl.int32, bitcast=True)
    # Floats order as their bits do, negative ones in reverse; flipping the sign bit puts these
    # first.
    return ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) ^ -0x80000000).to(tl.uint32, bitcast=True)


@triton.jit(do_not_specialize=["seed", "epoch", "tau_bits"])
def _by_score(
    item_ptr,
    tokens_ptr,
    lists_ptr,
    visible_ptr,
    seed,
    epoch,
    tau_bits,
    tokens,
    keep,
    joints,
    length,
    MOTION: tl.constexpr,
    TUBES: tl.constexpr,
    VALUES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    item = tl.load(item_ptr + row)
    token = tl.arange(0, BLOCK)
    valid = token < tokens
    if MOTION:
        # In double precision by its bits, since a plain argument would be rounded to float32.
        tau = tau_bits.to(tl.float64, bitcast=True)
        scores = _motion_scores(tokens_ptr, seed, item, epoch, tau, row, tokens, joints, VALUES, BLOCK)
        kept = _lowest(scores[None, :], valid[None, :], keep, 32)
    elif TUBES:
        tube = (token // joints // length) * joints + token % joints
        kept = _lowest(_number(seed, item, epoch, _MASK, tube)[None, :], valid[None, :], keep, 24)
    else:
        numbers = _row_of_numbers(seed, item, epoch, _MASK, BLOCK)
        kept = _lowest(numbers[None, :], valid[None, :], keep, 24)
    kept = tl.reshape(kept, [BLOCK])
    _write(kept, valid, token, row, tokens_ptr, lists_ptr, visible_ptr, tokens, keep, VALUES)


@triton.jit(do_not_specialize=["seed", "epoch"])
def _spatial_temporal(
    item_ptr,
    tokens_ptr,
    lists_ptr,
    visible_ptr,
    seed,
    epoch,
    times,
    joints,
    keep_times,
    keep_joints,
    VALUES: tl.constexpr,
    TIMES: tl.constexpr,
    JOINTS: tl.constexpr,
):
    size: tl.constexpr = TIMES * JOINTS
    row = tl.program_id(0)
    item = tl.load(item_ptr + row)
    time, joint = tl.arange(0, TIMES), tl.arange(0, JOINTS)
    time_key = _number(seed, item, epoch, _FRAMES, time)[None, :]
    joint_key = _number(seed, item, epoch, _JOINTS, joint)[None, :]
    time_kept = tl.reshape(_lowest(time_key, (time < times)[None, :], keep_times, 24), [TIMES])
    joint_kept = _lowest(joint_key, (joint < joints)[None, :], keep_joints, 24)
    kept = tl.reshape(time_kept[:, None] & joint_kept, [size])
    valid = tl.reshape((time < times)[:, None] & (joint < joints)[None, :], [size])
    token = tl.reshape(time[:, None] * joints + joint[None, :], [size])
    tokens, keep = times * joints, keep_times * keep_joints
    _write(kept, valid, token, row, tokens_ptr, lists_ptr, visible_ptr, tokens, keep, VALUES)


@triton.jit(do_not_specialize=["seed", "epoch"])
def _body_part(
    item_ptr,
    tokens_ptr,
    lists_ptr,
    visible_ptr,
    seed,
    epoch,
    part_ptr,
    times,
    joints,
    parts,
    length,
    keep,
    VALUES: tl.constexpr,
    TIMES: tl.constexpr,
    JOINTS: tl.constexpr,
):
    size: tl.constexpr = TIMES * JOINTS
    row = tl.program_id(0)
    item = tl.load(item_ptr + row)
    time, joint = tl.arange(0, TIMES)[:, None], tl.arange(0, JOINTS)[None, :]
    valid = (time < times) & (joint < joints)
    part = tl.load(part_ptr + joint, mask=joint < joints, other=0)
    # Every time patch of a segment draws the same numbers, and so keeps the same joints.
    segment = time // length
    rank = _number(seed, item, epoch, _PARTS, segment * parts + part)
    within = _number(seed, item, epoch, _MASK, segment * joints + joint)
    kept = tl.reshape(_lowest(rank.to(tl.int64) * 16777216 + within, valid, keep, 48), [size])
    valid, token = tl.reshape(valid, [size]), tl.reshape(time * joints + joint, [size])
    tokens, keep = times * joints, times * keep
    _write(kept, valid, token, row, tokens_ptr, lists_ptr, visible_ptr, tokens, keep, VALUES)


def random(noise: Noise, tokens: Tensor, *, keep: int) -> Output:
    """Return what ``RandomMasking`` draws for tokens [N, L, P]."""
    arguments = (0, tokens.shape[1], keep, 1, 1)
    return _launch(_by_score, noise, tokens, keep, arguments, MOTION=False, TUBES=False)


def tube(noise: Noise, tokens: Tensor, *, joints: int, length: int, keep: int) -> Output:
    """Return what ``TubeMasking`` draws; ``keep`` counts tokens."""
    arguments = (0, tokens.shape[1], keep, joints, length)
    return _launch(_by_score, noise, tokens, keep, arguments, MOTION=False, TUBES=True)


def motion_aware(noise: Noise, tokens: Tensor, *, joints: int, tau: float, keep: int) -> Output:
    """Return what ``MotionAwareMasking`` draws."""
    (tau_bits,) = struct.unpack("<q", struct.pack("<d", tau))
    arguments = (tau_bits, tokens.shape[1], keep, joints, 1)
    return _launch(_by_score, noise, tokens, keep, arguments, MOTION=True, TUBES=False)


def spatial_temporal(noise: Noise, tokens: Tensor, *, times: int, keep: tuple[int, int]) -> Output:
    """Return what ``SpatialTemporalMasking`` draws; ``keep`` counts time patches, then joints."""
    joints = tokens.shape[1] // times
    arguments = (times, joints, *keep)
    return _launch(_spatial_temporal, noise, tokens, keep[0] * keep[1], arguments, table=(times, joints))


def body_part(noise: Noise, tokens: Tensor, *, part_of: Tensor, parts: int, length: int, keep: int) -> Output:
    """Return what ``BodyPartMasking`` draws; ``keep`` counts joints, int32 [V] ``part_of``."""
    joints = len(part_of)
    times = tokens.shape[1] // joints
    arguments = (part_of, times, joints, parts, length, keep)
    return _launch(_body_part, noise, tokens, times * keep, arguments, table=(times, joints))


def _launch(
    kernel: Any,
    noise: Noise,
    tokens: Tensor,
    keep: int,
    arguments: tuple[Any, ...],
    *,
    table: tuple[int, int] | None = None,
    **constants: Any,
) -> Output:
    """Run a kernel, one program an item, on ``table`` (times, joints) or a row of tokens."""
    items, count, values = tokens.shape
    if table is None:
        constants["BLOCK"] = _block(count)
    else:
        constants["TIMES"], constants["JOINTS"] = map(_block, table)
    # One allocation and one pointer for all three lists.
    sizes = (items * keep, items * (count - keep), items * count)
    lists = torch.empty(sum(sizes), dtype=torch.int64, device=tokens.device)
    visible = tokens.new_empty(items, keep, values)
    pointers = (noise.item.contiguous(), tokens.contiguous(), lists, visible)
    kernel[(items,)](*pointers, noise.seed, noise.epoch, *arguments, VALUES=values, **constants)
    kept, hidden, restore = (part.view(items, -1) for part in lists.split(sizes))
    return kept, hidden, restore, visible


def _block(count: int) -> int:
    return max(16, 1 << (count - 1).bit_length())
