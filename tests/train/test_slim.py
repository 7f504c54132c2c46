"""SLiM against naive float64 forms of its terms: assignments, crops, hidden tokens, spread, tubes."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from smae.data.loader.augment import ViewCrop
from smae.errors import ConfigError
from smae.models.encoders import encoders
from smae.rng import Noise
from smae.skeleton import KINECT20, NTU25, Layout
from smae.testing import check_objective
from smae.testing.models import small_batch, small_builder
from smae.train.checkpoint import load_latest
from smae.train.objectives import objectives
from smae.train.objectives.slim import (
    TUBES,
    cross_entropy_of_crops,
    koleo,
    pick_bodies,
    places_in_parts,
    semantic_tubes,
    shorten,
    sinkhorn,
)
from smae.train.run_folder import Run
from tests.fakes import FakeStore
from tests.train.small import log_of, run_through, small_config, small_loop, two_ranks

SMALL = {
    "hidden": 16, "out": 8, "prototypes": 16, "local_crops": [[0.4, 0.7], [0.1, 0.4]], "local_shorter": [2, 4],
}  # fmt: skip
ENCODER = {"name": "slim", "dim": 16, "depth": 1, "heads": 2, "patch": 4}
Array = NDArray[np.float64]


def built(encoder: str = "slim", **settings: Any) -> Any:
    torch.manual_seed(0)
    kind: Any = objectives.get("slim")
    builder = small_builder()
    if encoder == "slim":
        object.__setattr__(builder, "encoder_config", encoders.get("slim").Config(**ENCODER))  # type: ignore[attr-defined]
    return kind(kind.Config(**{**SMALL, **settings}), builder).train()


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosines(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def naive_sinkhorn(scores: Array, temperature: float, iterations: int) -> Array:
    """SwAV's algorithm as its appendix prints it: Q sums to 1, its rows to 1 / K, its columns to 1 / B."""
    q = np.exp(scores / temperature).T
    q = q / q.sum()
    kinds, samples = q.shape
    for _ in range(iterations):
        for kind in range(kinds):
            q[kind] /= q[kind].sum() * kinds
        for sample in range(samples):
            q[:, sample] /= q[:, sample].sum() * samples
    return (q * samples).T


@pytest.mark.parametrize("iterations", [1, 3])
def test_assignments_are_the_published_algorithm(iterations: int) -> None:
    scores = cosines(12, 5)
    expected = naive_sinkhorn(scores.numpy(), 0.05, iterations)
    found = sinkhorn(scores, 0.05, iterations=iterations)
    assert np.abs(found.numpy() - expected).max() < 1e-12
    assert np.abs(sinkhorn(scores.float(), 0.05, iterations=iterations).numpy() - expected).max() < 1e-5
    assert np.abs(sinkhorn(scores, 0.05, iterations=100).sum(0).numpy() - 12 / 5).max() < 1e-6


@pytest.mark.parametrize("temperature", [0.02, 1.0])
def test_assignments_of_alike_or_of_no_rows_stay_finite(temperature: float) -> None:
    assert bool(sinkhorn(torch.full((6, 4), -1.0), temperature).isfinite().all())
    assert sinkhorn(torch.zeros(0, 4), temperature).shape == (0, 4)


def test_the_loss_of_crops_is_over_pairs_of_a_student_and_another_teacher_crop() -> None:
    scores, targets = cosines(4, 3, 6), sinkhorn(cosines(6, 6, seed=1), 0.1).view(2, 3, 6)
    losses = []
    for teacher, student in product(range(2), range(4)):
        if teacher == student:
            continue
        for clip in range(3):
            logits = scores[student, clip].numpy() / 0.1
            logs = logits - math.log(sum(math.exp(value) for value in logits))
            losses.append(-sum(t * s for t, s in zip(targets[teacher, clip].tolist(), logs, strict=True)))
    assert len(losses) == 6 * 3
    found = cross_entropy_of_crops(scores, targets, temperature=0.1)
    assert float(found) == pytest.approx(sum(losses) / len(losses), rel=1e-12)


