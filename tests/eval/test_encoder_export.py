"""Exported folders: weights are restored exactly, and every difference is refused with a message."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from smae.errors import DataError, NonFiniteError
from smae.eval.export import (
    HeadConfig,
    PreparationConfig,
    is_encoder,
    load_encoder,
    read_weights,
    write_weights,
)
from smae.eval.probes.finetune import Classifier
from smae.eval.probes.linear import LinearClassifier
from smae.skeleton import NTU25
from smae.testing.models import bodies, small_batch
from smae.train.config import build_objective
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


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_an_encoder_is_loaded_ready_for_use(tmp_path):
    encoder = encoder_of()
    folder = write(tmp_path / "a", encoder, card="# card\n")
    again = load_encoder(folder, layout="ntu25", frames=12)
    assert not again.training
    assert torch.equal(again(X), encoder(X))
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert list(tmp_path.iterdir()) == [folder], "nothing half-written stays"


@pytest.mark.parametrize(("kind", "pool"), [("linear", "mean"), ("linear", "tokens"), ("finetune", "mean")])
def test_a_head_is_loaded_with_its_classes_and_preparation(tmp_path, kind, pool):
    batch = small_batch(NTU25, frames=12)
    head = HeadConfig(kind=kind, classes=("A001", "A002", "A003"), hidden=8 if kind == "finetune" else 0, pool=pool)
    model = (
        LinearClassifier(encoder_of(), classes=3, pool=pool)
        if kind == "linear"
        else Classifier(encoder_of(), classes=3, hidden=8, dropout=0.5)
    ).eval()
    folder = write(tmp_path / "a", model, head=head, prepared=PreparationConfig(mode="exact", frames=20))
    found = read_weights(folder)
    assert torch.equal(found.model(batch), model(batch))
    assert (found.config.head, found.config.prepared.mode, found.config.prepared.frames) == (head, "exact", 20)
    assert found.config.augment == CONFIG.augment
    assert torch.equal(load_encoder(folder)(X), model.encoder(X)), "the encoder alone can be loaded too"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"layout": "kinect20"}, "layout ntu25 there, kinect20 here"), ({"frames": 120}, "frames 12 there, 120 here")],
)
def test_clips_of_another_kind_are_refused_with_the_difference(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        load_encoder(write(tmp_path / "a"), **options)


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
    ("changes", "message"),
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
def test_a_folder_with_another_config_is_refused(tmp_path, changes, message):
    folder = write(tmp_path / "a")
    change_config(folder, **changes)
    with pytest.raises(DataError, match=message):
        load_encoder(folder)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(DataError, match="no weights there"):
        load_encoder(tmp_path)
    folder = write(tmp_path / "a")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match="missing, or not a regular file"):
        load_encoder(folder)


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    broken = encoder_of()
    broken.embed.bias.data[0] = torch.nan
    with pytest.raises(NonFiniteError, match=r"embed\.bias"):
        write(tmp_path / "b", broken)
    assert not (tmp_path / "b").exists()


def test_only_folders_of_an_encoder_alone_are_recognised(tmp_path):
    folder = write(tmp_path / "a", card="# card\n")
    assert is_encoder(folder)
    change_config(folder, version=0)
    assert is_encoder(folder), "another version of the format is one too"
    head = HeadConfig(kind="linear", classes=("A", "B"))
    assert not is_encoder(write(tmp_path / "head", LinearClassifier(encoder_of(), classes=2), head=head))
    (folder / "notes.txt").write_text("mine")
    assert not is_encoder(folder), "it holds a file of somebody"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"version": 1}')
    assert not is_encoder(tmp_path / "other")
    assert not is_encoder(tmp_path / "other" / "config.json")
