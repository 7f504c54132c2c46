"""Resampling: equal to torch's interpolation, exact where nothing changes, NaN around gaps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from smae.data.clean.cleaning import resample, resample_state
from smae.errors import ConfigError, DataError

LENGTHS = [(1, 1), (1, 7), (2, 5), (75, 120), (120, 75), (300, 1), (64, 64), (97, 24)]


def plain(joints: np.ndarray, frames: int) -> np.ndarray:
    """Resample one new frame at a time."""
    length = joints.shape[1]
    out = np.empty((joints.shape[0], frames, *joints.shape[2:]))
    for new in range(frames):
        time = min(max((new + 0.5) * length / frames - 0.5, 0), length - 1)
        before, weight = int(time), time - int(time)
        out[:, new] = joints[:, before]
        if weight:
            out[:, new] = (1 - weight) * joints[:, before] + weight * joints[:, before + 1]
    return out


@pytest.mark.parametrize(("length", "frames"), LENGTHS)
def test_equals_a_plain_loop_and_torch(length: int, frames: int) -> None:
    joints = np.random.default_rng(length).normal(size=(2, length, 25, 3)).astype(np.float32)
    got = resample(joints, frames)
    assert got.shape == (2, frames, 25, 3)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, plain(joints, frames), atol=1e-6)
    channels = torch.from_numpy(joints).reshape(2, length, 75).transpose(1, 2)
    want = torch.nn.functional.interpolate(channels, size=frames, mode="linear", align_corners=False)
    # torch computes its weights in float32, which near frame 300 moves them by some 1e-5.
    np.testing.assert_allclose(got, want.transpose(1, 2).reshape(2, frames, 25, 3).numpy(), atol=5e-5)


def test_same_length_changes_no_bit() -> None:
    joints = np.random.default_rng(0).normal(size=(1, 31, 25, 3)).astype(np.float32)
    joints[0, 5] = np.nan
    assert resample(joints, 31).tobytes() == joints.tobytes()


def test_gaps_spread_only_to_frames_that_depend_on_them() -> None:
    joints = np.zeros((1, 4, 1, 3), np.float32)
    joints[0, 3] = math.nan
    assert np.isnan(resample(joints, 8)[0, :, 0, 0]).tolist() == [False] * 5 + [True] * 3


@pytest.mark.parametrize(("length", "frames"), LENGTHS)
def test_state_is_that_of_the_frame_under_the_centre(length: int, frames: int) -> None:
    state = (np.arange(length * 25) % 4).astype(np.uint8).reshape(1, length, 25)
    got = resample_state(state, frames)
    assert got.dtype == np.uint8
    for new in range(frames):
        np.testing.assert_array_equal(got[:, new], state[:, (2 * new + 1) * length // (2 * frames)])


def test_impossible_lengths() -> None:
    with pytest.raises(ConfigError, match="at least 1 frame"):
        resample(np.zeros((1, 5, 25, 3), np.float32), 0)
    with pytest.raises(DataError, match="found none"):
        resample_state(np.zeros((1, 0, 25), np.uint8), 5)