def test_koleo_is_the_log_of_the_distance_to_the_nearest_other() -> None:
    features = drawn(2, 5, 4)
    expected = 0.0
    for view in features.numpy():
        unit = view / np.linalg.norm(view, axis=1, keepdims=True)
        for i in range(5):
            nearest = min(np.linalg.norm(unit[i] - unit[j]) for j in range(5) if j != i)
            expected -= math.log(nearest + 1e-6) / 5
    assert float(koleo(features)) == pytest.approx(expected, rel=1e-9)


def test_equal_features_give_finite_gradients() -> None:
    features = torch.ones(2, 3, 4, requires_grad=True)
    koleo(features).backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    assert bool(features.grad.isfinite().all())


def naive_tubes(layout: Layout, draws: Array, *, times: int, count: int, most: int) -> set[int]:
    """One tube after another, as the docstring says."""
    hidden: set[int] = set()
    parts = list(layout.parts.values())
    for which, width, place, area, begin in draws:
        joints = parts[int(which * len(parts))]
        wide = 1 + int(width * len(joints))
        first = int(place * (len(joints) - wide + 1))
        left = min(most, count - len(hidden))
        long = min(times, max(1, round(float(np.float32(times + area * (left - times)) / np.float32(wide)))))
        top = int(begin * (times - long + 1))
        tube = {t * len(layout) + j for t in range(top, top + long) for j in joints[first : first + wide]}
        if 0 < len(tube - hidden) <= left:
            hidden |= tube
    return hidden


@pytest.mark.parametrize("layout", [NTU25, KINECT20], ids=lambda layout: layout.name)
@pytest.mark.parametrize("times", [8, 4, 1])
def test_tubes_are_the_naive_loop(layout: Layout, times: int) -> None:
    items, tokens = 40, times * len(layout)
    noise = Noise(3, 1, torch.arange(items))
    count = (torch.linspace(0, 0.9, items) * tokens).long()
    most = 4 * len(layout)
    hidden = semantic_tubes(noise, places_in_parts(layout), times=times, count=count, most=most)
    draws = noise.uniform("tubes", 5 * TUBES).reshape(items, TUBES, 5).numpy()
    for item in range(items):
        expected = naive_tubes(layout, draws[item], times=times, count=int(count[item]), most=most)
        assert set(hidden[item].nonzero()[:, 0].tolist()) == expected
    assert bool((hidden.sum(1) <= count).all())
    assert float(hidden.sum()) > 0.9 * float(count.sum()), "what no tube fits is little"
    one = Noise(3, 1, torch.arange(items)[7:8])
    alone = semantic_tubes(one, places_in_parts(layout), times=times, count=count[7:8], most=most)
    assert torch.equal(alone[0], hidden[7]), "an item's tubes do not depend on the batch around it"


def test_one_body_of_a_clip_is_drawn_the_same_in_all_of_its_crops() -> None:
    batch = small_batch(NTU25, frames=24, views=4, clips=3)
    seen = set()
    for epoch in range(20):
        object.__setattr__(batch, "epoch", epoch)
        items = pick_bodies(batch, batch.noise(0)).view(4, 3)
        assert batch.view is not None
        for view in range(4):
            assert batch.clip[items[view]].tolist() == [0, 1, 2]
            assert batch.view[items[view]].eq(view).all()
        bodies = batch.body[items]
        assert bool((bodies == bodies[0]).all())
        seen.add(int(bodies[0, 0]))
    assert seen == {0, 1}


def test_shorter_crops_are_linear_in_time() -> None:
    x = torch.arange(8.0)[None, :, None, None].expand(1, 8, 2, 3)
    assert shorten(x, 4)[0, :, 1, 2].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert shorten(x, 8) is x


def test_local_crops_lie_in_their_global_one_and_have_fewer_frames() -> None:
    made = built()
    assert made.views == 6
    inside = [ViewCrop(share, 8, within) for share in ((0.4, 0.7), (0.1, 0.4)) for within in (0, 1)]
    inside[:2] = [ViewCrop((0.4, 0.7), 12, within) for within in (0, 1)]
    assert made.crops == (None, None, *inside)
    assert made.lengths == [24, 24, 12, 12, 8, 8]
    assert built("vit").lengths == [24] * 6, "an encoder of clips of one length sees all frames"


