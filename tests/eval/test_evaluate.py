"""Evaluation: every result has its baselines, and nothing is computed for an unknown probe."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from smae.errors import UnknownNameError
from smae.eval.evaluate import evaluate_encoder, result_json
from smae.eval.records import CHANCE, PRETRAINED, RANDOM, RAW
from smae.train.build import build_objective, random_encoder
from tests.fakes import FakeStore
from tests.train.small import small_config, small_context

STORE = FakeStore.toy(clips=42, classes=7, seed=2)


@pytest.fixture(scope="module")
def result():
    context = small_context(STORE, linear={"epochs": 5, "views": 0})
    encoder = build_objective(context.config, STORE.layout).encoder
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    found = evaluate_encoder(encoder, context, modes=["linear", "knn"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    return found


def test_each_result_has_its_baselines(result):
    assert [(row.mode, row.what) for row in result.rows] == [
        ("linear", PRETRAINED),
        ("linear", RANDOM),
        ("linear", RAW),
        ("linear", CHANCE),
        ("knn", PRETRAINED),
        ("knn", RANDOM),
        ("knn", RAW),
        ("knn", f"{RAW}, linear"),
        ("knn", CHANCE),
    ]
    top1 = {(row.mode, row.what): row.top1 for row in result.rows}
    assert all(0 <= share <= 1 for share in top1.values())
    assert top1["linear", CHANCE] == pytest.approx(1 / 7)
    assert top1["linear", RAW] == top1["knn", f"{RAW}, linear"]
    ranked = {row.what for row in result.rows if row.mode == "linear" and row.top5 is not None}
    assert ranked == {PRETRAINED, RANDOM, RAW}


def test_baselines_can_be_left_out_where_they_are_known_already(result):
    context = small_context(STORE, linear={"epochs": 5, "views": 0})
    bare = evaluate_encoder(
        build_objective(context.config, STORE.layout).encoder, context, modes=["linear", "knn"], baselines=False
    )
    assert bare.rows == [row for row in result.rows if row.what in (PRETRAINED, CHANCE)]


def test_confusion_counts_every_test_clip_in_its_row(result):
    test = STORE.split("all").test
    for mode in ("linear", "knn"):
        matrix = result.confusion(mode, 7)
        assert matrix.sum(1).tolist() == np.bincount(STORE.clips.label[test], minlength=7).tolist()
        assert matrix.trace() / len(test) == pytest.approx(result.scores[mode].top1)


def test_a_result_is_plain_data(result):
    content = json.loads(json.dumps(result_json(result, "knn", classes=STORE.classes), allow_nan=False))
    assert content["test"] == STORE.split("all").test.tolist()
    assert len(content["predicted"]) == len(content["label"]) == len(content["test"])
    assert [row["what"] for row in content["rows"]] == [PRETRAINED, RANDOM, RAW, f"{RAW}, linear", CHANCE]
    assert list(content["rows"][0]) == ["mode", "what", "top1", "top5", "selection", "seeds", "std", "interval"]


def test_an_unknown_probe_is_refused_before_any_work():
    context = small_context(STORE)
    with pytest.raises(UnknownNameError, match=r"unknown probe 'knnn'.*did you mean 'knn'"):
        evaluate_encoder(None, context, modes=["linear", "knnn"])
    assert context.cache == {}


def test_the_random_encoder_is_the_same_net_with_other_weights():
    config = small_config()
    trained, untrained = build_objective(config, STORE.layout).encoder, random_encoder(config, STORE.layout)
    again = random_encoder(config, STORE.layout)
    assert not torch.equal(trained.embed.weight, untrained.embed.weight)
    assert torch.equal(again.embed.weight, untrained.embed.weight)
    assert [p.shape for p in trained.parameters()] == [p.shape for p in untrained.parameters()]
