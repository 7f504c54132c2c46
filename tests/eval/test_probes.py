"""Probes: neighbours drawn by hand, a line that separates what can be separated, fine-tuning that learns."""

from __future__ import annotations

import copy
import signal
from typing import Any

import numpy as np
import pytest
import torch

from smae import interrupts, progress
from smae.errors import Interrupted
from smae.eval.probes import ProbeContext, probes, score
from smae.eval.probes.finetune import Classifier, classify, mean_over_time, set_drop_path
from smae.eval.probes.linear import knn_on, linear_on, neighbour_votes
from smae.train.config import build_objective
from tests.fakes import FakeStore
from tests.train.small import small_config, small_context

TOY = FakeStore.toy(clips=60, classes=4, seed=1)

# Seen from above, as directions: class 0 lies east, class 1 north, class 2 west.
GALLERY = torch.tensor([[5.0, 0.1], [9.0, -1.0], [0.1, 3.0], [-0.2, 7.0], [-2.0, 0.0]])
LABEL = torch.tensor([0, 0, 1, 1, 2])


@pytest.mark.parametrize(
    ("query", "k", "expected"),
    [
        ([1.0, 0.0], 1, 0),
        ([100.0, 1.0], 1, 0),
        ([0.0, 0.1], 1, 1),
        ([-1.0, 0.1], 1, 2),
        ([-1.0, 0.2], 3, 1),  # its nearest is of class 2, its next two of class 1
        ([1.0, 0.8], 4, 0),  # two votes each: the nearer ones win
        ([0.8, 1.0], 4, 1),
    ],
)
def test_neighbours_vote_as_drawn(query, k, expected):
    votes = neighbour_votes(torch.tensor([query]), GALLERY, LABEL, k=k, classes=3)
    assert votes.shape == (1, 3)
    assert int(votes.argmax()) == expected


def test_votes_count_before_nearness():
    gallery, label = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]), torch.tensor([0, 1, 1])
    assert int(neighbour_votes(torch.tensor([[1.0, 0.0]]), gallery, label, k=3, classes=2).argmax()) == 1


def test_scores_count_the_first_and_the_first_five():
    logits = torch.tensor([[9, 1, 2, 3, 4, 5], [9, 8, 7, 6, 5, 0], [0, 1, 2, 3, 4, 9], [1, 2, 3, 4, 5, 0]]).float()
    found = score(logits, torch.tensor([0, 5, 5, 3]))
    assert (found.top1, found.top5) == (0.5, 0.75)
    assert found.predicted.tolist() == [0, 0, 5, 4]
    assert found.label.tolist() == [0, 5, 5, 3]
    assert score(logits[:, :5], torch.tensor([0, 0, 0, 0])).top5 is None


def first_joint_class(batch):
    """Features that hold the class, beside noise that a hundred clips cannot drown it in."""
    noise = torch.randn(batch.clips, 4, generator=torch.Generator().manual_seed(int(batch.index.sum())))
    return torch.cat([torch.nn.functional.one_hot(batch.label, 4) * 3.0, noise], 1)


def pure_noise(batch):
    rows = [torch.randn(8, generator=torch.Generator().manual_seed(int(number))) for number in batch.index]
    return torch.stack(rows)


@pytest.mark.parametrize("views", [0, 2, 20])
def test_a_line_separates_what_can_be_separated(views):
    found = linear_on(first_joint_class, small_context(TOY, linear={"views": views}))
    assert found.top1 == 1
    assert found.label.tolist() == TOY.clips.label[TOY.split("all").test].tolist()


def test_a_line_does_not_separate_noise():
    store = FakeStore.toy(clips=300, classes=4, seed=1, frames=8)
    found = linear_on(pure_noise, small_context(store, linear={"views": 0}))
    # 100 test clips, chance 0.25: standard deviation 0.043
    assert 0.05 < found.top1 < 0.45


def test_neighbours_recognise_separable_features_and_rank_nothing():
    found = knn_on(first_joint_class, small_context(TOY, knn={"k": 3}))
    assert found.top1 == 1
    assert found.top5 is None


def test_more_neighbours_than_clips_are_all_of_them():
    assert knn_on(first_joint_class, small_context(TOY, knn={"k": 10_000})).predicted.shape == (20,)


def encoder_of(context):
    return build_objective(context.config, context.store.layout).encoder