def test_hidden_tokens_follow_the_teacher_item_by_item() -> None:
    made = built(masked=1.0)
    tokens, taught = (torch.randn(3, 8, 16, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    hidden = torch.zeros(3, 8, dtype=torch.bool)
    hidden[0, :3] = hidden[2, 5] = True
    with torch.no_grad():
        student = (made.token_head(tokens) / 0.1).double().softmax(-1).log()
        teacher = made.teacher_token_head(taught[hidden]).double()
        targets = naive_sinkhorn(teacher.numpy(), 0.04, 3)
        rows = (-torch.from_numpy(targets) * student[hidden]).sum(-1)
        expected = (rows[:3].mean() + rows[3]) / 3
        assert float(made._token_loss(tokens, taught, hidden)) == pytest.approx(float(expected), rel=1e-4)
        assert float(made._token_loss(tokens, taught, hidden & False)) == 0


def test_the_teacher_moves_and_its_temperature_rises() -> None:
    made = built(momentum=0.9, teacher_warmup=0.5)
    before = made.teacher.embed.weight.clone()
    with torch.no_grad():
        made.encoder.embed.weight.add_(1.0)
    made.after_step(0.5)
    # The cosine is half-way: momentum 0.95.
    torch.testing.assert_close(made.teacher.embed.weight, before + 0.05)
    assert float(made.progress) == 0.5
    scores = made.teacher_class_head(drawn(2, 3, 16).float())
    assigned = made._assign(made.teacher_class_head, drawn(2, 3, 16).float())
    expected = naive_sinkhorn(scores.flatten(0, 1).double().numpy(), 0.07, 3)
    assert np.abs(assigned.flatten(0, 1).numpy() - expected).max() < 1e-4
    made.after_step(1.0)
    assert torch.allclose(made.teacher.embed.weight, before + 0.05), "at the end it stands still"


@pytest.mark.parametrize("encoder", ["slim", "vit"])
def test_it_satisfies_the_contract(encoder: str) -> None:
    builder = small_builder()
    if encoder == "slim":
        object.__setattr__(builder, "encoder_config", encoders.get("slim").Config(**ENCODER))  # type: ignore[attr-defined]
    check_objective(objectives.get("slim"), settings=SMALL, builder=builder)


def test_every_local_crop_has_a_length() -> None:
    with pytest.raises(ConfigError, match=r"objective\.local_shorter: expected 2 numbers"):
        built(local_shorter=[2])


def test_a_run_is_resumed_to_the_same_bits_and_learns(tmp_path: Path) -> None:
    store = FakeStore.random(clips=12, seed=1)
    config = small_config(objective={"name": "slim", **SMALL}, encoder=ENCODER, train={"epochs": 3})
    states = []
    for folder, stop in (("whole", 0), ("parts", 3)):
        loop = small_loop(store, Run(tmp_path / folder), config)
        if stop:
            with pytest.raises(Exception, match="stopped after step"):
                run_through(loop, stop_at=stop)
            loop = small_loop(store, Run(tmp_path / folder), config)
            loop.resume(load_latest(loop.run.checkpoints))
        run_through(loop)
        states.append(loop.objective.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert log_of(Run(tmp_path / "whole")) == log_of(Run(tmp_path / "parts"))
    assert {"class", "hidden", "koleo", "prototypes", "spread", "rank"} <= set(log_of(Run(tmp_path / "whole"))[0])


RANKS = """
import sys
import torch
from torch import distributed
from tests.train.test_slim import built, small_batch, NTU25
from smae.train.loop import micro_batches

rank, rendezvous, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
batch = list(micro_batches(small_batch(NTU25, frames=24, views=6, clips=5), 2))[rank]
made = built()
loss = made(batch, batch.noise(3)).loss * batch.clips / 5
loss.backward()
grads = {name: weight.grad for name, weight in made.named_parameters() if weight.grad is not None}
torch.save((loss.detach(), grads), f"{out}.{rank}")
distributed.destroy_process_group()
"""


def test_two_processes_have_the_loss_and_the_gradients_of_one(tmp_path: Path) -> None:
    (one, first), (two, second) = two_ranks(RANKS, tmp_path)
    batch = small_batch(NTU25, frames=24, views=6, clips=5)
    made = built()
    whole = made(batch, batch.noise(3)).loss
    whole.backward()
    # Hidden tokens are assigned in the order of ranks, not of crops: sums in another order.
    torch.testing.assert_close(one + two, whole.detach())
    for name, weight in made.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(first[name] + second[name], weight.grad, atol=1e-5, rtol=1e-3)
