"""Open data: classes from descriptions, clips from recordings; the table of sets that were held out."""

from __future__ import annotations

import numpy as np
import pytest

import smae
from benchmarks import held_out, open_data
from smae.eval.export import HeadConfig, read_weights, write_weights
from smae.eval.probes.linear import LinearClassifier
from smae.skeleton import COMMON15, NTU25
from smae.train.config import build_objective
from tests.train.small import small_config


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ("playground - climb, hang", "climb on a playground"),
        ("slow walk", "walk"),
        ("run/jog, sudden stop", "run"),
        ("forward jump", "jump"),
        ("jump, balance", "jump"),
        ("jump up to grab, reach for, tiptoe", "reach up"),
        ("jumping jacks, side twists", "gymnastics"),
        ("wash self", "other"),
    ],
)
def test_a_class_follows_from_how_a_description_begins(words, label):
    assert open_data.described(f"Subject #1\n\n01_02  {words}\n\n01_03  walk\n") == {"01_02": label, "01_03": "walk"}


@pytest.mark.parametrize(("frames", "starts"), [(20, [0]), (90, [0]), (91, [0, 1]), (135, [0, 45]), (140, [0, 45, 50])])
def test_windows_cover_a_recording(frames, starts):
    assert open_data.windows(frames) == starts


def test_both_ways_of_a_movement_are_one_class():
    assert open_data.movement("A001") == open_data.movement("A011") == "deep squat"
    assert open_data.movement("A020") == "raise an arm diagonally"


def test_the_table_has_what_was_measured_and_no_more():
    scores = {"raw coordinates": {"linear": 0.5, "knn": 0.25}, "held out": {"linear": 0.625, "knn": 0.5}}
    one = {"train": 1020, "test": 464, "classes": 10, "run": "open-small", "scores": scores}
    assert held_out.table({"nw-ucla": one}).splitlines()[2:] == [
        "| nw-ucla (1,020 / 464, 10), by open-small | 50.0 / 25.0 |  | 62.5 / 50.0 |  |"
    ]


def test_what_float16_changes_is_measured(tmp_path):
    config = small_config()
    model = LinearClassifier(build_objective(config, COMMON15).encoder, classes=3).eval()
    common = {"encoder": config.encoder.model_dump(), "augment": config.augment, "layout": COMMON15, "origin": {}}
    head = HeadConfig(kind="linear", classes=("a", "b", "c"))
    for name, half in (("whole", False), ("half", True)):
        write_weights(tmp_path / name, model, head=head, half=half, **common)
    noise = np.random.default_rng(1)
    recordings = [
        smae.from_keypoints(
            noise.normal(0, 0.3, (20, 25, 3)), layout=NTU25, unit="m", name=f"r{number}", label="abc"[number % 3]
        )
        for number in range(6)
    ]
    parts = [
        open_data.Part(open_data.ClipFacts(one.name, one.label), one.clip(COMMON15), 1 + number % 2)
        for number, one in enumerate(recordings)
    ]
    open_data.write(parts, tmp_path / "store.zarr", dataset="open")
    store = smae.open_store(tmp_path / "store.zarr")
    assert (len(store.split("own").train), len(store.split("own").test)) == (3, 3)
    found = held_out.rounding(tmp_path / "whole", tmp_path / "half", tmp_path / "store.zarr")
    assert 0 < found["largest difference"] < 1e-2 < found["features up to"]
    assert read_weights(tmp_path / "half").config.head == head