@pytest.mark.parametrize("name", ["linear", "knn", "finetune"])
def test_probes_leave_the_encoder_as_it_is_and_repeat_themselves(name):
    first, second = (small_context(TOY, finetune={"epochs": 1}, linear={"epochs": 3}) for _ in range(2))
    encoder = encoder_of(first)
    before = copy.deepcopy(encoder.state_dict())
    one, two = probes.get(name)(encoder, first), probes.get(name)(encoder, second)
    assert all(torch.equal(tensor, before[key]) for key, tensor in encoder.state_dict().items())
    assert np.array_equal(one.predicted, two.predicted)
    assert one.top1 == two.top1


def test_fine_tuning_beats_chance():
    context = small_context(TOY, augment={"rotate": 0})
    found = probes.get("finetune")(encoder_of(context), context)
    assert found.top1 > 0.6


def test_scratch_follows_its_own_settings_and_transfer_those_of_fine_tuning():
    settings = {"epochs": 2, "batch": 16, "hidden": 8}
    context = small_context(TOY, finetune={"epochs": 1, "hidden": 16}, scratch=settings)
    encoder = encoder_of(context)
    alike = small_context(TOY, finetune={**context.config.scratch.model_dump()})
    found = {name: probes.get(name)(encoder, context) for name in ("finetune", "transfer", "scratch")}
    assert context.config.scratch.layer_decay == 1
    assert np.array_equal(found["scratch"].logits, probes.get("finetune")(encoder, alike).logits)
    assert np.array_equal(found["transfer"].logits, found["finetune"].logits)
    assert not np.array_equal(found["scratch"].logits, found["finetune"].logits)


def test_the_classifiers_layers_learn_by_their_depth():
    config = small_config(encoder={"depth": 2})
    encoder = build_objective(config, TOY.layout).encoder
    scale = Classifier(encoder, classes=4, hidden=8, dropout=0).lr_scale(0.5)
    assert scale["head.0.weight"] == 1
    assert scale["encoder.norm.weight"] == scale["encoder.blocks.1.mlp.0.weight"] == 0.5
    assert scale["encoder.blocks.0.mlp.0.weight"] == 0.25
    assert scale["encoder.embed.weight"] == scale["encoder.pos_embed.joint"] == 0.125


def test_drop_path_is_set_from_zero_to_its_rate():
    encoder = build_objective(small_config(encoder={"depth": 3}), TOY.layout).encoder
    set_drop_path(encoder, 0.4)
    assert [block.drop_path.rate for block in encoder.blocks] == pytest.approx([0, 0.2, 0.4])


def test_the_mean_over_time_is_of_the_tokens_that_are_there():
    keep = torch.tensor([[0, 4, 6], [1, 2, 5]])  # of 3 joints: joints 0, 1, 0 and 1, 2, 2
    tokens = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    wanted = torch.zeros(2, 3, 5)
    for n, row in enumerate(keep.tolist()):
        for joint in range(3):
            own = [tokens[n, k] for k, token in enumerate(row) if token % 3 == joint]
            wanted[n, joint] = sum(own) / len(own) if own else 0
    torch.testing.assert_close(mean_over_time(tokens, keep, joints=3), wanted)


@pytest.mark.parametrize(
    "encoder",
    [{"name": "vit"}, {"name": "sttformer", "dim": 16, "patch": 4}, {"name": "ctrgcn", "dim": 32}],
)
def test_training_on_a_share_of_the_tokens_is_repeatable_and_testing_sees_all(encoder):
    config = small_config(encoder=encoder)
    clips = next(small_context(TOY, encoder=encoder).loader("test", batch=8).epoch(0))
    model = Classifier(build_objective(config, TOY.layout).encoder, classes=4, hidden=8, dropout=0, keep=0.5)
    whole = Classifier(model.encoder, classes=4, hidden=8, dropout=0)
    torch.manual_seed(0)
    first, second = model(clips), model(clips)
    torch.manual_seed(0)
    assert torch.equal(model(clips), first)
    assert not torch.equal(first, second)
    whole.head.load_state_dict(model.head.state_dict())
    assert torch.equal(model.eval()(clips), whole.eval()(clips))


def test_fine_tuning_on_a_share_of_the_tokens_beats_chance():
    context = small_context(TOY, augment={"rotate": 0}, finetune={"keep": 0.5, "epochs": 16})
    assert probes.get("finetune")(encoder_of(context), context).top1 > 0.6


