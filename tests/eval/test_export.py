"""Weights that travel: they come back as they were, and whatever differs is refused in words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from smae.errors import ConfigError, DataError, NonFiniteError
from smae.eval.export import Head, Prepared, load_encoder, read_weights, write_weights
from smae.eval.probes.finetune import Classifier
from smae.eval.probes.linear import LinearClassifier
from smae.skeleton import NTU25
from smae.testing.samples import bodies, small_batch
from smae.train.build import build_objective
from tests.train.small import small_config

CONFIG = small_config()
X = bodies(NTU25, items=3, frames=12)


def encoder_of():
    return build_objective(CONFIG, NTU25).encoder.eval()


def write(to, model=None, **more):
    return write_weights(
        to, model or encoder_of(), encoder=CONFIG.encoder.model_dump(), augment=CONFIG.augment, layout=NTU25,
        origin={"run": "trial"}, **more,
    )  # fmt: skip


def restate(folder, **changes):
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stated | changes))


def test_an_encoder_comes_back_ready_for_use(tmp_path):
    encoder = encoder_of()
    folder = write(tmp_path / "a", encoder, card="# card\n")
    again = load_encoder(folder, layout="ntu25", frames=12)
    assert not again.training
    assert torch.equal(again(X), encoder(X))
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert list(tmp_path.iterdir()) == [folder], "nothing half-written stays"


@pytest.mark.parametrize(("kind", "pool"), [("linear", "mean"), ("linear", "tokens"), ("finetune", "mean")])
def test_a_head_comes_back_with_its_classes_and_clips_are_made_alike(tmp_path, kind, pool):
    batch = small_batch(NTU25, frames=12)
    head = Head(kind=kind, classes=("A001", "A002", "A003"), hidden=8 if kind == "finetune" else 0, pool=pool)
    model = (
        LinearClassifier(encoder_of(), classes=3, pool=pool)
        if kind == "linear"
        else Classifier(encoder_of(), classes=3, hidden=8, dropout=0.5)
    ).eval()
    folder = write(tmp_path / "a", model, head=head, prepared=Prepared(mode="exact", frames=20))
    found = read_weights(folder)
    assert torch.equal(found.model(batch), model(batch))
    assert (found.stated.head, found.stated.prepared.mode, found.stated.prepared.frames) == (head, "exact", 20)
    assert found.stated.augment == CONFIG.augment
    assert torch.equal(load_encoder(folder)(X), model.encoder(X)), "the encoder alone can be had of it too"


@pytest.mark.parametrize(
    ("asked", "told"),
    [({"layout": "kinect20"}, "layout ntu25 there, kinect20 here"), ({"frames": 120}, "frames 12 there, 120 here")],
)
def test_a_caller_with_other_clips_is_told_what_differs(tmp_path, asked, told):
    with pytest.raises(DataError, match=told):
        load_encoder(write(tmp_path / "a"), **asked)


@pytest.mark.parametrize("shape", [(3, 12, 20, 3), (3, 24, 25, 3), (12, 25, 3)])
def test_joints_of_another_shape_are_refused(tmp_path, shape):
    encoder = load_encoder(write(tmp_path / "a"))
    with pytest.raises(DataError, match=r"takes joints \[N, 12, 25, 3\]"):
        encoder(torch.zeros(shape))


def test_joints_in_another_order_are_refused(tmp_path, monkeypatch):
    folder = write(tmp_path / "a")
    swapped = replace(NTU25, joints=(NTU25.joints[1], NTU25.joints[0], *NTU25.joints[2:]))
    monkeypatch.setattr("smae.skeleton.NTU25", swapped)
    with pytest.raises(DataError, match="joint 0 is 'spine base' there, 'spine mid' here"):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 1}, "weights format 1, this smae reads 2: export again"),
        ({"encoder": CONFIG.encoder.model_dump() | {"dim": 32}}, r"embed.weight: \(16, 12\) there, \(32, 12\) here"),
        ({"encoder": CONFIG.encoder.model_dump() | {"depth": 2}}, r"blocks.1.norm_attention.weight: missing there"),
        ({"encoder": {"name": "gone"}}, "unknown encoder 'gone'"),
        ({"layout": {"name": "gone", "joints": []}}, "unknown layout 'gone'"),
        ({"layout": {"name": "ntu25", "joints": ["head"]}}, "1 joints there, 25 here"),
        ({"augment": CONFIG.augment.model_dump() | {"frames": 24}}, r"pos_embed.time: \(3, 16\) there, \(6, 16\) here"),
        ({"augment": CONFIG.augment.model_dump() | {"frames": 13}}, r"augment.frames=13"),
        ({"sha256": "0" * 64}, "contents differ from the SHA-256"),
        ({"surprise": 1}, "surprise: no such setting"),
    ],
)
def test_a_folder_that_states_something_else_is_refused(tmp_path, changes, told):
    folder = write(tmp_path / "a")
    restate(folder, **changes)
    with pytest.raises(DataError, match=told):
        load_encoder(folder)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(DataError, match="no weights there"):
        load_encoder(tmp_path)
    folder = write(tmp_path / "a")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match="missing, or not a regular file"):
        load_encoder(folder)


def test_nothing_is_overwritten_unasked_and_nothing_non_finite_written(tmp_path):
    folder = write(tmp_path / "a")
    with pytest.raises(ConfigError, match="--overwrite"):
        write(folder)
    write(folder, overwrite=True)
    spoiled = encoder_of()
    spoiled.embed.bias.data[0] = torch.nan
    with pytest.raises(NonFiniteError, match=r"embed\.bias"):
        write(tmp_path / "b", spoiled)
    assert not (tmp_path / "b").exists()
