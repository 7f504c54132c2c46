"""The Triton kernel of the loader gives what the naive loops give: on a GPU where there is one, else interpreted."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from smae.data.loader import CpuAssembler, DeviceAssembler, StagedAssembler
from smae.data.loader.augment import Augment, BatchPlan, ItemFormat
from smae.data.loader.loader import Loader
from smae.errors import EnvironmentFault
from tests.data.loader.test_augment import NO_BONES, format_of, naive_item, windows_of
from tests.fakes import FakeStore

pytest.importorskip("triton", reason="Triton is not installed: pip install 'smae[triton]'")

pytestmark = pytest.mark.gpu
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no GPU, and Triton was imported without its interpreter", allow_module_level=True)


def made(rows: np.ndarray, plan: BatchPlan, *, item_format: ItemFormat) -> np.ndarray:
    return DeviceAssembler(item_format, device=DEVICE, triton=True)(rows, plan).cpu().numpy()


@pytest.mark.parametrize("stream", ["joint", "relative", "bone", "motion", "bone-motion"])
@pytest.mark.parametrize("sigma", [0.0, 0.02])
@pytest.mark.parametrize(("frames", "longest", "edited"), [(1, 40, False), (20, 9, True), (13, 300, True)])
def test_the_kernel_equals_the_naive_items(stream: str, sigma: float, frames: int, longest: int, edited: bool) -> None:
    rows, plan = windows_of(frames, items=2, longest=longest, noise=sigma > 0, edited=frames * edited)
    item_format = format_of(frames, sigma=sigma, stream=stream)
    items = made(rows, plan, item_format=item_format)
    for n in range(2):
        np.testing.assert_allclose(items[n], naive_item(rows, plan, n, item_format=item_format), rtol=1e-5, atol=1e-5)


def test_the_kernel_equals_that_of_the_cpu_through_either_way() -> None:
    rows, plan = windows_of(4, items=3, longest=60, noise=True)
    item_format = format_of(24, sigma=0.05)
    expected = CpuAssembler(item_format)(rows, plan)
    for way in (DeviceAssembler, StagedAssembler):
        got = way(item_format, device=DEVICE, triton=True)(rows, plan).cpu()
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=5e-6)


def test_other_layouts_too() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 20, 3)).astype(np.float32)
    joint = np.tile(np.arange(20), (2, 1))
    plan = BatchPlan(np.array([0, 9]), np.array([31, 12]), rng.normal(size=(2, 3, 3)).astype(np.float32), joint)
    item_format = ItemFormat(10, np.maximum(np.arange(20) - 1, 0), NO_BONES, stream="bone")
    np.testing.assert_allclose(
        made(rows, plan, item_format=item_format), CpuAssembler(item_format)(rows, plan), rtol=1e-6, atol=5e-6
    )


def test_a_clip_of_a_million_frames_overflows_nothing() -> None:
    rows = np.zeros((1_000_000, 1, 3), np.float32)
    rows[:, 0, 0] = np.arange(1_000_000)
    plan = BatchPlan(
        np.zeros(1, np.int64), np.array([len(rows)]), np.eye(3, dtype=np.float32)[None], np.zeros((1, 1), int)
    )
    item_format = ItemFormat(4096, np.zeros(1, np.int64), NO_BONES)
    np.testing.assert_array_equal(made(rows, plan, item_format=item_format), CpuAssembler(item_format)(rows, plan))


@pytest.mark.parametrize("mode", ["resident", "streaming"])
def test_a_loader_with_the_kernel_gives_the_batches_of_one_without(mode: str) -> None:
    store = FakeStore.random(clips=4, seed=1)
    augment = Augment(frames=12, noise=0.01, mirror=True, stream="motion")
    settings = {"augment": augment, "batch": 3, "seed": 5, "train": True, "device": DEVICE, "mode": mode}
    both = (Loader(store, np.arange(4), kernel=kernel, **settings).epoch(0) for kernel in ("torch", "triton"))
    for plain, fused in zip(*both, strict=True):
        torch.testing.assert_close(plain.x, fused.x, rtol=1e-6, atol=5e-6)
        assert torch.equal(plain.index, fused.index)


@pytest.mark.skipif(DEVICE.type == "cuda", reason="a GPU is here")
def test_without_a_gpu_the_kernel_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(EnvironmentFault, match=r"train\.kernel=triton needs a GPU"):
        Loader(
            FakeStore.random(clips=2, seed=1), np.arange(2), augment=Augment(), batch=2, seed=0, train=True,
            device=DEVICE, kernel="triton",
        )  # fmt: skip
