"""Joints that a recording lacks: no token of theirs is seen, and no loss depends on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from smae.data.loader import Batch
from smae.eval.features import Pooled, raw_coordinates
from smae.eval.probes.finetune import Classifier
from smae.models import Grid, gather, patchify
from smae.models.encoders import encode_measured, encoders
from smae.models.masking import mask_from_kept, mask_measured, mask_tokens, maskings, missing_tokens
from smae.rng import Noise
from smae.skeleton import NTU25
from smae.testing.models import small_batch
from smae.train.config import build_objective
from smae.train.loop import micro_batches
from smae.train.objectives import Objective
from tests.train.small import small_config

FRAMES, LEAST = 24, 19
GRID = Grid.cut(FRAMES, joints=25, patch=4)


def poor_batch(*, views: int = 1) -> Batch:
    """Return a batch whose even clips lack nothing, and whose odd ones lack six joints."""
    batch = small_batch(NTU25, frames=FRAMES, views=views, clips=6)
    missing = torch.zeros(len(batch.x), 25, dtype=torch.bool)
    missing[batch.clip % 2 == 1] = torch.arange(25) % 4 == 1
    return replace(batch, missing=missing, least_joints=LEAST)


def changed(batch: Batch, by: float) -> Batch:
    """Return a batch with other values of its missing joints."""
    assert batch.missing is not None
    return replace(batch, x=batch.x + by * batch.missing[:, None, :, None])


SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("spatial-temporal", {}),
    ("spatial-temporal", {"keep_joints": 1.0}),
    ("random", {"keep": 0.1}),
    ("random", {"keep": 0.9}),
    ("tube", {"length": 3, "keep": 0.3}),
    ("body-part", {"length": 3}),
    ("motion-aware", {}),
    ("joints-in-frames", {}),
    ("none", {}),
]


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_no_masking_shows_a_missing_joint_and_other_clips_are_masked_as_ever(name: str, settings: Any) -> None:
    batch = poor_batch()
    assert batch.missing is not None
    made: Any = maskings.get(name)
    masking, tokens, noise = (
        made(made.Config(name=name, **settings), GRID, NTU25),
        patchify(batch.x, GRID),
        batch.noise(3),
    )
    plain, _ = mask_tokens(masking, tokens, noise)
    mask, visible = mask_measured(masking, tokens, noise, missing=batch.missing, least_joints=LEAST)
    lost = missing_tokens(batch.missing, GRID.times)
    assert mask.missing is not None
    assert torch.equal(mask.missing, lost)
    assert not lost.gather(1, mask.keep).any()
    assert mask.keep.shape[1] == min(plain.keep.shape[1], LEAST * GRID.times)
    assert torch.equal(torch.cat([mask.keep, mask.hide], 1).sort(1).values, torch.arange(150).expand(len(tokens), -1))
    assert torch.equal(visible, tokens.gather(1, mask.keep[..., None].expand_as(visible)))
    rich = (batch.clip % 2 == 0).nonzero()[:, 0]
    shown = plain.hidden.logical_not()[rich]
    if mask.keep.shape[1] == plain.keep.shape[1]:
        assert torch.equal(mask.keep[rich], plain.keep[rich])
    assert bool((shown | mask.hidden[rich]).all())
    again, _ = mask_measured(masking, tokens, noise, missing=batch.missing, least_joints=LEAST)
    assert torch.equal(again.keep, mask.keep)


def test_whole_joints_stay_whole() -> None:
    made: Any = maskings.get("spatial-temporal")
    masking = made(made.Config(name="spatial-temporal", keep_joints=0.32, keep_frames=0.5), GRID, NTU25)
    batch = poor_batch()
    replaced = 0
    for seed in range(8):
        plain, _ = mask_tokens(masking, patchify(batch.x, GRID), batch.noise(seed))
        mask, _ = mask_measured(
            masking, patchify(batch.x, GRID), batch.noise(seed), missing=batch.missing, least_joints=LEAST
        )
        shown = mask.hidden.logical_not().view(-1, GRID.times, 25)
        assert torch.equal(shown.any(2), plain.hidden.logical_not().view(-1, GRID.times, 25).any(2))
        assert torch.equal(shown, shown.any(2)[:, :, None] & shown.any(1)[:, None])
        assert shown.any(1).sum(1).eq(8).all()
        replaced += int((mask.keep != plain.keep).any(1).sum())
    assert replaced > 0


OBJECTIVES: list[dict[str, Any]] = [
    *({"objective": {"name": "skeletonmae", "normalise": by}} for by in ("token", "clip", "movement", "body", "none")),
    {"objective": {"name": "skeletonmae", "contrast": 0.1, "uniformity": 0.1, "predict": 0.3}},
    {"objective": {"name": "mamp"}, "masking": {"name": "motion-aware", "keep": 0.2}},
    {"objective": {"name": "s-jepa"}},
    {"objective": {"name": "simclr"}, "masking": {"name": "none"}},
    {"objective": {"name": "moco", "queue": 16}},
    {"objective": {"name": "vicreg", "out": 16, "hidden": 16}},
    *(
        {
            "objective": {
                "name": "slim", "hidden": 16, "out": 8, "prototypes": 16, "local_crops": ((0.3, 0.6),),
                "local_shorter": (2,), "masked": 1.0,
            },
            "encoder": {"name": name, "dim": 16, "depth": 1, "heads": 2, "patch": 4},
        }
        for name in ("vit", "slim")
    ),
    *(
        {"encoder": {"name": name, "patch": 4, **size}}
        for name, size in (("sttformer", {"dim": 16}), ("graph", {"dim": 16, "depth": 1}))
    ),
]  # fmt: skip


def loss_and_gradient(objective: Objective, batch: Batch) -> tuple[float, float]:
    torch.manual_seed(0)
    objective.zero_grad()
    loss = objective(batch, batch.noise(5)).loss
    loss.backward()
    norms = [p.grad.double().norm() for p in objective.parameters() if p.grad is not None]
    return float(loss.detach()), float(torch.stack(norms).norm())


@pytest.mark.parametrize("sections", OBJECTIVES, ids=str)
def test_no_objective_depends_on_what_a_missing_joint_holds(sections: dict[str, Any]) -> None:
    config = small_config(augment={"frames": FRAMES}, **sections)
    objective = build_objective(config, NTU25).train()
    assert objective.hides_missing
    batch = poor_batch(views=objective.views)
    first = loss_and_gradient(objective, batch)
    assert loss_and_gradient(objective, changed(batch, 7.0)) == first
    # It is not that nothing matters.
    moved = replace(batch, x=batch.x * (1 + 0.1 * torch.arange(25)[:, None]))
    assert loss_and_gradient(objective, moved) != first


def test_micro_batches_keep_what_is_missing() -> None:
    config = small_config(augment={"frames": FRAMES}, objective={"normalise": "movement"})
    objective, batch = build_objective(config, NTU25), poor_batch()
    whole = objective(batch, batch.noise(5)).loss
    parts = list(micro_batches(batch, 3))
    assert [len(part.missing) for part in parts] == [len(part.x) for part in parts]
    split = sum(objective(part, part.noise(5)).loss * len(part.x) for part in parts) / len(batch.x)
    torch.testing.assert_close(split, whole, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["vit", "slim", "sttformer", "graph"])
def test_features_of_an_evaluation_leave_missing_joints_out(name: str) -> None:
    torch.manual_seed(1)
    kind: Any = encoders.get(name)
    depth = {} if name == "sttformer" else {"depth": 1}
    encoder = kind(kind.Config(name=name, patch=4, dim=16, **depth), frames=FRAMES, layout=NTU25).eval()
    batch = poor_batch()
    assert batch.missing is not None
    with torch.no_grad():
        features = encode_measured(encoder, batch.x, batch.missing)
        lost = missing_tokens(batch.missing, GRID.times)
        assert not features[lost].any()
        rich = ~batch.missing.any(1)
        if name != "sttformer":
            torch.testing.assert_close(features[rich], encoder(batch.x[rich]), rtol=1e-4, atol=1e-5)
        pools = ["mean", "joints", "tokens", *(["class"] if name == "slim" else [])]
        for pool in pools:
            extract: Any = Pooled(encoder, pool)  # type: ignore[arg-type]
            assert extract(batch).shape == (6, extract.width)
            assert torch.equal(extract(batch), extract(changed(batch, 3.0))), pool
        mean = Pooled(encoder)(replace(batch, clip=torch.arange(len(batch.x)), index=torch.arange(len(batch.x))))
        poor = int((~rich).nonzero()[0])
        torch.testing.assert_close(mean[poor], features[poor][~lost[poor]].mean(0), rtol=1e-4, atol=1e-5)
    assert not torch.equal(raw_coordinates(batch), raw_coordinates(changed(batch, 3.0)))


@pytest.mark.parametrize("keep", [1.0, 0.9])
def test_fine_tuning_leaves_missing_joints_out(keep: float) -> None:
    torch.manual_seed(1)
    kind: Any = encoders.get("vit")
    encoder = kind(kind.Config(name="vit", patch=4, dim=16, depth=1, heads=2), frames=FRAMES, layout=NTU25)
    model = Classifier(encoder, classes=3, hidden=16, dropout=0.0, keep=keep).train()
    batch = poor_batch()
    outputs = []
    for one in (batch, changed(batch, 5.0)):
        torch.manual_seed(2)
        outputs.append(model(one))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("poor", [False, True])
def test_tokens_in_groups_do_not_see_one_another(poor: bool) -> None:
    torch.manual_seed(1)
    kind: Any = encoders.get("vit")
    config = kind.Config(name="vit", patch=4, dim=16, depth=1, heads=2, feature_groups=5)
    encoder = kind(config, frames=FRAMES, layout=NTU25).eval()
    batch = poor_batch()
    missing = batch.missing if poor else None
    with torch.no_grad():
        features = encode_measured(encoder, batch.x, missing, groups=5)
        assert torch.equal(Pooled(encoder, "tokens").vectors(batch.x, missing), features.flatten(1))
        # Of another batch, alone: the same groups.
        some = slice(1, 3)
        one = encode_measured(encoder, batch.x[some], None if missing is None else missing[some], groups=5)
        torch.testing.assert_close(one, features[some], rtol=1e-5, atol=1e-6)
        for item in range(2):
            shown = list(range(GRID.tokens))
            if missing is not None:
                lost = missing_tokens(missing, GRID.times)[item]
                shown = [token for token in shown if not lost[token]]
            # Naive: each token beside those of its group, in both draws of groups.
            expected = torch.zeros(GRID.tokens, 16)
            numbers = Noise(0, 0, torch.arange(2)).uniform("groups", len(shown)).tolist()
            for draw in numbers:
                order = sorted(range(len(shown)), key=lambda at, draw=draw: draw[at])
                for part in np.array_split(order, 5):
                    keep = torch.tensor(sorted(shown[at] for at in part))[None]
                    seen = gather(patchify(batch.x[item : item + 1], GRID), keep)
                    expected[keep[0]] += encoder(seen, mask_from_kept(keep, GRID))[0] / 2
            torch.testing.assert_close(features[item], expected, rtol=1e-4, atol=1e-5)
