"""Several stores as one: rows, rates, missing joints, the loader over them, shares, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smae.data.loader import Batch, DeviceAssembler
from smae.data.loader.augment import Augment
from smae.data.loader.loader import Loader
from smae.data.raw.recording import Clip
from smae.data.store import Store, frame_rate, open_store
from smae.data.store.clips import ClipFacts
from smae.data.store.joined import JoinedStore, join_stores
from smae.data.store.writer import Header, write_store
from smae.errors import ConfigError, DataError, UnknownNameError
from smae.skeleton import COCO17, KINECT20, NTU25, Layout, make_layout

CPU = torch.device("cpu")
LOST = ["neck", "left hand tip", "left thumb", "right hand tip", "right thumb"]
"""Joints of ntu25 that kinect20 lacks; the neck could be interpolated."""


def write(
    path: Path,
    layout: Layout,
    *,
    clips: int = 6,
    frames: int = 20,
    seed: int = 0,
    mode: str = "reference",
    splits: Sequence[str] = ("mine",),
    **origin: Any,
) -> Store:
    """Write a store of people who stand and move; the second body of every third clip comes late."""
    rng, made = np.random.default_rng(seed), []
    for number in range(clips):
        bodies, length = 1 + (number % 3 == 2), frames + number
        joints = rng.normal(0, 0.4, (1, 1, len(layout), 3)) + rng.normal(0, 0.02, (bodies, length, len(layout), 3))
        joints = (joints - joints[:1, :1, layout.centre : layout.centre + 1]).astype(np.float32)
        state = np.full(joints.shape[:3], 2, np.uint8)
        joints[1:, : length // 2], state[1:, : length // 2] = 0, 3
        made.append((ClipFacts(f"clip{number}", "ab"[number % 2], subject=number), Clip(joints, state)))
    header = Header(layout=layout, mode=mode, dataset=path.stem, classes=("a", "b"), origin=origin)
    role = np.array([1, 1, 1, 2] * clips, np.uint8)[:clips]
    write_store(path, header=header, clips=made, splits=dict.fromkeys(splits, role))
    return open_store(path)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store]:
    folder = tmp_path_factory.mktemp("stores")
    return (
        write(folder / "full.zarr", NTU25, clips=12, seed=1, source="ntu"),
        write(folder / "poor.zarr", KINECT20, clips=8, seed=2, source="nw-ucla"),
    )


@pytest.fixture(scope="module")
def joined(stores: tuple[Store, Store]) -> JoinedStore:
    return join_stores(stores)


def loader(store: JoinedStore, **changes: Any) -> Loader:
    settings: dict[str, Any] = {"augment": Augment(frames=12, min_frames=8, mirror=True), "batch": 4, "seed": 5}
    return Loader(store, np.arange(len(store)), **(settings | {"train": True, "device": CPU} | changes))


def assert_equal(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        for name in ("x", "clip", "body", "index", "missing"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_each_store_keeps_its_rows_in_blocks_of_its_own(joined: JoinedStore, stores: tuple[Store, Store]) -> None:
    full, _ = stores
    assert (len(joined), joined.layout, joined.dataset) == (20, NTU25, "full+poor")
    assert joined.member.tolist() == [0] * 12 + [1] * 8
    assert joined.clips.name[[0, 12]].tolist() == ["full/clip0", "poor/clip0"]
    assert len(set(joined.clips.name.tolist())) == 20
    assert joined.clips.label[[0, 1, 12, 13]].tolist() == [0, 1, 2, 3]
    table, mapped = joined.clips, joined.members[1].store
    assert table.offset[12] == 65_536
    for number, store, own in ((3, full, 3), (14, mapped, 2)):
        start, count = int(table.offset[number]), int(table.rows[number])
        np.testing.assert_array_equal(joined.rows(start, start + count), store.clip(own).reshape(count, 25, 3))
    # A read across both, with the empty rows between them.
    whole = joined.rows(0, 65_536 + mapped.row_count)
    np.testing.assert_array_equal(whole[: full.row_count], full.rows(0, full.row_count))
    assert not whole[full.row_count : 65_536].any()


def test_joints_that_a_recording_lacks_are_missing_whether_or_not_they_could_be_interpolated(
    joined: JoinedStore,
) -> None:
    assert joined.missing.shape == (2, 25)
    assert not joined.missing[0].any()
    assert sorted(np.array(NTU25.joints)[joined.missing[1]]) == sorted(LOST)
    # For an evaluation, which asks for no joint, the neck is interpolated.
    assert sorted(np.array(NTU25.joints)[joined.members[1].store.missing[0]]) == sorted(LOST[1:])


def test_a_layout_that_all_have_leaves_nothing_out(stores: tuple[Store, Store]) -> None:
    for layout in ("common15", "kinect20"):
        assert not join_stores(stores, layout=layout).missing.any()
    first = next(loader(join_stores(stores, layout="kinect20")).epoch(0))
    assert first.missing is None


def test_frames_per_second_are_those_of_the_slowest_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slow = write(tmp_path / "slow.zarr", NTU25, source="ntu")
    fast = write(tmp_path / "fast.zarr", NTU25, seed=1, source="keypoints", fps=60.0)
    other = write(tmp_path / "other.zarr", NTU25, seed=2, source="mocap")
    assert [frame_rate(store) for store in (slow, fast, other)] == [30, 60, None]
    caplog.set_level("INFO", "smae")
    joined = join_stores([fast, slow, other])
    assert "fast: its 60 frames per second become 30" in caplog.messages
    assert "other: its frames per second are not known: they are taken as they are" in caplog.messages
    table = joined.clips
    assert table.frames.tolist() == [10, 10, 11, 12, 12, 12, *slow.clips.frames, *other.clips.frames]
    start, before = int(table.offset[0]), fast.clip(0)[0]
    mean = (before[0::2] + before[1::2]) / 2
    np.testing.assert_allclose(joined.rows(start, start + 10), mean, atol=1e-6)
    # Clip 2 has a second body from frame 11 of 22 on: no frame is half of a body.
    rows = joined.rows(int(table.offset[2]), int(table.offset[2] + table.rows[2])).reshape(2, 11, 25, 3)
    assert (rows[1] != 0).any((1, 2)).tolist() == [False] * 5 + [True] * 6
    np.testing.assert_array_equal(rows[1, 5], fast.clip(2)[1, 11])
    # Rows from the middle of a clip are those of a longer read.
    np.testing.assert_array_equal(joined.rows(3, 60), joined.rows(0, fast.row_count)[3:60])


@pytest.mark.parametrize("changes", [{"workers": 0}, {"workers": 3}, {"mode": "streaming", "window": 1}])
def test_batches_are_the_same_in_all_ways_of_loading(joined: JoinedStore, changes: dict[str, Any]) -> None:
    # One full shuffle in both, as one block is all that a store of this size has.
    plain = {"mode": "resident", "workers": 1, "window": changes.get("window", 8)}
    for epoch in (0, 1):
        assert_equal(list(loader(joined, **plain).epoch(epoch)), list(loader(joined, **changes).epoch(epoch)))


def test_items_made_on_the_device_are_the_same(joined: JoinedStore) -> None:
    made = loader(joined)
    plain = list(made.epoch(0))
    made._assembler = DeviceAssembler(made._format, device=CPU)
    for one, other in zip(plain, made.epoch(0), strict=True):
        assert one.missing is not None
        assert torch.equal(one.missing, other.missing)  # type: ignore[arg-type]
        torch.testing.assert_close(one.x, other.x, rtol=1e-5, atol=1e-5)


def test_a_batch_says_which_joints_its_items_lack(joined: JoinedStore) -> None:
    lost = torch.from_numpy(joined.missing)
    for batch in loader(joined).epoch(0):
        assert batch.missing is not None
        assert batch.least_joints == 20
        assert torch.equal(batch.missing, lost[(batch.index >= 12).long()][batch.clip])


def test_what_is_measured_from_a_missing_joint_is_missing_and_mirroring_moves_it(tmp_path: Path) -> None:
    # Without a left wrist: the mirror image has no right one, and a bone from it to a hand is none.
    names = [name for name in KINECT20.joints if name != "left wrist"]
    pairs = [(KINECT20.joints[child], KINECT20.joints[parent]) for child, parent in KINECT20.bones]
    bones = [pair for pair in pairs if not any("wrist" in joint for joint in pair)]
    bones += [("left hand", "left elbow"), ("right hand", "right elbow"), ("right wrist", "spine")]
    layout = make_layout("one-wrist", names, bones, centre="spine", parts={"all": names})
    joined = join_stores([write(tmp_path / "a.zarr", KINECT20), write(tmp_path / "b.zarr", layout, seed=1)])
    found = set()
    for stream in ("joint", "bone"):
        augment = Augment(frames=12, min_frames=8, mirror=True, stream=stream)
        for batch in loader(joined, augment=augment).epoch(0):
            assert batch.missing is not None
            assert batch.least_joints == (19 if stream == "joint" else 18)
            found |= {(stream, *np.array(KINECT20.joints)[row.numpy()]) for row in batch.missing}
    left, right = ("left wrist", "left hand"), ("right wrist", "right hand")
    expected = {("joint",), ("joint", left[0]), ("joint", right[0]), ("bone",), ("bone", *left), ("bone", *right)}
    assert found == expected


def test_shares_take_no_clip_twice_and_draw_anew_in_each_epoch(joined: JoinedStore) -> None:
    made = loader(joined, shares=(0.2, 0.8), window=1)
    assert (made.per_epoch, len(made)) == (10, 3)
    orders = [made.order(epoch) for epoch in range(60)]
    for order in orders:
        assert len(set(order.tolist())) == 10
        assert np.bincount(joined.member[order]).tolist() == [2, 8]
    assert set(np.concatenate(orders).tolist()) == set(range(20))
    assert not np.array_equal(np.sort(orders[0]), np.sort(orders[1]))
    taken = [batch.index.tolist() for batch in made.epoch(3)]
    assert np.concatenate(taken).tolist() == orders[3].tolist()
    assert [batch.index.tolist() for batch in made.epoch(3, skip=4)] == taken[1:]
    with pytest.raises(ConfigError, match="skip must be between 0 and the 10 clips"):
        made.epoch(0, skip=11)
    assert sorted(loader(joined).order(0).tolist()) == list(range(20))


def test_two_processes_share_the_steps_of_one(joined: JoinedStore) -> None:
    whole = [batch.index.tolist() for batch in loader(joined, shares=(0.5, 0.5)).epoch(0)]
    parts = [loader(joined, shares=(0.5, 0.5), rank=rank, world=2).epoch(0) for rank in (0, 1)]
    for one, left, right in zip(whole, *parts, strict=True):
        assert one == [int(i) for pair in zip(left.index, right.index, strict=True) for i in pair]


def test_the_fingerprint_is_of_stores_order_layout_and_rates(tmp_path: Path, stores: tuple[Store, Store]) -> None:
    fast = write(tmp_path / "fast.zarr", NTU25, seed=3, source="keypoints", fps=60.0)
    found = [
        join_stores(stores),
        join_stores(stores[::-1]),
        join_stores(stores, layout="kinect20"),
        join_stores(stores[:1], layout="kinect20"),
        join_stores([stores[0], fast]),
    ]
    assert len({one.fingerprint for one in found}) == 5
    assert join_stores([str(store.path) for store in stores]).fingerprint == found[0].fingerprint


def test_each_store_is_trained_on_by_a_protocol_of_its_own(
    tmp_path: Path, stores: tuple[Store, Store], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "smae")
    both = join_stores(stores)
    split = both.training_split("mine")
    assert split.train.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18]
    assert split.test.tolist() == [3, 7, 11, 15, 19]
    assert both.training_split("xsub").train.tolist() == split.train.tolist()
    assert "poor has no protocol xsub: its train part is that of its only one, mine" in caplog.messages
    assert len(both.training_split("mine,all").train) == 9 + 8
    with pytest.raises(ConfigError, match="expected one, or one for each of 2 stores"):
        both.training_split("mine,mine,mine")
    two = write(tmp_path / "two.zarr", NTU25, seed=4, splits=("first", "second"))
    with pytest.raises(UnknownNameError, match="expected one of first, second"):
        join_stores([stores[0], two]).training_split("mine")
    assert len(join_stores([stores[0], two]).training_split("mine,second").train) == 9 + 5


def test_what_cannot_be_joined_is_refused_by_name(tmp_path: Path, stores: tuple[Store, Store]) -> None:
    full, poor = stores
    with pytest.raises(ConfigError, match=r"full\.zarr is the same store as .*full\.zarr: name each once"):
        join_stores([full, poor, str(full.path)])
    with pytest.raises(DataError, match=r"expected a store at .*gone\.zarr, found nothing"):
        join_stores([full, tmp_path / "gone.zarr"])
    with pytest.raises(ConfigError, match="found none"):
        join_stores([])
    with pytest.raises(UnknownNameError, match="ntu52"):
        join_stores(stores, layout="ntu52")
    exact = write(tmp_path / "exact.zarr", NTU25, seed=5, mode="exact")
    with pytest.raises(DataError, match=r"exact\.zarr is in exact mode and .* in reference mode"):
        join_stores([full, exact])
    hand = Layout("hand3", ("palm", "left tip", "right tip"), ((1, 0), (2, 0)), ((1, 2),), {"all": (0, 1, 2)}, 0)
    with pytest.raises(DataError, match=r"hand\.zarr: of the 25 joints of ntu25 its layout hand3 gives only 0"):
        join_stores([full, write(tmp_path / "hand.zarr", hand)])
    for shares in ((0.5,), (0.5, 0.6)):
        with pytest.raises(ConfigError, match=r"expected 2 shares .* that sum to 1"):
            join_stores(stores).check_shares(shares)


def test_stores_of_one_name_get_numbers(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        write(tmp_path / str(number) / "data.zarr", COCO17, seed=number)
    joined = join_stores([tmp_path / "1" / "data.zarr", tmp_path / "2" / "data.zarr"])
    assert [member.name for member in joined.members] == ["data-1", "data-2"]
    assert len(set(joined.clips.name.tolist())) == len(joined)
