"""Objectives on several views, against naive float64 forms of their papers' equations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from smae.errors import ConfigError
from smae.models.masking import maskings
from smae.rng import Noise
from smae.skeleton import NTU25
from smae.testing import check_objective
from smae.testing.models import small_batch, small_builder
from smae.train.objectives import Objective, info_nce, objectives, spread_metrics
from smae.train.objectives.reconstruct import token_similarity
from smae.train.run_folder import Run
from tests.fakes import FakeStore
from tests.train.small import run_through, small_config, small_loop, two_ranks

SMALL = {"hidden": 16, "out": 8}
NAMES = {
    "simclr": SMALL,
    "moco": {**SMALL, "queue": 16},
    "vicreg": SMALL,
    "nn-tune": {**SMALL, "queue": 16, "predictor": 16, "frozen": 0.0},
    "skeletonmae": {"contrast": 0.3, "uniformity": 0.02},
}


def built(name: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    kind: Any = objectives.get(name)
    return kind(kind.Config(**{**NAMES[name], **settings}), small_builder()).train()


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=-1)


def naive_info_nce(z: NDArray[np.float64], temperature: float) -> float:
    """Equation 1 of SimCLR, term by term, for anchors [V, B, D]."""
    views, clips, _ = z.shape
    losses = []
    for v in range(views):
        for i in range(clips):
            others = [(w, k) for w in range(views) for k in range(clips) if (w, k) != (v, i)]
            total = sum(math.exp(z[v, i] @ z[w, k] / temperature) for w, k in others)
            for w in range(views):
                if w != v:
                    losses.append(-math.log(math.exp(z[v, i] @ z[w, i] / temperature) / total))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("views", [2, 3, 4])
def test_info_nce_is_the_papers_equation(views: int) -> None:
    z = unit(views, 5, 8)
    loss = info_nce(z, z, torch.arange(5), temperature=0.1)
    assert float(loss) == pytest.approx(naive_info_nce(z.numpy(), 0.1), rel=1e-5)


def test_info_nce_of_two_ranks_is_that_of_the_whole_batch() -> None:
    z = unit(2, 6, 8)
    parts = [info_nce(z[:, own], z, own, temperature=0.1) for own in (torch.arange(4), torch.arange(4, 6))]
    whole = info_nce(z, z, torch.arange(6), temperature=0.1)
    assert float(parts[0] * 4 / 6 + parts[1] * 2 / 6) == pytest.approx(float(whole), rel=1e-6)


def test_vicreg_is_the_papers_three_terms() -> None:
    made = built("vicreg")
    features = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1))
    z = made.project(features).double().detach().numpy()
    rows, width = z.shape[1:]
    expected = 25.0 * ((z[0] - z[1]) ** 2).mean()
    for view in z:
        covariance = np.cov(view, rowvar=False)
        deviations = np.sqrt(np.diag(covariance) + 1e-4)
        expected += 25.0 * np.maximum(0, 1 - deviations).mean() / 2
        expected += (covariance**2).sum() / width / 2 - (np.diag(covariance) ** 2).sum() / width / 2
    batch = small_batch(NTU25, frames=24, clips=rows, views=2)
    assert float(made.compare(features, batch, batch.noise(0)).loss.detach()) == pytest.approx(expected, rel=1e-4)


def test_moco_compares_with_the_other_views_key_and_the_queue_but_not_with_the_clips_own_keys() -> None:
    made = built("moco")
    batch = small_batch(NTU25, frames=24, views=2)
    made(batch, batch.noise(0))
    made.after_step(0.5)
    assert made.queue_clip[:4].tolist() == batch.index.tolist()
    assert made.queue_clip[4:].eq(-1).all()

    with torch.no_grad():
        mask = made.masking(torch.zeros(len(batch.x), made.encoder.grid.tokens, 1), batch.noise(0))
        features, keys = (
            batch.clip_means(encoder(batch.x, mask).mean(1)) for encoder in (made.encoder, made.key_encoder)
        )
        z = torch.nn.functional.normalize(made.project(features), dim=-1).double().numpy()
        k = torch.nn.functional.normalize(made.key_head(keys.flatten(0, 1)), dim=-1).double().numpy().reshape(2, 4, -1)
    queue, losses = made.queue.double().numpy(), []
    for view in range(2):
        for i in range(4):
            candidates = [z[view, i] @ k[1 - view, i]]
            candidates += [z[view, i] @ row for row, clip in zip(queue, made.queue_clip, strict=True)
                           if clip != batch.index[i]]  # fmt: skip
            logits = np.array(candidates) / made.config.temperature
            losses.append(np.log(np.exp(logits).sum()) - logits[0])
    assert float(made(batch, batch.noise(0)).loss.detach()) == pytest.approx(np.mean(losses), rel=1e-4)


def test_nn_tune_moves_the_upper_blocks_alone_and_its_neighbour_is_never_the_clip_itself() -> None:
    made = built("nn-tune", frozen=0.5)
    frozen = {name for name, weight in made.encoder.named_parameters() if not weight.requires_grad}
    assert "embed.weight" in frozen
    assert "norm.weight" not in frozen
    assert made.lr_scale("encoder.blocks.0.mlp.0.weight") == 1.0
    assert made.lr_scale("encoder.embed.weight") == pytest.approx(0.45)
    batch = small_batch(NTU25, frames=24, views=2)
    made(batch, batch.noise(0))
    made.after_step(0.1)
    # The queue now holds the clips' own projections, the closest of all: they must not be picked.
    z = torch.nn.functional.normalize(made.project(torch.zeros(2, 4, 16)), dim=-1)
    assert made.queue_clip[:4].tolist() == batch.index.tolist()
    assert z.shape == (2, 4, 8)
    before = float(made(batch, batch.noise(0)).loss.detach())
    made.queue[4:] = -made.queue[4:]
    assert float(made(batch, batch.noise(0)).loss.detach()) != before


def test_token_similarity_is_the_mean_over_pairs() -> None:
    features = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    pairs = [
        float(torch.cosine_similarity(clip[i], clip[j], dim=0)) ** 2
        for clip in features for i in range(5) for j in range(5) if i != j
    ]  # fmt: skip
    assert float(token_similarity(features)) == pytest.approx(np.mean(pairs), rel=1e-9)


def test_metrics_show_a_collapse() -> None:
    spread = spread_metrics(torch.randn(2, 500, 8, generator=torch.Generator().manual_seed(3)))
    assert float(spread["spread"]) == pytest.approx(1, abs=0.05)
    assert float(spread["rank"]) == pytest.approx(8, abs=0.5)
    alike = spread_metrics(torch.ones(2, 50, 8) + 1e-4 * torch.randn(2, 50, 8))
    assert float(alike["spread"]) < 0.01
    line = torch.randn(2, 50, 1) * torch.ones(8) + torch.tensor([1.0, *[0.0] * 7])
    assert float(spread_metrics(line)["rank"]) < 2


@pytest.mark.parametrize("name", list(NAMES))
def test_each_objective_on_views_satisfies_the_contract(name: str) -> None:
    check_objective(objectives.get(name), settings=NAMES[name])


@pytest.mark.parametrize("name", list(NAMES))
def test_a_run_on_views_is_resumed_to_the_same_bits(name: str, tmp_path: Path) -> None:
    store = FakeStore.random(clips=12, seed=1)
    config = small_config(objective={"name": name, **NAMES[name]}, train={"epochs": 2})
    if name == "skeletonmae":
        config = small_config(objective={**NAMES[name], "normalise": "none"}, train={"epochs": 2})
    made: list[Objective] = []
    for folder, stop in (("whole", 0), ("parts", 2)):
        loop = small_loop(store, Run(tmp_path / folder), config)
        assert loop.loader._views
        assert loop.objective.views == 2
        if stop:
            with pytest.raises(Exception, match="stopped after step"):
                run_through(loop, stop_at=stop)
            from smae.train.checkpoint import load_latest

            loop = small_loop(store, Run(tmp_path / folder), config)
            loop.resume(load_latest(loop.run.checkpoints))
        run_through(loop)
        made.append(loop.objective)
    first, second = (one.state_dict() for one in made)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_a_step_that_compares_clips_cannot_be_split(tmp_path: Path) -> None:
    config = small_config(objective={"name": "simclr", **SMALL}, train={"accumulate": 2})
    with pytest.raises(ConfigError, match="cannot be split"):
        small_loop(FakeStore.random(clips=12, seed=1), Run(tmp_path / "run"), config)


def test_a_view_may_be_whole_but_what_is_predicted_must_be_hidden() -> None:
    none: Any = maskings.get("none")
    builder = small_builder(masking=none.Config(name="none"))
    check_objective(objectives.get("simclr"), settings=SMALL, builder=builder)
    with pytest.raises(ConfigError, match=r"masking\.name=none hides no token"):
        check_objective(objectives.get("skeletonmae"), builder=builder)


def test_noise_of_a_later_view_is_its_own() -> None:
    clip = torch.tensor([3, 4])
    views = [Noise(1, 2, clip, 0, view).uniform("mask", 8) for view in range(3)]
    assert torch.equal(views[0], Noise(1, 2, clip).uniform("mask", 8))
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(views[1], views[2])


RANKS = """
import sys
import torch
from torch import distributed
from smae.train.distributed import gather_ranks
from smae.train.objectives import info_nce

rank, rendezvous, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
z = torch.nn.functional.normalize(torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
part = slice(0, 3) if rank == 0 else slice(3, 5)
own = z[:, part].clone().requires_grad_()
loss = info_nce(own, *gather_ranks(own), temperature=0.1) * own.shape[1] / 5
loss.backward()
torch.save((loss.detach(), own.grad), f"{out}.{rank}")
distributed.destroy_process_group()
"""


def test_two_processes_have_the_loss_and_the_gradients_of_one(tmp_path: Path) -> None:
    parts = two_ranks(RANKS, tmp_path)
    drawn = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    z = torch.nn.functional.normalize(drawn, dim=-1).requires_grad_()
    whole = info_nce(z, z, torch.arange(5), temperature=0.1)
    whole.backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    torch.testing.assert_close(parts[0][0] + parts[1][0], whole.detach())
    torch.testing.assert_close(torch.cat([grad for _, grad in parts], 1), z.grad)
