"""The fused kernels give the indices of the plain forms, bit for bit: on a GPU where there is one, else interpreted."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

from smae.models import Grid, patchify
from smae.models.masking import Mask, mask_tokens, maskings
from smae.rng import Noise
from smae.skeleton import KINECT20, NTU25
from smae.testing import check_masking
from smae.testing.models import bodies, small_batch
from smae.train.config import build_objective, resolve

pytest.importorskip("triton", reason="Triton is not installed: pip install 'smae[triton]'")
import triton
import triton.language as tl

from smae.models.masking_kernels import _lowest

pytestmark = pytest.mark.gpu
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no GPU, and Triton was imported without its interpreter", allow_module_level=True)

SMALL = {
    "augment.frames": 20,
    "encoder": {"dim": 16, "depth": 1, "heads": 2},
    "decoder": {"dim": 16, "depth": 1, "heads": 2},
}
SETTINGS = [
    ("random", {}),
    ("random", {"keep": 0.5}),
    ("random", {"keep": 1e-9}),
    ("random", {"keep": 0.998}),
    ("spatial-temporal", {}),
    ("spatial-temporal", {"keep_frames": 1}),
    ("spatial-temporal", {"keep_joints": 1}),
    ("tube", {}),
    ("tube", {"keep": 0.4, "length": 2}),
    ("body-part", {}),
    ("body-part", {"keep": 0.5, "length": 1}),
    ("motion-aware", {}),
    ("motion-aware", {"keep": 0.6, "tau": 0.05}),
]

WITH_KERNEL = [name for name in maskings.names() if "kernel" in maskings.get(name).Config.model_fields]


def both(name, settings, *, layout=NTU25, frames=120, patch=4, items=4, still=False, seed=2**63 - 1, epoch=7):
    """Return mask and visible tokens, by torch and by the kernel."""
    grid = Grid.cut(frames, joints=len(layout), patch=patch)
    tokens = patchify(bodies(layout, items=items, frames=frames) * (0 if still else 1), grid).to(DEVICE)
    cls = maskings.get(name)
    number = torch.arange(items, device=DEVICE)
    noise = Noise(seed, epoch, 113_944 - 977 * number, number % 2)
    built = [cls(cls.Config(kernel=kernel, **settings), grid, layout) for kernel in ("torch", "triton")]
    return [mask_tokens(masking, tokens, noise) for masking in built]


def assert_same(plain: tuple[Mask, torch.Tensor], fused: tuple[Mask, torch.Tensor]) -> None:
    for name in ("keep", "hide", "restore"):
        expected, found = getattr(plain[0], name), getattr(fused[0], name)
        assert found.dtype == torch.int64
        assert torch.equal(expected, found), name
    assert torch.equal(plain[1], fused[1])


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_a_kernel_gives_the_indices_of_the_plain_form(name, settings):
    assert_same(*both(name, settings))


@pytest.mark.parametrize("name", WITH_KERNEL)
@pytest.mark.parametrize(("layout", "frames", "patch"), [(KINECT20, 40, 4), (NTU25, 20, 2), (NTU25, 60, 6)])
def test_other_grids_too(name, layout, frames, patch):
    assert_same(*both(name, {}, layout=layout, frames=frames, patch=patch, items=3, seed=0, epoch=0))


def test_a_clip_without_any_motion_too():
    assert_same(*both("motion-aware", {}, still=True))


@pytest.mark.skipif(DEVICE == "cpu", reason="many masks take a GPU")
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_many_masks_too(name, settings):
    assert_same(*both(name, settings, items=20_000))


# Each equals its plain form in the tests above, and plain forms keep the contract in every run.
@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_KERNEL)
def test_the_kernels_keep_the_contract(name):
    if DEVICE == "cuda":
        pytest.skip("the contract is checked on the CPU, where the kernel would be interpreted")
    check_masking(maskings.get(name), settings={"kernel": "triton"})


@triton.jit
def _kept(key_ptr, kept_ptr, count, keep, BITS: tl.constexpr, BLOCK: tl.constexpr):
    index = tl.arange(0, BLOCK)
    key = tl.load(key_ptr + index, mask=index < count, other=0)
    kept = tl.reshape(_lowest(key[None, :], (index < count)[None, :], keep, BITS), [BLOCK])
    tl.store(kept_ptr + index, kept.to(tl.int32), mask=index < count)


@pytest.mark.parametrize("keep", [1, 2, 5, 9, 19, 20])
@pytest.mark.parametrize("highest", [1, 3, 2**24 - 1])
def test_among_equals_the_lower_index_is_kept(keep, highest):
    key = torch.randint(highest + 1, (20,), generator=torch.Generator().manual_seed(keep), dtype=torch.int32)
    kept = torch.zeros(20, dtype=torch.int32, device=DEVICE)
    _kept[(1,)](key.to(DEVICE), kept, 20, keep, BITS=24, BLOCK=32)
    assert kept.nonzero()[:, 0].tolist() == key.argsort(stable=True)[:keep].sort().values.tolist()


@pytest.mark.parametrize("objective", ["skeletonmae", "s-jepa"])
def test_a_step_with_the_kernel_is_a_step_without(objective):
    batch, losses = small_batch(NTU25, frames=20, clips=2), []
    for kernel in ("torch", "triton"):
        settings = {**SMALL, "objective.name": objective, "masking.kernel": kernel}
        model = build_objective(resolve("base", settings), NTU25).to(DEVICE)
        columns = {name: getattr(batch, name).to(DEVICE) for name in ("x", "clip", "body", "index", "label")}
        moved = replace(batch, **columns)
        losses.append(model(moved, moved.noise(0)).loss)
    assert torch.equal(*losses)


def test_clips_too_long_for_a_kernel_go_without_one(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True))
    monkeypatch.setattr("smae.models.masking.MAX_KERNEL_TOKENS", 100)
    cls = maskings.get("random")
    for frames, fused in [(12, True), (20, False)]:
        grid = Grid.cut(frames, joints=25, patch=4)
        masking = cls(cls.Config(kernel="auto"), grid, NTU25)
        assert masking.uses_kernel(torch.zeros(2, grid.tokens, grid.values)) == fused
