"""Crop, resize, maps of space, noise and streams against naive loops, PyTorch's own resize and hand-drawn points."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from smae.data.loader import CpuAssembler, StagedAssembler, add_noise, kernels, resample_and_map, to_stream
from smae.data.loader.augment import (
    Augment,
    BatchPlan,
    Edits,
    ItemFormat,
    crop_windows,
    draw_edits,
    origin_joints,
    outward_bones,
    random_transforms,
    rotation,
)
from smae.rng import Noise
from smae.skeleton import NTU25
from tests.oracles import augment as oracle

NO_BONES = np.empty((0, 2), np.int64)


def noise(clips: int, *, seed: int = 3) -> Noise:
    return Noise(seed, 0, np.arange(clips))


@pytest.mark.parametrize("settings", [Augment(), Augment(crop=(0.2, 0.4), min_frames=5), Augment(min_frames=1)])
def test_training_windows_equal_the_naive_ones(settings: Augment) -> None:
    valid = np.arange(1, 401)
    crop = noise(400).uniform("crop", 2)
    start, length = crop_windows(valid, crop, augment=settings)
    draws = crop.astype(np.float64)
    expected = [oracle.window(int(n), tuple(draw), settings) for n, draw in zip(valid, draws, strict=True)]
    np.testing.assert_array_equal(np.stack([start, length], 1), expected)
    assert (start >= 0).all()
    assert (start + length <= valid).all()
    assert (length >= np.minimum(settings.min_frames, valid)).all()


def test_training_windows_reach_both_ends_and_all_lengths() -> None:
    start, length = crop_windows(np.full(20_000, 200), noise(20_000).uniform("crop", 2), augment=Augment())
    assert start.min() == 0
    assert (start + length).max() == 200
    assert length.min() == 100
    assert length.max() == 199  # p < 1, so floor(200 p) never gets to 200
    assert abs(length.mean() - 149.5) < 1


@pytest.mark.parametrize("share", [0.95, 1.0, 0.01])
def test_testing_windows_equal_the_naive_ones(share: float) -> None:
    valid = np.arange(1, 401)
    start, length = crop_windows(valid, None, augment=Augment(test_crop=share))
    expected = [oracle.window(int(n), None, Augment(test_crop=share)) for n in valid]
    np.testing.assert_array_equal(np.stack([start, length], 1), expected)
    assert (length >= 1).all()


def test_a_testing_window_drops_two_and_a_half_percent_at_either_end() -> None:
    start, length = crop_windows(np.array([100, 300]), None, augment=Augment())
    assert start.tolist() == [2, 7]
    assert length.tolist() == [96, 286]


@pytest.mark.parametrize(("axis", "source", "goal"), [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_a_quarter_turn_takes_one_axis_to_the_next(axis: int, source: int, goal: int) -> None:
    turned = rotation(np.array([math.pi / 2]), axis=axis)[..., 0] @ np.eye(3)[source]
    np.testing.assert_allclose(turned, np.eye(3)[goal], atol=1e-12)


def test_maps_are_right_handed_rotations_within_the_angle() -> None:
    space, mirrored = random_transforms(noise(500), augment=Augment())
    assert not mirrored.any()
    np.testing.assert_allclose(space @ space.transpose(0, 2, 1), np.broadcast_to(np.eye(3), space.shape), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(space), 1, atol=1e-6)
    about_y = np.arcsin(-space[:, 2, 0])  # R = Rz Ry Rx has -sin(y) at its lower left corner
    assert about_y.min() < -0.28
    assert about_y.max() > 0.28
    assert np.abs(about_y).max() <= 0.3


def test_turning_changes_only_the_heading() -> None:
    space, _ = random_transforms(noise(200), augment=Augment(rotate=0, turn=math.pi))
    np.testing.assert_allclose(space[:, 1], np.broadcast_to([0, 1, 0], (200, 3)), atol=1e-7)
    heading = np.arctan2(space[:, 0, 2], space[:, 0, 0])
    assert heading.min() < -3
    assert heading.max() > 3


def test_scaling_and_mirroring() -> None:
    space, mirrored = random_transforms(noise(2000), augment=Augment(rotate=0, scale=0.2, mirror=True))
    assert 0.45 < mirrored.mean() < 0.55
    np.testing.assert_array_equal(np.sign(space[:, 0, 0]), np.where(mirrored, -1, 1))
    assert 0.8 <= space[:, 1, 1].min() < 0.81
    assert 1.19 < space[:, 1, 1].max() < 1.2


def test_nothing_asked_for_is_the_identity() -> None:
    space, mirrored = random_transforms(noise(5), augment=Augment(rotate=0))
    np.testing.assert_array_equal(space, np.broadcast_to(np.eye(3), (5, 3, 3)))
    assert not mirrored.any()


def windows_of(
    seed: int, *, items: int, longest: int, noise: bool = False, edited: int = 0
) -> tuple[np.ndarray, BatchPlan]:
    """Return rows and a plan of random windows of them; every other item is mirrored, every third row empty.

    ``edited``: frames of the items, where joints are displaced and joints and frames blanked.
    """
    rng = np.random.default_rng(seed)
    length = rng.integers(1, longest, items, endpoint=True)
    rows = rng.normal(size=(longest + 50, 25, 3)).astype(np.float32)
    rows[::3] = 0
    joint = np.tile(np.arange(25), (items, 1))
    joint[::2] = joint[::2, ::-1]
    space = rng.normal(size=(items, 3, 3)).astype(np.float32)
    keyed = Noise(2**63 - 1, 2, rng.integers(0, 10**6, items), np.arange(items) % 2) if noise else None
    first, edits = rng.integers(0, 50, items), None
    if edited:
        offset = rng.normal(size=(items, 25, 3)).astype(np.float32)
        stretch = rng.uniform(-0.5, 0.5, (items, 25)).astype(np.float32)
        stretch[:, 20] = 0  # the root
        joints, blank = rng.random((items, 25)) < 0.3, rng.random((items, edited)) < 0.3
        edits = Edits(stretch, offset, joints, blank)
    return rows, BatchPlan(first, length, space, joint, keyed, edits)


def format_of(frames: int, *, sigma: float = 0.0, stream: str = "joint") -> ItemFormat:
    origin = origin_joints(NTU25, stream=stream)
    return ItemFormat(frames, origin, outward_bones(NTU25), sigma, stream)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    frames=st.integers(1, 130),
    longest=st.integers(1, 310),
    stream=st.sampled_from(["joint", "relative", "bone", "motion", "bone-motion"]),
    noise=st.booleans(),
    edited=st.booleans(),
)
def test_fused_staged_and_naive_agree(
    seed: int, frames: int, longest: int, stream: str, noise: bool, edited: bool
) -> None:
    rows, plan = windows_of(seed, items=3, longest=longest, noise=noise, edited=frames * edited)
    item_format = format_of(frames, sigma=0.01 if noise else 0.0, stream=stream)
    fused = CpuAssembler(item_format)(rows, plan)
    staged = StagedAssembler(item_format, device=torch.device("cpu"))(rows, plan)
    torch.testing.assert_close(fused, staged, rtol=1e-6, atol=5e-6)
    for n in range(3):
        np.testing.assert_allclose(
            fused[n].numpy(), naive_item(rows, plan, n, item_format=item_format), rtol=1e-5, atol=1e-5
        )


def naive_item(rows: np.ndarray, plan: BatchPlan, n: int, *, item_format: ItemFormat) -> np.ndarray:
    cut = rows[plan.first[n] : plan.first[n] + plan.length[n]].astype(np.float64)
    x = oracle.resized(cut, item_format.frames)[:, plan.joint[n]] @ plan.transform[n].astype(np.float64).T
    if plan.edits is not None:
        x = np.stack([oracle.stretched(frame, plan.edits.stretch[n], NTU25) for frame in x])
    if plan.noise is not None:
        one = Noise(plan.noise.seed, plan.noise.epoch, plan.noise.clip[n : n + 1], plan.noise.body[n : n + 1])
        x = oracle.noisy(x, one, item_format.sigma)
    else:
        x = x.copy()
    if plan.edits is None:
        return oracle.streamed(x, item_format.stream, NTU25)
    still = oracle.resized(cut, item_format.frames)
    for t in range(len(x)):
        if still[t].any():
            x[t] += plan.edits.offset[n]
    x = oracle.streamed(x, item_format.stream, NTU25)
    for t in range(len(x)):
        for v in range(25):
            if plan.edits.frame[n, t] or plan.edits.joint[n, v]:
                x[t, v] = 0
    return x


def test_edits_are_drawn_as_the_settings_say() -> None:
    blanks = {"blank_joints": 0.1, "blank_limb": 0.5, "blank_frames": 0.5}
    augment = Augment(frames=40, stretch=0.3, jitter=0.02, jitter_joints=0.2, **blanks)
    edits = draw_edits(noise(4000), augment=augment, layout=NTU25)
    assert edits is not None
    assert 0.29 < edits.stretch.max() < 0.3
    assert abs(edits.stretch.mean()) < 0.01
    assert not edits.stretch[:, 20].any(), "the root has no bone"
    np.testing.assert_array_equal(edits.stretch[:, 4:8], edits.stretch[:, 8:12])  # arms
    displaced = edits.offset.any(2)
    assert abs(displaced.mean() - 0.2) < 0.01
    assert abs(edits.offset[displaced].std() - 0.02) < 0.0005
    # A limb has 3 to 7 of 25 joints, and half of the clips lose one.
    parts = [len(members) for members in NTU25.parts.values()]
    expected = 0.1 + 0.9 * 0.5 * np.mean(parts) / 25
    assert abs(edits.joint.mean() - expected) < 0.01
    lengths = edits.frame.sum(1)
    assert lengths.max() == 20
    assert abs(lengths.mean() - 10) < 0.4
    starts = np.diff(edits.frame.astype(int), axis=1, prepend=0) == 1
    assert starts.sum(1).max() == 1, "blank frames are one stretch"
    assert draw_edits(noise(5), augment=Augment(jitter_joints=0.5), layout=NTU25) is None
    alone = draw_edits(Noise(3, 0, np.array([7])), augment=augment, layout=NTU25)
    assert alone is not None
    for name in ("stretch", "offset", "joint", "frame"):
        # A clip's edits do not depend on the clips that they are drawn together with.
        np.testing.assert_array_equal(getattr(edits, name)[7], getattr(alone, name)[0])


def test_shear_is_the_identity_with_small_numbers_beside_its_diagonal() -> None:
    space, _ = random_transforms(noise(4000), augment=Augment(rotate=0, shear=0.3))
    np.testing.assert_array_equal(space[:, range(3), range(3)], 1)
    beside = space[:, ~np.eye(3, dtype=bool)]
    assert abs(beside.mean()) < 0.005
    assert 0.29 < beside.max() <= 0.3
    assert abs(beside.std() - 0.3 / 3**0.5) < 0.005


def test_the_strength_of_a_view_multiplies_its_limits() -> None:
    augment = Augment(strength=(1.0, 0.5, 3.0), turn=1.5, shear=0.2, blank_joints=0.4, noise=0.01, crop=(0.4, 0.8))
    assert augment.scaled(0).crop == (1.0, 1.0)
    assert augment.of_view(0) is augment
    assert augment.of_view(3) is augment
    weak, strong = augment.of_view(1), augment.of_view(5)
    assert (weak.turn, weak.shear, weak.blank_joints, weak.noise) == (0.75, 0.1, 0.2, 0.01)
    assert weak.crop == pytest.approx((0.7, 0.9))
    assert (strong.turn, strong.blank_joints) == (pytest.approx(math.pi), 0.9)
    assert strong.crop[0] == 0.05


@pytest.mark.parametrize(("length", "frames"), [(300, 120), (64, 120), (1, 120), (120, 120), (119, 7)])
def test_resizing_equals_pytorch(length: int, frames: int) -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(length, 25, 3)).astype(np.float32))
    first, joint = torch.zeros(1, dtype=torch.int64), torch.arange(25)[None]
    ours = resample_and_map(
        rows, first, torch.tensor([length]), frames=frames, transform=torch.eye(3)[None], joint=joint
    )[0]
    track = rows.reshape(length, 75).T[None]
    theirs = torch.nn.functional.interpolate(track, size=frames, mode="linear", align_corners=False)[0].T
    # PyTorch places frames in float32; at frame 300 that is good to 3e-5 of a frame.
    torch.testing.assert_close(ours.reshape(frames, 75), theirs, rtol=0, atol=2e-4)
    if length == frames:
        assert torch.equal(ours, rows)


def test_staged_buffers_are_used_again_without_mixing_batches() -> None:
    item_format = format_of(10)
    staged, fused = StagedAssembler(item_format, device=torch.device("cpu"), buffers=2), CpuAssembler(item_format)
    for seed in range(6):
        rows, plan = windows_of(seed, items=4, longest=40)
        torch.testing.assert_close(staged(rows, plan), fused(rows, plan), rtol=1e-6, atol=3e-6)


def test_gaps_hold_the_nearest_frame() -> None:
    track = np.full((6, 2, 3), np.nan, np.float32)
    track[1, 0], track[4, 0] = 1, 4
    expected = np.zeros_like(track)
    expected[:, 0] = np.array([1, 1, 1, 4, 4, 4])[:, None]
    np.testing.assert_array_equal(oracle.filled(track.astype(np.float64)), expected)
    kernels.fill_gaps(track, np.array([0]), np.array([6]))
    np.testing.assert_array_equal(track, expected)


def test_gaps_equal_the_naive_fill_track_by_track() -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(60, 4, 3)).astype(np.float32)
    rows[rng.random((60, 4)) < 0.6] = np.nan
    rows[rng.random((60, 4, 3)) < 0.02] = np.nan  # one coordinate missing is a joint missing
    expected = np.concatenate([oracle.filled(rows[a:b].astype(np.float64)) for a, b in [(0, 25), (25, 26), (26, 60)]])
    kernels.fill_gaps(rows, np.array([0, 25, 26]), np.array([25, 1, 34]))
    np.testing.assert_array_equal(rows, expected)


def test_present_means_a_number_other_than_zero() -> None:
    rows = np.zeros((4, 25, 3), np.float32)
    rows[1, 3, 2], rows[2] = -1e-30, np.nan
    assert taken(rows, [0], [4])[1:] == ([0, 1, 0, 0], True)
    rows[2] = 0
    assert taken(rows, [0], [4])[1:] == ([0, 1, 0, 0], False)


def test_clips_are_taken_over_end_to_end_as_they_are() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 25, 3)).astype(np.float32)
    rows[17], rows[3] = np.nan, np.nan
    got, present, gaps = taken(rows, [16, 0, 9], [4, 2, 1])
    np.testing.assert_array_equal(got, rows[[16, 17, 18, 19, 0, 1, 9]])
    assert (present, gaps) == ([1, 0, 1, 1, 1, 1, 1], True)
    assert not taken(rows, [0, 9], [3, 4])[2]


def taken(rows: np.ndarray, first: list[int], count: list[int]) -> tuple[np.ndarray, list[int], bool]:
    to, present = np.empty((sum(count), *rows.shape[1:]), np.float32), np.empty(sum(count), np.uint8)
    gaps = kernels.copy_clips(rows, np.array(first), np.array(count), to, present)
    return to, present.tolist(), bool(gaps)


@pytest.mark.parametrize(("prefix", "expected"), [(True, (0, 3)), (False, (1, 5))])
def test_valid_frames_are_counted_or_spanned(prefix: bool, expected: tuple[int, int]) -> None:
    # One clip of two bodies and six frames: someone is there in frames 1, 4 and 5.
    present = np.array([0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0], np.uint8)  # body 0, then body 1
    begin, valid = np.zeros(1, np.int64), np.zeros(1, np.int64)
    kernels.valid_frames(present, np.array([0]), np.array([6]), np.array([2]), prefix, begin, valid)
    assert (int(begin[0]), int(valid[0])) == expected


def test_noise_is_normal_and_leaves_empty_frames_empty() -> None:
    x = torch.ones(40, 60, 25, 3)
    x[:, 10:20] = 0
    source = Noise(1, 2, torch.arange(40), torch.zeros(40, dtype=torch.int64))
    added = (add_noise(x, source, sigma=0.01) - x)[:, 20:]
    assert abs(float(added.mean())) < 1e-4
    assert abs(float(added.std()) - 0.01) < 1e-4
    assert abs(float((added / 0.01).pow(4).mean()) - 3) < 0.1  # kurtosis of the normal distribution
    assert torch.equal(add_noise(x, source, sigma=0.01)[:, 10:20], x[:, 10:20])


def test_noise_of_an_item_does_not_depend_on_its_batch() -> None:
    x = torch.ones(8, 5, 25, 3)
    clip, body = torch.arange(8) // 2, torch.arange(8) % 2
    together = add_noise(x, Noise(1, 2, clip, body), sigma=0.01)
    alone = add_noise(x[5:6], Noise(1, 2, clip[5:6], body[5:6]), sigma=0.01)
    assert torch.equal(together[5:6], alone)
    assert not torch.equal(together[4], together[5])


def test_streams() -> None:
    x = torch.randn(2, 5, 25, 3, generator=torch.Generator().manual_seed(0))
    parent = torch.from_numpy(origin_joints(NTU25, stream="bone"))
    assert to_stream(x, stream="joint", origin=parent) is x
    bone = to_stream(x, stream="bone", origin=parent)
    assert torch.equal(bone[:, :, 3], x[:, :, 3] - x[:, :, 2])
    assert not bone[:, :, 20].any()  # the root of NTU's bones
    relative = to_stream(x, stream="relative", origin=torch.from_numpy(origin_joints(NTU25, stream="relative")))
    assert torch.equal(relative[:, :, 1], x[:, :, 1])  # the centre keeps its path
    assert torch.equal(relative[:, :, 3], x[:, :, 3] - x[:, :, 1])
    motion = to_stream(x, stream="motion", origin=parent)
    assert torch.equal(motion[:, 0], x[:, 1] - x[:, 0])
    assert not motion[:, -1].any()
    both = to_stream(x, stream="bone-motion", origin=parent)
    assert torch.equal(both, to_stream(bone, stream="motion", origin=parent))


@pytest.mark.parametrize("stream", ["relative", "bone", "motion", "bone-motion"])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_streams_of_the_fused_kernel_are_differences_of_its_joints(frames: int, stream: str) -> None:
    rows, plan = windows_of(3, items=3, longest=30, noise=True)
    joints, other = (CpuAssembler(format_of(frames, sigma=0.02, stream=kind))(rows, plan) for kind in ("joint", stream))
    origin = torch.from_numpy(format_of(frames, stream=stream).origin)
    assert torch.equal(other, to_stream(joints, stream=stream, origin=origin))


@pytest.mark.parametrize(
    "wrong",
    [{"crop": (0.9, 0.5)}, {"crop": (0.0, 1.0)}, {"frames": 0}, {"rotate": -1}, {"stream": "speed"}, {"speed": 1}],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Augment.model_validate(wrong)
