"""The benchmarks of step and masks run once, tiny; the fast step computes what the naive one does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import augment as augment_bench
from benchmarks import devices
from benchmarks import masking as masking_bench
from benchmarks import step as step_bench
from benchmarks.naive import masking as naive
from benchmarks.naive.step import NaiveMAE
from benchmarks.picture import traffic
from smae.data.loader import Batch
from smae.models import Grid, patchify
from smae.models.masking import maskings
from smae.rng import Noise
from smae.skeleton import NTU25
from smae.testing.models import bodies
from smae.train.config import build_objective, resolve

CPU = torch.device("cpu")
SMALL = {
    "augment.frames": 12,
    "masking": {"name": "random", "keep": 0.2},
    "encoder": {"dim": 16, "depth": 2, "heads": 2},
    "decoder": {"dim": 16, "depth": 2, "heads": 2},
}
SIZE = {"frames": 12, "dim": 16, "heads": 2, "depth": 2, "decoder_depth": 2, "keep": 0.2}


def pairs(clips: int, *, frames: int) -> Batch:
    """Return clips of two bodies each."""
    clip = torch.arange(clips).repeat_interleave(2)
    label = torch.zeros(clips, dtype=torch.long)
    x = bodies(NTU25, items=2 * clips, frames=frames)
    return Batch(x, clip, torch.tensor([0, 1] * clips), 50 + torch.arange(clips), label, epoch=1)


@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_fast_step_equals_the_plain_one_in_float32_to_rounding(full: bool) -> None:
    settings, size = (step_bench.BASE, {}) if full else (SMALL, SIZE)
    fast = build_objective(resolve("base", settings), NTU25)
    plain = NaiveMAE(**size)
    plain.load_state_dict(fast.state_dict())
    batch = pairs(2, frames=120 if full else 12)
    noise = batch.noise(3)

    mine = fast(batch, noise).loss
    theirs = plain(batch.x.unflatten(0, (2, 2)), noise.uniform("mask", fast.grid.tokens))
    mine.backward()
    theirs.backward()

    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=0)
    gradients = {name: weight.grad for name, weight in plain.named_parameters()}
    for name, weight in fast.named_parameters():
        scale = float(gradients[name].abs().max())
        assert float((weight.grad - gradients[name]).abs().max()) < 1e-5 * max(scale, 1e-3), name


def test_bodies_that_are_not_there_are_encoded_and_counted_by_the_naive_step_alone() -> None:
    bench = step_bench.Bench(clips=5, steps=1, device=CPU, settings=SMALL, size=SIZE)
    assert len(bench.batch.x) == 6
    assert bench.padded.shape == (5, 2, 12, 25, 3)
    assert int((bench.padded != 0).flatten(2).any(2).sum()) == 6
    torch.testing.assert_close(bench.padded[bench.batch.clip, bench.batch.body], bench.batch.x)
    assert bench.naive_operations / 10 == pytest.approx(bench.operations / 6, rel=0.1)


def test_the_naive_masks_are_smaes() -> None:
    grid = Grid.cut(24, joints=25, patch=4)
    tokens = patchify(bodies(NTU25, items=3, frames=24), grid)
    noise = Noise(0, 0, torch.arange(3))
    uniform = noise.uniform("mask", grid.tokens)
    for name in ("random", "motion-aware"):
        cls = maskings.get(name)
        mask = cls(cls.Config(), grid, NTU25)(tokens, noise)
        kept = mask.keep.shape[1]
        _, hidden, restore = (
            naive.random(tokens, keep=kept, noise=uniform)
            if name == "random"
            else naive.motion_aware(tokens, keep=kept, joints=25, tau=0.8, noise=uniform.clamp_min(2.0**-25))
        )
        assert torch.equal(hidden.bool(), mask.hidden)
        assert torch.equal(restore < kept, ~mask.hidden)


def test_step_benchmark_runs(tmp_path: Path) -> None:
    bench = step_bench.Bench(clips=5, steps=2, device=CPU, settings=SMALL, size=SIZE, plain_clips=2)
    report = step_bench.run(bench, rounds=1, picture=tmp_path / "roofline.svg")
    assert report.row(step_bench.PLAIN).items == 10
    assert report.row(step_bench.NAIVE).items == 4
    assert "smae / naive, both float32" in {figure.name for figure in report.figures}
    assert json.loads(json.dumps(report.to_json()))["name"] == "step"
    assert "<svg" in (tmp_path / "roofline.svg").read_text(encoding="utf-8")


def test_masking_benchmark_runs(tmp_path: Path) -> None:
    bench = masking_bench.Bench(items=2, device=CPU, frames=40, repeats=1)
    report = masking_bench.run(bench, rounds=1, picture=tmp_path / "shares.png")
    assert len(report.rows) == len(masking_bench.KINDS) + 3
    assert "motion-aware, torch / naive" in {figure.name for figure in report.figures}
    assert (tmp_path / "shares.png").read_bytes().startswith(b"\x89PNG")


def test_augment_benchmark_runs(tmp_path: Path) -> None:
    bench = augment_bench.Bench(items=3, clips=5, device=CPU, repeats=1)
    report = augment_bench.run(bench, rounds=1, picture=tmp_path / "shares.svg")
    assert [row.name for row in report.rows][:2] == ["joints, torch", "joints, numba"]
    assert "noise, numba / torch" in {figure.name for figure in report.figures}
    assert "bodies/s" in (tmp_path / "shares.svg").read_text(encoding="utf-8")


def test_limits_do_the_work_they_are_asked_for() -> None:
    devices.products(1.0, dtype=torch.float32, device=CPU)()
    devices.copies(2**20, device=CPU)()
    assert devices.pick("cpu") == CPU
    assert "threads" in devices.describe(CPU)["device"]


def test_traffic_counts_what_is_read_and_written_and_no_views() -> None:
    x, y = torch.ones(100), torch.ones(100)
    assert traffic(lambda: x.view(10, 10).t()) == 0
    assert traffic(lambda: x + y) == 3 * 400
