"""Several augmented views of a clip in one batch."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from smae.data.loader import Batch, loader
from smae.data.loader.augment import Augment, ViewCrop
from smae.data.loader.loader import Loader
from smae.data.loader.sampler import other_cameras
from smae.errors import ConfigError
from smae.train.loop import micro_batches
from tests.fakes import FakeStore

BLANKS = {"blank_joints": 0.1, "blank_limb": 0.3, "blank_frames": 0.3}
STRONG = Augment(frames=24, min_frames=8, shear=0.3, stretch=0.2, jitter=0.02, noise=0.01, **BLANKS)


@pytest.fixture(scope="module")
def store() -> FakeStore:
    return FakeStore.random(clips=40, seed=2)


def batches(store: FakeStore, views: int, **changes: Any) -> list[Batch]:
    settings: dict[str, Any] = {
        "augment": STRONG, "batch": 8, "seed": 5, "train": True, "device": torch.device("cpu"), "block_rows": 500,
        "window": 3, "views": views,
    }  # fmt: skip
    return list(Loader(store, np.arange(len(store)), **(settings | changes)).epoch(1))


def of_view(batch: Batch, view: int) -> dict[str, torch.Tensor]:
    assert batch.view is not None
    items = batch.view == view
    return {name: getattr(batch, name)[items] for name in ("x", "clip", "body")}


def test_the_first_view_is_what_one_view_gives(store: FakeStore) -> None:
    for one, three in zip(batches(store, 1), batches(store, 3), strict=True):
        assert (one.views, three.views) == (1, 3)
        assert torch.equal(one.index, three.index)
        for name, value in of_view(three, 0).items():
            assert torch.equal(value, getattr(one, name)), name
        items = one.x.shape[0]
        assert torch.equal(one.noise(7).uniform("mask", 9), three.noise(7).uniform("mask", 9)[:items])


def test_views_differ_and_a_view_is_the_same_beside_any_others(store: FakeStore) -> None:
    for two, four in zip(batches(store, 2), batches(store, 4), strict=True):
        for view in range(2):
            assert torch.equal(of_view(two, view)["x"], of_view(four, view)["x"])
        parts = [of_view(four, view) for view in range(4)]
        for a, b in product(range(4), repeat=2):
            if a < b and parts[a]["x"].shape == parts[b]["x"].shape:
                assert not torch.equal(parts[a]["x"], parts[b]["x"])
        draws = four.noise(7).uniform("mask", 4)
        assert len(torch.unique(draws, dim=0)) == len(draws)


def test_views_are_equal_in_memory_and_streamed_with_any_number_of_workers(store: FakeStore) -> None:
    expected = batches(store, 2, workers=0)
    for mode, workers in (("streaming", 0), ("streaming", 3), ("resident", 2)):
        for one, other in zip(expected, batches(store, 2, mode=mode, workers=workers), strict=True):
            assert torch.equal(one.x, other.x)
            assert one.view is not None
            assert other.view is not None
            assert torch.equal(one.view, other.view)
            assert torch.equal(one.clip, other.clip)


def test_a_view_of_strength_0_is_the_plain_middle_of_a_clip_beside_strong_ones(store: FakeStore) -> None:
    augment = STRONG.model_copy(update={"strength": (1.0, 0.0), "noise": 0.0})
    plain = Augment(frames=24, min_frames=8, crop=(1.0, 1.0), rotate=0)
    weak = batches(store, 2, augment=augment)
    for one, other in zip(weak, batches(store, 2, augment=plain), strict=True):
        assert torch.equal(of_view(one, 1)["x"], of_view(other, 1)["x"])


def test_a_view_may_have_a_crop_of_its_own_inside_that_of_another(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Any, ...]] = []
    whole = loader.crop_windows

    def spy(valid: Any, crop: Any, *, augment: Augment) -> Any:
        drawn.append((np.asarray(valid), augment.crop, augment.min_frames, whole(valid, crop, augment=augment)))
        return drawn[-1][3]

    crops = (None, ViewCrop((0.2, 0.5), 3, within=0), ViewCrop((0.1, 0.2), 2))
    two = batches(store, 3, workers=0)
    monkeypatch.setattr(loader, "crop_windows", spy)
    three = batches(store, 3, crops=crops, workers=0)
    for one, other in zip(two, three, strict=True):
        assert torch.equal(of_view(one, 0)["x"], of_view(other, 0)["x"]), "the first view is as it was"
    for outer, inner, alone in zip(drawn[::3], drawn[1::3], drawn[2::3], strict=True):
        assert (outer[1:3], inner[1:3], alone[1:3]) == ((STRONG.crop, 8), ((0.2, 0.5), 3), ((0.1, 0.2), 2))
        start, length = inner[3]
        assert np.array_equal(inner[0], outer[3][1]), "shares are of the outer window"
        assert bool(((start >= 0) & (start + length <= outer[3][1])).all())
        assert np.array_equal(alone[0], outer[0])


def test_a_crop_within_another_shows_its_frames(store: FakeStore) -> None:
    augment = Augment(frames=24, min_frames=1, crop=(0.5, 0.5), rotate=0)
    crops = (None, ViewCrop((1.0, 1.0), 1, within=0), ViewCrop((1.0, 1.0), 1))
    for batch in batches(store, 3, augment=augment, crops=crops):
        assert torch.equal(of_view(batch, 0)["x"], of_view(batch, 1)["x"])
        assert of_view(batch, 2)["x"].shape != of_view(batch, 0)["x"].shape or not torch.equal(
            of_view(batch, 2)["x"], of_view(batch, 0)["x"]
        )


def test_crops_are_those_of_all_views(store: FakeStore) -> None:
    with pytest.raises(ConfigError, match="expected a crop for each of 3 views, found 1"):
        batches(store, 3, crops=(None,))


def test_the_mean_of_a_clip_is_over_its_bodies_in_a_view(store: FakeStore) -> None:
    batch = batches(store, 2)[0]
    features = torch.arange(len(batch.x), dtype=torch.float32)[:, None] ** 2
    means = batch.clip_means(features)
    assert means.shape == (2, 8, 1)
    assert batch.view is not None
    for view, clip in product(range(2), range(8)):
        items = (batch.view == view) & (batch.clip == clip)
        assert float(means[view, clip]) == pytest.approx(float(features[items].mean()))


def test_micro_batches_keep_all_views_of_their_clips(store: FakeStore) -> None:
    batch = batches(store, 2)[0]
    parts = list(micro_batches(batch, 3))
    assert [part.clips for part in parts] == [3, 3, 2]
    assert sum(len(part.x) for part in parts) == len(batch.x)
    for part in parts:
        assert part.view is not None
        assert part.views == 2
        for view in range(2):
            assert torch.equal(part.clip[part.view == view].unique(), torch.arange(part.clips))


def test_too_many_views_are_refused(store: FakeStore) -> None:
    with pytest.raises(ConfigError, match="at most 16 views"):
        batches(store, 17)


def filmed(store: FakeStore, **columns: list[int]) -> FakeStore:
    """Return the store, its clips of the given cameras, repetitions and so on."""
    changed = {name: np.array(values, np.int16) for name, values in columns.items()}
    clips = replace(store.clips, label=np.zeros_like(store.clips.label), **changed)
    other = copy.copy(store)
    other.clips = clips
    return other


def test_other_cameras_of_the_same_act_are_the_further_views(store: FakeStore) -> None:
    # Acts: {0, 1, 2} by three cameras, {3, 4} by two, 5 by one; subjects 1 throughout the first six.
    clips = filmed(store, camera=[3, 1, 2, 2, 1, 1] + [1] * 34, replication=[0, 0, 0, 1, 1, 2, *range(10, 44)]).clips
    index = np.arange(40)
    shown = other_cameras(clips, index, views=3)  # type: ignore[arg-type]
    assert shown[:, :6].tolist() == [[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 3, 5], [2, 0, 1, 3, 4, 5]]
    assert (shown[:, 6:] == index[6:]).all()
    # Of the clips chosen only: without clip 1, the others of its act show each other.
    assert (index[index != 1][other_cameras(clips, index[index != 1], views=2)[1, :3]] == [2, 0, 4]).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(("mode", "workers"), [("resident", 0), ("streaming", 2)])
def test_a_view_of_another_camera_is_what_that_recording_gives(store: FakeStore, mode: str, workers: int) -> None:
    pairs = filmed(store, camera=[1, 2] * 20, replication=[i // 2 for i in range(40)])
    plain = STRONG.model_copy(update={"strength": (0.0,), "noise": 0.0})
    options: dict[str, Any] = {"augment": plain, "batch": 8, "mode": mode, "workers": workers, "train": False}
    alone = {}
    for batch in batches(store, 1, **options, augmented=True):
        for position, clip in enumerate(batch.index.tolist()):
            alone[clip] = batch.x[batch.clip == position]
    for batch in batches(pairs, 2, **options, augmented=True, cameras=True):
        for view in range(2):
            part = of_view(batch, view)
            for position, clip in enumerate(batch.index.tolist()):
                shown = clip ^ 1 if view else clip
                torch.testing.assert_close(part["x"][part["clip"] == position], alone[shown])


@pytest.mark.parametrize(
    ("columns", "views", "found"),
    [
        ({"camera": [1, 2] * 20, "replication": [i // 2 for i in range(40)]}, 1, "one view a clip"),
        ({"camera": [1] * 40}, 2, "no act that two cameras recorded"),
        ({"camera": [-1, -2] * 20, "replication": [i // 2 for i in range(40)]}, 2, "clip1 without a camera"),
        ({"camera": [1] * 40, "replication": [i // 2 for i in range(40)]}, 2, "clip0 and clip1 of the same act"),
    ],
)
def test_other_cameras_need_names_of_acts(store: FakeStore, columns: Any, views: int, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        batches(filmed(store, **columns), views, cameras=True)


def test_bones_are_stretched_as_a_whole_and_those_with_a_missing_end_are_not() -> None:
    store = FakeStore.random(clips=6, seed=1)
    store.lacking = ("left elbow",)
    still = {"rotate": 0, "crop": (1.0, 1.0), "frames": 24}
    settings = {"batch": 6, "seed": 5, "train": True, "device": torch.device("cpu")}
    lengths = []
    for stretch in (0.0, 0.4):
        augment = Augment(stretch=stretch, **still)
        (batch,) = Loader(store, np.arange(6), augment=augment, **settings).epoch(0)
        ends = batch.x[:, :, torch.tensor(store.layout.bones)]
        lengths.append((ends[:, :, :, 0] - ends[:, :, :, 1]).norm(dim=-1))
    elbow = store.layout.joints.index("left elbow")
    for bone, change in zip(store.layout.bones, (lengths[1] / lengths[0]).unbind(2), strict=True):
        there = change[~change.isnan()]  # empty frames have no bones
        if elbow in bone:
            torch.testing.assert_close(there, torch.ones_like(there), rtol=1e-4, atol=0)
        else:
            assert 0.6 <= there.min() < there.max() - 0.1
            assert there.max() < 1.4
            for item in change:
                same = item[~item.isnan()]
                torch.testing.assert_close(same, same[:1].expand_as(same), rtol=1e-4, atol=0)
