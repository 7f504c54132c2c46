"""Graphs in ONNX and torch's format: what they compute is what the loader and the PyTorch module compute."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from smae.data.loader.augment import Augment
from smae.data.loader.loader import Loader
from smae.data.raw.recording import Clip
from smae.errors import ConfigError, DataError, EnvironmentFault
from smae.eval.export import HeadConfig, PreparationConfig, read_weights, write_weights
from smae.eval.exported_program import ClipModel, describe, export_program, write_program
from smae.eval.features import Pooled
from smae.eval.probes.finetune import Classifier
from smae.eval.probes.linear import LinearClassifier
from smae.eval.raw_clips import ClipsInMemory
from smae.models.encoders import encoders
from smae.skeleton import NTU25
from smae.testing.models import bodies
from smae.train.config import plugin_config
from tests.train.small import CPU

ENCODERS = {
    "vit": {"dim": 16, "feature_groups": 3, "movement": 2, "depth": 1, "heads": 2, "patch": 4},
    "slim": {"dim": 16, "depth": 1, "heads": 2, "patch": 4},
    "sttformer": {"dim": 16, "patch": 4},
    "ctrgcn": {"dim": 32},
    "graph": {"dim": 16, "depth": 1, "patch": 4},
}
LENGTHS = (30, 7, 19, 1)


def folder_of(to, name="vit", *, head=None, mode="reference", clip_frames=None, missing=(), **augment):
    """Write an encoder, or a classifier of the kind ``head``, whose weights are random."""
    settings = {"name": name, **ENCODERS[name]}
    torch.manual_seed(0)
    encoder = encoders.get(name)(plugin_config("encoder", settings), frames=12, layout=NTU25)
    model, about = encoder, None
    if head == "finetune":
        about = HeadConfig(kind="finetune", classes=("A", "B", "C"), hidden=8)
        model = Classifier(encoder, classes=3, hidden=8, dropout=0.5)
    elif head:
        about = HeadConfig(kind="linear", classes=("A", "B", "C"), pool=head)
        model = LinearClassifier(encoder, classes=3, pool=head)
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = 1.0
        for parameter in model.parameters():
            # What begins as zeros or ones: biases, norms, shares of refined graphs.
            if parameter.ndim < 2:
                parameter += 0.05 * torch.randn_like(parameter)
        # One pass gives BatchNorm the statistics that training would.
        encoder.train()(bodies(NTU25, items=8, frames=12))
    return write_weights(
        to, model.eval(), encoder=settings, augment=Augment(frames=12, **augment), layout=NTU25, head=about,
        prepared=PreparationConfig(mode=mode, clip_frames=clip_frames), origin={"run": "trial"}, missing=missing,
    )  # fmt: skip


def clips_of(*, away=0.0):
    """Return clips [M, T, V, 3] of one or two bodies: with an empty frame, and a body that leaves."""
    random = np.random.default_rng(0)
    clips = []
    for number, frames in enumerate(LENGTHS):
        joints = random.normal(0, 0.4, (1 + number % 2, 1, 25, 3)) + random.normal(0, 0.02, (1, frames, 25, 3)).cumsum(
            1
        )
        clips.append((joints + away).astype(np.float32))
    clips[0][:, 4] = 0
    clips[1][1, 3:] = 0
    return clips


def padded(clips):
    both = np.zeros((len(clips), 2, max(LENGTHS) + 3, 25, 3), np.float32)
    for number, clip in enumerate(clips):
        both[number, : len(clip), : clip.shape[1]] = clip
    return torch.from_numpy(both)


def batch_of(clips, loaded):
    made = [Clip(joints, np.zeros(joints.shape[:3], np.uint8)) for joints in clips]
    store = ClipsInMemory(made, layout=NTU25, mode=loaded.config.prepared.mode)
    index = np.arange(len(clips))
    loader = Loader(store, index, augment=loaded.config.augment, batch=64, seed=0, train=False, device=CPU, workers=0)
    return next(iter(loader.epoch(0)))


@pytest.mark.parametrize(
    ("mode", "away", "augment"),
    [
        ("reference", 0.0, {}),
        ("reference", 2.5, {"align": "heading", "stream": "relative"}),
        ("exact", 2.5, {"align": "body", "stream": "bone-motion", "test_crop": 0.6}),
        ("exact", 0.0, {"stream": "motion", "test_crop": 0.1}),
        ("reference", 0.0, {"align": "body", "stream": "bone"}),
    ],
)
@torch.no_grad()
def test_clips_are_prepared_as_the_loader_does(tmp_path, mode, away, augment):
    loaded = read_weights(folder_of(tmp_path / "a", mode=mode, **augment))
    clips = clips_of(away=away)
    batch = batch_of(clips, loaded)
    items, present = ClipModel(loaded).items(padded(clips))
    assert present.nonzero().tolist() == torch.stack([batch.clip, batch.body], 1).tolist()
    torch.testing.assert_close(items.unflatten(0, present.shape)[present], batch.x, rtol=0, atol=2e-6)
    features, tokens = ClipModel(loaded)(padded(clips))
    torch.testing.assert_close(features, Pooled(loaded.encoder)(batch), rtol=0, atol=1e-5)
    expected = Pooled(loaded.encoder, "tokens").vectors(batch.x)
    torch.testing.assert_close(tokens[present].flatten(1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("head", ["mean", "joints", "tokens", "finetune"])
@torch.no_grad()
def test_a_classifier_gives_the_logits_of_its_module(tmp_path, head):
    loaded = read_weights(folder_of(tmp_path / "a", head=head, align="heading"))
    clips = clips_of()
    (logits,) = ClipModel(loaded)(padded(clips))
    torch.testing.assert_close(logits, loaded.model(batch_of(clips, loaded)), rtol=0, atol=1e-5)
    assert describe(loaded)["classes"] == ["A", "B", "C"]


@torch.no_grad()
def test_the_class_token_is_a_pooling_too(tmp_path):
    loaded = read_weights(folder_of(tmp_path / "a", "slim", head="class"))
    clips = clips_of()
    (logits,) = ClipModel(loaded)(padded(clips))
    torch.testing.assert_close(logits, loaded.model(batch_of(clips, loaded)), rtol=0, atol=1e-5)


def slow(name):
    return pytest.param(name, marks=[] if name == "vit" else pytest.mark.slow)


@pytest.mark.parametrize("name", [slow(name) for name in ENCODERS])
@torch.no_grad()
def test_onnx_runs_without_smae(tmp_path, name):
    reason = "ONNX is not installed: pip install 'smae[onnx]'"
    runtime, onnx = (pytest.importorskip(package, reason=reason) for package in ("onnxruntime", "onnx"))
    folder = folder_of(tmp_path / "head", name, head="joints", align="body", stream="bone")
    file = export_program(folder, tmp_path / "a.onnx", format="onnx")
    loaded, clips = read_weights(folder), clips_of()
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"joints": padded(clips).numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), loaded.model(batch_of(clips, loaded)), rtol=1e-5, atol=1e-5)
    (entry,) = onnx.load(file).metadata_props
    about = json.loads(entry.value)
    assert (about["unit"], about["joints"][0], about["classes"]) == ("metres", "spine base", ["A", "B", "C"])
    with pytest.raises(ConfigError, match="is there already: add --overwrite"):
        export_program(folder, file, format="onnx")
    file.write_bytes(b"mine")
    with pytest.raises(ConfigError, match="is not an onnx file of smae"):
        export_program(folder, file, format="onnx", overwrite=True)


@torch.no_grad()
def test_an_exported_program_takes_any_number_of_clips_bodies_and_frames(tmp_path):
    loaded = read_weights(folder_of(tmp_path / "a"))
    file = write_program(loaded, tmp_path / "a.pt2", format="torch-export")
    extra = {"smae.json": ""}
    program = torch.export.load(file, extra_files=extra).module()
    assert json.loads(extra["smae.json"])["input"] == {"joints": "float32 [clips, bodies, frames, 25, 3]"}
    clips = clips_of()
    features, _ = program(padded(clips))
    torch.testing.assert_close(features, Pooled(loaded.encoder)(batch_of(clips, loaded)), rtol=1e-5, atol=1e-5)
    one, _ = program(torch.from_numpy(clips[2])[None])
    torch.testing.assert_close(one, features[2:3], rtol=1e-5, atol=1e-5)
    with pytest.raises(ConfigError, match="is there already: add --overwrite"):
        write_program(loaded, file, format="torch-export")


def test_what_cannot_be_written_is_refused_in_a_line(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "a")
    loaded = read_weights(folder)
    with pytest.raises(ConfigError, match=r"give it a name that ends in \.pt2"):
        export_program(folder, tmp_path / "a.onnx", format="torch-export")
    with pytest.raises(ConfigError, match=r"--format gguf: expected folder, onnx or torch-export"):
        export_program(folder, tmp_path / "a.onnx", format="gguf")
    poor = folder_of(tmp_path / "poor", missing=("spine shoulder", "left thumb"))
    with pytest.raises(DataError, match=r"its training lack spine shoulder, left thumb, .* such as common15"):
        export_program(poor, tmp_path / "a.pt2", format="torch-export")
    monkeypatch.setitem(write_program.__globals__["PACKAGES"], "torch-export", ("no_such_package",))
    with pytest.raises(EnvironmentFault, match=r"no_such_package.*pip install 'smae\[onnx\]'"):
        write_program(loaded, tmp_path / "a.pt2", format="torch-export")
    monkeypatch.undo()
    # An encoder that looks at its values: no graph can hold that.
    monkeypatch.setattr(type(loaded.encoder), "forward", lambda self, x, mask=None: x[: int(x.sum())])
    with pytest.raises(DataError, match="the encoder 'vit' cannot be exported as torch-export: ") as caught:
        write_program(loaded, tmp_path / "a.pt2", format="torch-export")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.pt2").exists()
