"""Evaluation: every result has its baselines, data that flatter are named, nothing runs for an unknown probe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from smae.data.store.splits import Split
from smae.errors import ConfigError, UnknownNameError
from smae.eval.evaluate import evaluate
from smae.eval.probes import probes
from smae.eval.records import CHANCE, MOST_FREQUENT, PRETRAINED, RANDOM, RAW, mean_class
from smae.eval.run_probes import data_warnings, duplicates, run_probes
from smae.train.config import build_objective, random_encoder
from tests.eval.evaluated import check, train
from tests.fakes import FakeStore
from tests.train.small import small_config, small_context

STORE = FakeStore.toy(clips=42, classes=7, seed=2)


def outcomes(*modes, baselines=True, store=STORE):
    context = small_context(store, linear={"epochs": 5, "views": 0})
    encoder = build_objective(context.config, store.layout).encoder
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    units, chosen = [(0, mode) for mode in modes], {mode: probes.get(mode) for mode in modes}
    found = {one.mode: one for one in run_probes(encoder, context, chosen, units, baselines=baselines)}
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    return found


@pytest.fixture(scope="module")
def found():
    return outcomes("linear", "knn")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("evaluate") / "run")


def test_each_result_has_its_baselines(found):
    assert [row.what for row in found["linear"].rows] == [PRETRAINED, RANDOM, RAW, CHANCE]
    assert [row.what for row in found["knn"].rows] == [PRETRAINED, RANDOM, RAW, f"{RAW}, linear", CHANCE]
    linear, knn = ({row.what: row.top1 for row in found[mode].rows} for mode in ("linear", "knn"))
    assert all(0 <= share <= 1 for share in (*linear.values(), *knn.values()))
    assert linear[CHANCE] == pytest.approx(1 / 7)
    assert linear[RAW] == knn[f"{RAW}, linear"]
    ranked = {row.what for row in found["linear"].rows if row.top5 is not None}
    assert ranked == {PRETRAINED, RANDOM, RAW}


def test_baselines_can_be_left_out_where_they_are_known_already(found):
    for mode, bare in outcomes("linear", "knn", baselines=False).items():
        assert bare.rows == tuple(row for row in found[mode].rows if row.what in (PRETRAINED, CHANCE))


def test_a_result_does_not_depend_on_what_ran_before(found):
    assert outcomes("knn")["knn"].rows == found["knn"].rows


def test_confusion_counts_every_test_clip_in_its_row(run):
    for result in check(run, "linear", "knn").results:
        label = result.records[0].label
        assert result.confusion.sum(1).tolist() == np.bincount(label, minlength=4).tolist()
        assert result.confusion.trace() / len(label) == pytest.approx(result.lead.top1)


def test_an_unknown_probe_is_refused_before_any_work(tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown probe 'knnn'.*did you mean 'knn'"):
        evaluate(run=tmp_path / "no-run", probes=["linear", "knnn"])


def test_the_random_encoder_is_the_same_net_with_other_weights():
    config = small_config()
    trained, untrained = build_objective(config, STORE.layout).encoder, random_encoder(config, STORE.layout)
    again = random_encoder(config, STORE.layout)
    assert not torch.equal(trained.embed.weight, untrained.embed.weight)
    assert torch.equal(again.embed.weight, untrained.embed.weight)
    assert [p.shape for p in trained.parameters()] == [p.shape for p in untrained.parameters()]


def test_mean_class_accuracy_weighs_every_class_alike():
    label = np.array([0] * 9 + [1])
    assert mean_class(label == 0, label) == 0.5
    assert mean_class(np.array([True] * 3 + [False] * 6 + [True]), label) == pytest.approx(2 / 3)
    assert mean_class(np.ones(2, bool), np.array([3, 5])) == 1.0, "absent classes do not count"


def labelled(labels):
    """Return a store with these labels and a fingerprint of its own."""
    store = FakeStore.toy(clips=len(labels), classes=1, seed=0, frames=16)
    return FakeStore(store.joints, labels, fingerprint=f"{sum(n * label for n, label in enumerate(labels)):064x}")


def test_the_most_frequent_class_stands_beside_chance(run):
    store = labelled([int(n % 9 in (0, 2)) for n in range(54)])
    evaluation = check(run, "linear", data=store)
    rows = {row.what: row for row in evaluation.rows}
    train_label = store.clips.label[store.split("all").train]
    assert np.bincount(train_label).argmax() == 0
    share = float((store.clips.label[store.split("all").test] == 0).mean())
    assert (rows[MOST_FREQUENT].top1, rows[MOST_FREQUENT].mean_class) == (share, 0.5)
    assert (rows[CHANCE].top1, rows[CHANCE].mean_class) == (0.5, 0.5)


@pytest.mark.parametrize("modes", [["linear", "knn"], ["finetune", "semi-1", "scratch"]])
def test_a_single_class_is_evaluated_with_a_warning(run, modes):
    evaluation = check(run, *modes, data=labelled([0] * 24))
    assert {row.top1 for row in evaluation.rows} == {1.0}
    assert [words.split(" (")[0] for words in evaluation.warnings] == [
        "the train part has clips of one class only", "the test part has clips of one class only"
    ]  # fmt: skip


def test_classes_that_train_never_shows_are_named(run):
    store = labelled([2 + n % 2 if n % 3 == 2 else n % 2 for n in range(24)])
    evaluation = check(run, "linear", "knn", data=store)
    (words,) = evaluation.warnings
    assert words.startswith("8 of the 8 test clips are of classes that the train part never shows")
    assert words.endswith(": A003, A004")
    assert {row.top1 for row in evaluation.rows if row.what == PRETRAINED} == {0.0}


def test_copies_between_train_and_test_are_counted():
    store = FakeStore.toy(clips=12, classes=2, seed=1)
    split = store.split("all")
    assert duplicates(store, split) == 0
    clips = list(store.joints)
    for copy, original in ((2, 0), (5, 1), (8, 11)):
        clips[copy] = clips[original]
    copied = replace(store, joints=clips)
    assert duplicates(copied, split) == 2, "clip 11 is in the test part itself"
    assert "2 of the 4 test clips have the same joints as a train clip" in data_warnings(copied, split)
    halves = Split("x", train=np.array([0]), test=np.array([2]))
    assert duplicates(copied, halves) == 1


def test_arguments_under_their_earlier_names_work_with_a_note(run, caplog):
    settings = {"linear.epochs": 2}
    _, found = evaluate(checkpoint=run.path, modes=["knn"], data=STORE, settings=settings, device="cpu")
    assert [result.mode for result in found.results] == ["knn"]
    notes = [line for line in caplog.messages if "is now" in line]
    assert sorted(notes) == ["evaluate: checkpoint is now run", "evaluate: modes is now probes"]


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (
            lambda encoder, context: {"top1": 1},
            r"probe 'wrong': expected Scores, found \{'top1': 1\}: mend the plug-in",
        ),
        (
            lambda encoder, context: replace(probes.get("knn")(encoder, context), top1=0.123),
            "gave scores that do not fit",
        ),
    ],
)
def test_a_probe_that_gives_something_else_is_named(run, monkeypatch, probe, message):
    monkeypatch.setitem(probes._members, "wrong", probe)
    with pytest.raises(ConfigError, match=message):
        check(run, "wrong")
