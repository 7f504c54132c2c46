"""The loader against naive loops, itself under other workers and residency, resume, errors and abandonment."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smae.data.loader import Batch, CpuAssembler, DeviceAssembler, StagedAssembler, row_cache
from smae.data.loader.augment import Augment, BatchPlan, ItemFormat
from smae.data.loader.loader import Loader, prefetch
from smae.data.raw.recording import Clip
from smae.data.store import open_store
from smae.data.store.writer import ClipFacts, Header, write_store
from smae.errors import ConfigError, DataError
from smae.skeleton import NTU25
from tests.fakes import FakeStore
from tests.oracles import augment as oracle

CPU = torch.device("cpu")
SMALL = 500
"""Rows of a block in these tests, so that a few clips make many blocks."""


def loader(store: Any, index: Any = None, **changes: Any) -> Loader:
    settings: dict[str, Any] = {
        "augment": Augment(),
        "batch": 8,
        "seed": 5,
        "train": True,
        "device": CPU,
        "window": 3,
        "block_rows": SMALL,
    }
    return Loader(store, np.arange(len(store)) if index is None else index, **(settings | changes))


@pytest.fixture(scope="module")
def store() -> FakeStore:
    return FakeStore.random(clips=60, seed=1)


def assert_equal(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.epoch == b.epoch
        for name in ("x", "clip", "body", "index", "label"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name


def assert_as_oracle(batches: list[Batch], store: FakeStore, *, augment: Augment, augmented: bool) -> None:
    for batch in batches:
        n = 0
        for b, index in enumerate(batch.index.tolist()):
            assert batch.label[b] == store.clips.label[index]
            items = oracle.items(store, index, augment=augment, seed=5, epoch=batch.epoch, augmented=augmented)
            for body, x in items:
                assert (int(batch.clip[n]), int(batch.body[n])) == (b, body)
                np.testing.assert_allclose(batch.x[n].numpy(), x, rtol=1e-5, atol=3e-6)
                n += 1
        assert n == len(batch.x)


@pytest.mark.parametrize(
    ("augment", "mode", "train"),
    [
        (Augment(), "reference", True),
        (Augment(), "reference", False),
        (Augment(), "exact", True),
        (Augment(frames=33, crop=(0.1, 0.3), min_frames=4, test_crop=0.5), "exact", False),
        (Augment(frames=31, crop=(0.1, 0.3), min_frames=4, mirror=True, turn=3.1, scale=0.3), "reference", True),
        (Augment(frames=20, stream="bone"), "reference", True),
        (Augment(frames=20, stream="motion"), "exact", True),
        (Augment(frames=20, stream="relative"), "exact", False),
        (Augment(frames=20, noise=0.05, mirror=True, scale=0.2, stream="relative"), "reference", True),
        (Augment(frames=21, noise=0.05), "reference", True),
        (Augment(frames=21, noise=0.05), "reference", False),
        (Augment(frames=20, noise=0.05, mirror=True, scale=0.2, stream="bone"), "exact", True),
        (Augment(frames=20, noise=0.05, mirror=True, turn=1.0, stream="motion"), "reference", True),
        (Augment(frames=20, align="heading"), "reference", True),
        (Augment(frames=20, align="body", mirror=True, turn=3.1), "exact", True),
        (Augment(frames=20, align="body"), "reference", False),
    ],
)
def test_batches_equal_the_naive_ones(augment: Augment, mode: str, train: bool) -> None:
    store = FakeStore.random(clips=20, seed=2, frames=(1, 90), mode=mode)
    batches = list(loader(store, augment=augment, train=train).epoch(3))
    assert_as_oracle(batches, store, augment=augment, augmented=train)
    assert sorted(i for batch in batches for i in batch.index.tolist()) == list(range(20))


def test_tensors_are_what_the_contract_says(store: FakeStore) -> None:
    batch = next(loader(store).epoch(0))
    assert batch.x.dtype == torch.float32
    assert batch.x.shape[1:] == (120, 25, 3)
    assert batch.clips == 8
    assert batch.clip.dtype == batch.body.dtype == batch.index.dtype == batch.label.dtype == torch.int64
    assert batch.clip.unique().tolist() == list(range(8))
    assert batch.clip.tolist() == sorted(batch.clip.tolist())


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("stream", ["joint", "relative", "bone", "motion"])
def test_workers_and_residency_change_no_bit(store: FakeStore, train: bool, stream: str) -> None:
    augment = Augment(frames=24, noise=0.01, mirror=True, scale=0.1, stream=stream)
    expected = list(loader(store, augment=augment, train=train, workers=0, mode="resident").epoch(1))
    for mode in ("resident", "streaming"):
        for workers in (0, 1, 2):
            got = list(loader(store, augment=augment, train=train, workers=workers, mode=mode).epoch(1))
            assert_equal(expected, got)


@pytest.mark.parametrize("mode", ["resident", "streaming"])
@pytest.mark.parametrize("drop_last", [True, False])
def test_an_epoch_goes_on_after_any_step(store: FakeStore, mode: str, drop_last: bool) -> None:
    half = loader(store, np.arange(0, 60, 2), augment=Augment(frames=8), mode=mode, drop_last=drop_last)
    whole = list(half.epoch(2))
    assert len(whole) == len(half) == (3 if drop_last else 4)
    for done in range(len(whole) + 1):
        skip = min(8 * done, 30)
        assert_equal(whole[done:], list(half.epoch(2, skip=skip)))


def test_batches_of_few_subjects_are_the_same_in_memory_and_streamed_and_go_on(store: FakeStore) -> None:
    mixed = loader(store, augment=Augment(frames=8))
    by_subject = loader(store, augment=Augment(frames=8), by_subject=True)
    expected = list(by_subject.epoch(2))
    # Five subjects of twelve clips: a batch of eight has one subject or two, where they are mixed some four.
    few, many = (
        [len(set(store.clips.subject[batch.index.numpy()])) for batch in batches]
        for batches in (expected, mixed.epoch(2))
    )
    assert max(few) <= 2
    assert sum(many) / len(many) > 3
    assert sorted(by_subject.order(2)) == sorted(mixed.order(2))
    for mode, workers in (("resident", 2), ("streaming", 0), ("streaming", 2)):
        again = loader(store, augment=Augment(frames=8), by_subject=True, mode=mode, workers=workers)
        assert_equal(expected, list(again.epoch(2)))
        assert_equal(expected[3:], list(again.epoch(2, skip=24)))
    still = loader(store, augment=Augment(frames=8), by_subject=True, train=False)
    assert still.order(0).tolist() == list(range(60))


def test_a_clip_is_the_same_in_a_batch_of_any_size_and_company(store: FakeStore) -> None:
    augment = Augment(frames=16, noise=0.01)
    many = {int(i): b for b in loader(store, augment=augment).epoch(4) for i in b.index}
    (alone,) = loader(store, [17], augment=augment, batch=1).epoch(4)
    batch = many[17]
    item = batch.clip == batch.index.tolist().index(17)
    assert torch.equal(batch.x[item], alone.x)


def test_epochs_and_seeds_differ(store: FakeStore) -> None:
    first = loader(store, augment=Augment(frames=8))
    assert not np.array_equal(first.order(0), first.order(1))
    assert not np.array_equal(first.order(0), loader(store, seed=6).order(0))
    a, b = (loader(store, [3], augment=Augment(frames=8), seed=seed) for seed in (5, 6))
    assert not torch.equal(next(a.epoch(0)).x, next(b.epoch(0)).x)
    assert not torch.equal(next(a.epoch(0)).x, next(a.epoch(1)).x)


def test_testing_keeps_store_order_and_does_not_vary(store: FakeStore) -> None:
    test = loader(store, [9, 4, 30], train=False)
    assert test.order(0).tolist() == [4, 9, 30]
    assert torch.equal(next(test.epoch(0)).x, next(test.epoch(7)).x)


def test_varying_can_be_chosen_apart_from_shuffling(store: FakeStore) -> None:
    shuffled = loader(store, augmented=False, batch=60)
    plain = loader(store, train=False, batch=60)
    (a,), (b,) = shuffled.epoch(0), plain.epoch(0)
    assert not torch.equal(a.index, b.index)
    place = torch.argsort(a.index)
    for clip in (0, 31, 59):
        assert torch.equal(a.x[a.clip == place[clip]], b.x[b.clip == clip])


def test_both_bodies_share_crop_and_rotation() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(100, 25, 3)).astype(np.float32)
    batch = next(loader(FakeStore([np.stack([one, one])])).epoch(0))
    assert batch.body.tolist() == [0, 1]
    assert torch.equal(batch.x[0], batch.x[1])


@pytest.mark.parametrize(("mode", "gap"), [("reference", 0.0), ("exact", np.nan)])
def test_a_body_that_is_absent_all_through_the_window_is_not_an_item(mode: str, gap: float) -> None:
    def clip(first: slice, second: slice) -> np.ndarray:
        joints = np.ones((2, 100, 25, 3), np.float32)
        joints[:, :, 1] = 0
        joints[0, first], joints[1, second] = gap, gap
        return joints

    none, all_of_it, middle = slice(0, 0), slice(0, 100), slice(40, 60)
    store = FakeStore(
        [clip(none, all_of_it), clip(none, none), clip(all_of_it, none), clip(none, middle), clip(middle, middle)],
        mode=mode,
    )
    batch = next(loader(store, train=False).epoch(0))
    assert list(zip(batch.clip.tolist(), batch.body.tolist(), strict=True)) == [
        (0, 0), (1, 0), (1, 1), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1),
    ]  # fmt: skip
    assert torch.isfinite(batch.x).all()


@pytest.mark.parametrize("gap", [0.0, np.nan])
def test_a_clip_without_a_visible_body_keeps_its_first(gap: float) -> None:
    store = FakeStore([np.full((2, 5, 25, 3), gap, np.float32)], mode="exact")
    batch = next(loader(store).epoch(0))
    assert batch.body.tolist() == [0]
    assert not batch.x.any()


def test_valid_frames_are_a_count_taken_from_the_start() -> None:
    # Frames 2 and 3 of 6 are empty: four are valid, so the reference takes frames 0 to 3, the empty ones among them.
    joints = np.arange(1, 7, dtype=np.float32)[None, :, None, None] * np.ones((1, 6, 25, 3), np.float32)
    joints[0, 2:4], joints[:, :, 1] = 0, 0
    augment = Augment(frames=4, test_crop=1.0)
    reference = next(loader(FakeStore([joints]), augment=augment, train=False).epoch(0))
    assert reference.x[0, :, 0, 0].tolist() == [1, 2, 0, 0]
    joints[0, 2:4] = np.nan
    exact = next(
        loader(FakeStore([joints], mode="exact"), augment=Augment(frames=6, test_crop=1.0), train=False).epoch(0)
    )
    assert exact.x[0, :, 0, 0].tolist() == [1, 2, 2, 5, 5, 6]


def test_noise_of_a_batch_is_keyed_by_clip_and_body(store: FakeStore) -> None:
    batch = next(loader(store).epoch(2))
    noise = batch.noise(5)
    assert (noise.seed, noise.epoch) == (5, 2)
    assert torch.equal(noise.clip, batch.index[batch.clip])
    drawn = noise.uniform("mask", 4)
    assert drawn.shape == (len(batch.x), 4)
    assert len(torch.unique(drawn[:, 0])) == len(batch.x)


@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_reads_whole_blocks_once_and_holds_few(
    store: FakeStore, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    class Watched(row_cache.RowBuffer):
        def __init__(self, clips: Any, rows: int) -> None:
            super().__init__(clips, rows)
            sizes.append(rows)

    monkeypatch.setattr(row_cache, "RowBuffer", Watched)
    store.reads.clear()
    streaming = loader(store, workers=workers, mode="streaming", augment=Augment(frames=8), batch=2, window=3)
    assert sum(batch.clips for batch in streaming.epoch(0)) == 60
    starts = sorted(store.reads)
    assert len(starts) == len(set(starts)) == len(np.unique(store.clips.offset // SMALL))
    assert all(stop - start < SMALL + 300 for start, stop in starts)
    assert all(this[1] <= after[0] for this, after in pairwise(starts))
    assert sizes[0] <= 4 * (SMALL + 300)


def test_resident_reads_once_for_all_epochs(store: FakeStore) -> None:
    resident = loader(store, mode="resident", augment=Augment(frames=8))
    store.reads.clear()
    list(resident.epoch(0))
    reads = len(store.reads)
    list(resident.epoch(1))
    assert len(store.reads) == reads > 1


def test_a_batch_larger_than_the_window_still_comes(store: FakeStore) -> None:
    expected = list(loader(store, batch=60, mode="resident", window=1).epoch(0))
    assert_equal(expected, list(loader(store, batch=60, mode="streaming", window=1).epoch(0)))


def test_two_iterators_of_one_loader_do_not_disturb_each_other(store: FakeStore) -> None:
    streaming = loader(store, mode="streaming", augment=Augment(frames=8))
    expected = list(streaming.epoch(0)), list(streaming.epoch(1))
    pairs = list(zip(streaming.epoch(0), streaming.epoch(1), strict=True))
    assert_equal(expected[0], [a for a, _ in pairs])
    assert_equal(expected[1], [b for _, b in pairs])


@pytest.mark.parametrize("mode", ["resident", "streaming"])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_read_error_surfaces_as_it_is(mode: str, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore.random(clips=60, seed=1)
    whole = store.rows

    def rows(start: int, stop: int) -> np.ndarray:
        if start > 1000:
            raise DataError("chunk 3: checksum differs")
        return whole(start, stop)

    monkeypatch.setattr(store, "rows", rows)
    with pytest.raises(DataError, match="chunk 3: checksum differs"):
        list(loader(store, mode=mode, workers=workers, augment=Augment(frames=8)).epoch(0))
    assert ours() == []


@pytest.mark.parametrize("mode", ["resident", "streaming"])
def test_leaving_early_leaves_no_thread(store: FakeStore, mode: str) -> None:
    early = loader(store, mode=mode, workers=2, augment=Augment(frames=8))
    unused = early.epoch(0)
    for batch in early.epoch(0):
        assert batch.clips == 8
        break
    half = early.epoch(1)
    next(half)
    next(half)
    assert ours()
    del half, unused
    gc.collect()
    assert ours() == []


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("smae-")]


def test_prefetch_runs_no_further_than_its_depth() -> None:
    made = []

    def items() -> Any:
        for i in range(10):
            made.append(i)
            yield i

    taken = prefetch(items(), depth=2)
    assert next(taken) == 0
    # The thread may or may not have got to its limit by now, but never beyond it.
    for _ in range(50):
        threading.Event().wait(0.002)
    assert made == [0, 1, 2]
    assert list(taken) == list(range(1, 10))


@pytest.mark.parametrize(
    ("index", "changes", "message"),
    [
        ([], {}, "split is empty"),
        ([0, 60], {}, "0 to 59, found 60"),
        ([-1, 3], {}, "found -1"),
        ([3, 3], {}, "clip 3 more often"),
        ([0], {"batch": 0}, "batch must be at least 1"),
        ([0], {"workers": -1}, "workers must be at least 0"),
        ([0], {"window": 0}, "window must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused(store: FakeStore, index: Any, changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loader(store, index, **changes)


@pytest.mark.parametrize("mode", ["resident", "streaming"])
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_get_disjoint_parts_of_each_batch_that_are_the_whole_of_it(
    store: FakeStore, world: int, mode: str
) -> None:
    whole = list(loader(store, mode=mode).epoch(2, skip=8))
    parts = [list(loader(store, mode=mode, rank=rank, world=world).epoch(2, skip=8)) for rank in range(world)]
    assert {len(part) for part in parts} == {len(whole)}
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sorted(torch.cat([share.index for share in shares]).tolist()) == sorted(batch.index.tolist())
        for share in shares:
            for number, clip in enumerate(share.index.tolist()):
                same = batch.index.tolist().index(clip)
                assert torch.equal(share.x[share.clip == number], batch.x[batch.clip == same])


def test_a_step_with_fewer_clips_than_ranks_is_refused(store: FakeStore) -> None:
    with pytest.raises(ConfigError, match=r"5 ranks cannot share a step of 4 clips \(60 clips in batches of 8\)"):
        loader(store, world=5)
    with pytest.raises(ConfigError, match="9 ranks cannot share a step of 8 clips"):
        loader(store, drop_last=True, world=9)
    assert len(loader(store, drop_last=True, rank=4, world=5)) == 7


@pytest.mark.parametrize("skip", [-1, 61])
def test_a_skip_beyond_the_clips_is_refused(store: FakeStore, skip: int) -> None:
    with pytest.raises(ConfigError, match="between 0 and the 60 clips"):
        loader(store).epoch(0, skip=skip)


def test_residency_follows_free_memory_and_says_why(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    need = int((store.clips.frames.astype(int) * store.clips.bodies).sum()) * 300
    monkeypatch.setattr(row_cache, "free_memory", lambda: 4 * need)
    assert str(loader(store).residency).startswith("resident: ")
    monkeypatch.setattr(row_cache, "free_memory", lambda: 4 * need - 4)
    assert "do not fit in a quarter of" in str(loader(store).residency)
    assert str(loader(store, mode="resident").residency).startswith("resident: as asked")


def test_on_a_gpu_rows_go_to_its_memory_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    monkeypatch.setattr(row_cache, "free_memory", lambda: 4000)
    for there, mode, said in [
        (4000, "device", "resident on the device: 0.0 MB of rows fit"),
        (3996, "resident", "resident: 0.0 MB of rows fit in a quarter of the 0.0 MB of free memory, but not of the"),
    ]:
        monkeypatch.setattr(row_cache, "free_device_memory", lambda device, there=there: there)
        found = row_cache.choose_residency(1000, mode="auto", device=cuda)
        assert found.mode == mode
        assert str(found).startswith(said)
    assert row_cache.choose_residency(1001, mode="auto", device=cuda).mode == "streaming"
    assert str(row_cache.choose_residency(10**9, mode="device", device=cuda)).startswith(
        "resident on the device: as asked"
    )


def test_rows_cannot_be_kept_on_a_device_that_is_not_there(store: FakeStore) -> None:
    with pytest.raises(ConfigError, match="needs a GPU"):
        loader(store, mode="device")


def test_free_memory_is_some_of_the_machine() -> None:
    assert 10**6 < row_cache.free_memory() < 10**14


@pytest.mark.parametrize("way", [StagedAssembler, DeviceAssembler])
def test_the_ways_of_an_accelerator_give_the_same_batches(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    augment = Augment(noise=0.01, mirror=True, stream="bone")
    expected = list(loader(store, augment=augment).epoch(0))
    monkeypatch.setattr("smae.data.loader.loader.CpuAssembler", partial(way, device=CPU))
    for a, b in zip(expected, loader(store, augment=augment).epoch(0), strict=True):
        torch.testing.assert_close(a.x, b.x, rtol=1e-6, atol=4e-6)
        assert torch.equal(a.index, b.index)


def test_memory_of_a_batch_is_reused_once_nothing_refers_to_it() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 25, 3)).astype(np.float32)
    fused = CpuAssembler(ItemFormat(8, np.arange(25), np.empty((0, 2), np.int64)))
    space, joint = np.tile(np.eye(3, dtype=np.float32), (4, 1, 1)), np.tile(np.arange(25), (4, 1))
    plans = [BatchPlan(np.arange(4) + skip, np.full(4, 20), space, joint) for skip in (0, 9)]
    one = fused(rows, plans[0])
    view, place, kept = one[1:, 2], one.data_ptr(), one.clone()
    del one
    other = fused(rows, plans[1])
    assert other.data_ptr() != place
    assert torch.equal(view, kept[1:, 2])
    del view
    assert fused(rows, plans[0]).data_ptr() == place


@pytest.mark.parametrize("mode", ["resident", "streaming"])
def test_a_real_store_gives_what_memory_gives(store: FakeStore, mode: str, tmp_path: Path) -> None:
    header = Header(layout=NTU25, mode="reference", dataset="made", classes=tuple(f"A{i:03}" for i in range(1, 8)))
    clips = [
        (ClipFacts(name=f"clip{i:03}", action=f"A{label + 1:03}"), Clip(joints, np.full(joints.shape[:3], 2, np.uint8)))
        for i, (joints, label) in enumerate(zip(store.joints, store.clips.label, strict=True))
    ]
    write_store(tmp_path / "made.zarr", header=header, clips=clips)
    real = open_store(tmp_path / "made.zarr")
    store_with_its_name = FakeStore(store.joints, fingerprint=real.fingerprint)
    expected = list(loader(store_with_its_name, augment=Augment(frames=16)).epoch(0))
    assert_equal(expected, list(loader(real, augment=Augment(frames=16), mode=mode).epoch(0)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("mode", ["device", "resident", "streaming"])
@pytest.mark.parametrize("kernel", ["torch", "triton"])
def test_a_gpu_gives_what_the_cpu_gives(store: FakeStore, mode: str, kernel: str) -> None:
    augment = Augment(noise=0.01, mirror=True)
    expected = loader(store, augment=augment).epoch(0)
    got = loader(store, augment=augment, device=torch.device("cuda"), mode=mode, kernel=kernel).epoch(0)
    for a, b in zip(expected, got, strict=True):
        assert b.x.is_cuda
        torch.testing.assert_close(a.x, b.x.cpu(), rtol=1e-5, atol=1e-5)
        assert torch.equal(a.index, b.index.cpu())


@pytest.mark.parametrize("mode", ["reference", "exact"])
def test_clips_that_others_left_uncentred_are_centred_when_loaded(mode: str) -> None:
    # In steps of 1/256 m, moving by whole metres and back is exact.
    store = FakeStore([np.rint(clip * 256) / 256 for clip in FakeStore.random(clips=12, seed=5, mode=mode).joints])
    store.mode = mode
    away, rng = replace(store), np.random.default_rng(0)
    moved = []
    for clip in store.joints:
        there = (np.nan_to_num(clip) != 0).any(axis=(2, 3), keepdims=True)
        moved.append(np.where(there, clip + rng.integers(1, 5, 3), clip).astype(np.float32))
    away._rows = np.concatenate([clip.reshape(-1, *clip.shape[2:]) for clip in moved])
    for want, got in zip(loader(store, train=False).epoch(0), loader(away, train=False).epoch(0), strict=True):
        assert torch.equal(want.x, got.x)
        assert torch.equal(want.body, got.body)