def test_several_views_are_ranked_by_their_mean_probability():
    context = small_context(TOY)
    model = Classifier(encoder_of(context), classes=4, hidden=8, dropout=0)
    one = classify(model, context, batch=7, views=1)
    three = classify(model, context, batch=7, views=3)
    loader = context.loader("test", augmented=True, batch=len(three.label))
    with torch.no_grad():
        seen = [next(loader.epoch(view)) for view in range(3)]
        chance = torch.stack([model.eval()(clips).softmax(1) for clips in seen]).mean(0)
    assert three.label.tolist() == seen[0].label.tolist() == classify(model, context, batch=7).label.tolist()
    np.testing.assert_allclose(torch.from_numpy(three.logits).softmax(1), chance, rtol=1e-4, atol=1e-6)
    assert not np.array_equal(one.logits, three.logits)
    # Matrix products of other sizes may round differently.
    again = classify(model, context, batch=20, views=3).logits
    np.testing.assert_allclose(three.logits, again, rtol=1e-4, atol=1e-5)


def test_one_plain_view_stands_beside_several():
    context = small_context(TOY, finetune={"epochs": 1, "test_views": 2})
    found = probes.get("finetune")(encoder_of(context), context)
    plain = small_context(TOY, finetune={"epochs": 1})
    alone = probes.get("finetune")(encoder_of(plain), plain)
    assert np.array_equal(found.alternatives["one view"].logits, alone.logits)
    assert not np.array_equal(found.logits, alone.logits)
    assert not alone.alternatives


def test_a_linear_probe_averages_several_views_too():
    context = small_context(TOY, linear={"test_views": 3})
    encoder = encoder_of(context)
    found, alone = probes.get("linear")(encoder, context), probes.get("linear")(encoder, small_context(TOY))
    loader = context.loader("test", augmented=True, batch=7)
    with torch.no_grad():
        chance = torch.stack([torch.cat([found.model(b).softmax(1) for b in loader.epoch(v)]) for v in range(3)]).mean(
            0
        )
    np.testing.assert_allclose(torch.from_numpy(found.logits).softmax(1), chance, rtol=1e-4, atol=1e-6)
    assert np.array_equal(found.alternatives["one view"].logits, alone.logits)
    assert not np.array_equal(found.logits, alone.logits)


class StopAt:
    """A reporter that sends SIGTERM when a task begins."""

    def __init__(self, name):
        self.name = name

    def begin(self, task):
        if task.name == self.name:
            signal.raise_signal(signal.SIGTERM)

    def update(self, task):
        assert interrupts.pending() == 0, "work goes on after the signal"

    def end(self, task):
        pass


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("knn", "features, train"),
        ("linear", "augmented views"),
        ("linear", "features, train, view 2"),
        ("linear", "linear classifier"),
        ("finetune", "fine-tuning"),
        ("finetune", "test"),
    ],
)
def test_an_interrupt_ends_every_stage(name, task):
    context = small_context(TOY, finetune={"epochs": 1}, linear={"epochs": 3, "views": 2})
    with (
        interrupts.deferred("run it again"),
        progress.reporting(StopAt(task)),
        pytest.raises(Interrupted, match="run it again") as stopped,
    ):
        probes.get(name)(encoder_of(context), context)
    assert stopped.value.exit_code == 143


@pytest.mark.parametrize("probe", ["linear", "finetune"])
def test_a_probe_trains_on_augmentation_of_its_own_strength(monkeypatch: pytest.MonkeyPatch, probe: str) -> None:
    seen = []
    made = ProbeContext.loader

    def loader(self: ProbeContext, part: str, **options: Any) -> Any:
        result = made(self, part, **options)
        seen.append((part, result.augment.turn))
        return result

    monkeypatch.setattr(ProbeContext, "loader", loader)
    store = FakeStore.toy(clips=24, classes=4, seed=3, frames=16)
    settings = {"strength": 0.5, "epochs": 1, **({"views": 1} if probe == "linear" else {})}
    context = small_context(store, augment={"turn": 0.8}, **{probe: settings})
    encoder = build_objective(context.config, store.layout).encoder
    probes.get(probe)(encoder, context)
    assert ("train", 0.4) in seen
    assert ("test", 0.8) in seen
