"""View normalisation: the same batch from any camera; no turn where the trunk gives no direction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from smae.data.loader.augment import Augment, rotation, trunk_of
from smae.data.loader.kernels import facing_axes
from smae.data.loader.loader import Loader
from smae.errors import ConfigError
from smae.skeleton import KINECT20, NTU25
from tests.fakes import FakeStore

CPU = torch.device("cpu")
SPINE, ACROSS = np.array(NTU25.spine), np.array(NTU25.across)


def turned(store: FakeStore, *, about: tuple[int, ...]) -> FakeStore:
    """Return the store as other cameras would have seen it: each clip turned about some axes by angles of its own."""
    rng, joints = np.random.default_rng(0), []
    for clip in store.joints:
        for axis in about:
            clip = clip @ rotation(rng.uniform(-3, 3, 1), axis=axis)[..., 0].T
        joints.append(clip.astype(np.float32))
    return replace(store, joints=joints)


def batch_of(store: FakeStore, **changes: object) -> torch.Tensor:
    loader = Loader(
        store, np.arange(len(store)), augment=Augment(frames=24, **changes), batch=64, seed=0, train=False, device=CPU
    )
    return next(loader.epoch(0)).x


@pytest.mark.parametrize(("align", "about"), [("heading", (1,)), ("body", (0, 1, 2))])
def test_a_clip_is_the_same_from_any_camera(align: str, about: tuple[int, ...]) -> None:
    store = FakeStore.random(clips=12, seed=4)
    here, there = batch_of(store, align=align), batch_of(turned(store, about=about), align=align)
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(batch_of(store), batch_of(turned(store, about=about)), atol=0.1)


def test_a_turn_about_the_vertical_leaves_heights_alone() -> None:
    store = FakeStore.random(clips=6, seed=4)
    assert torch.equal(batch_of(store, align="heading")[..., 1], batch_of(store)[..., 1])


def axes_of(row: np.ndarray, *, upright: bool) -> np.ndarray:
    axes = np.full((1, 3, 3), np.nan, np.float32)
    present = np.array([np.any(row != 0)], np.uint8)
    facing_axes(row[None], present, np.array([0]), np.array([1]), ACROSS, SPINE, upright, axes)
    return axes[0]


def standing(*, right: tuple[float, float, float], up: tuple[float, float, float]) -> np.ndarray:
    row = np.zeros((25, 3), np.float32)
    for _, joint in NTU25.across:
        row[joint] = right
    row[SPINE[1]] = up
    return row


@pytest.mark.parametrize("upright", [False, True])
def test_a_person_who_faces_the_camera_is_not_turned(upright: bool) -> None:
    row = standing(right=(0.4, 0, 0), up=(0, 0.6, 0))
    np.testing.assert_allclose(axes_of(row, upright=upright), np.eye(3), atol=1e-7)


def test_a_leaning_person_is_turned_upright_only_if_asked_for() -> None:
    row = standing(right=(0, 0, -0.4), up=(0.3, 0.3, 0))  # turned to the side, bent by 45 degrees
    np.testing.assert_allclose(axes_of(row, upright=False) @ row[SPINE[1]], (0, 0.3, 0.3), atol=1e-6)
    np.testing.assert_allclose(axes_of(row, upright=True) @ row[SPINE[1]], (0, 0.18**0.5, 0), atol=1e-6)
    np.testing.assert_allclose(axes_of(row, upright=True) @ row[16], (0.4, 0, 0), atol=1e-6)


@pytest.mark.parametrize(
    "row",
    [
        np.zeros((25, 3), np.float32),
        standing(right=(0, 0, 0), up=(0, 0.6, 0)),
        standing(right=(0, 0.4, 0), up=(0, 0.6, 0)),
        standing(right=(0.4, 0, 0), up=(0, 0, 0)),
    ],
    ids=["no body", "no shoulders", "shoulders along the spine", "no spine"],
)
def test_without_a_direction_there_is_no_turn(row: np.ndarray) -> None:
    np.testing.assert_array_equal(axes_of(row, upright=True), np.eye(3))


def test_joints_that_are_named_run_across_and_along_the_trunk() -> None:
    for layout in (NTU25, KINECT20):
        named = [tuple(layout.joints[joint] for joint in pair) for pair in layout.across]
        assert named == [("left hip", "right hip"), ("left shoulder", "right shoulder")]
    assert [NTU25.joints[joint] for joint in SPINE] == ["spine base", "spine shoulder"]
    assert [KINECT20.joints[joint] for joint in KINECT20.spine or ()] == ["hip centre", "shoulder centre"]


def test_a_layout_without_a_trunk_is_refused_where_it_is_asked_for() -> None:
    bare = replace(NTU25, name="bare", across=(), spine=None)
    assert trunk_of(bare, align="none") is None
    with pytest.raises(ConfigError, match=r"layout 'bare' does not name them: .*augment\.align=none"):
        trunk_of(bare, align="body")
