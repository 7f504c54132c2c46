"""Packaged weights: found by name, used where there is no run, for recordings and stores of other joints."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import smae
from smae.errors import ConfigError, DataError
from smae.eval.export import HeadConfig, read_exported, read_weights, write_weights
from smae.eval.probes.linear import LinearClassifier
from smae.skeleton import COCO17, COMMON15
from smae.testing.models import bodies, small_batch
from smae.train import run_folder
from smae.train.checkpoint import encoder_weights
from smae.train.config import build_objective
from smae_cli.main import run
from tests.train.small import small_config

ROOT = Path(__file__).resolve().parents[2]
CONFIG = small_config()
CLASSES = ("squat", "walk", "wave")


@pytest.fixture
def model():
    torch.manual_seed(3)
    return LinearClassifier(build_objective(CONFIG, COMMON15).encoder, classes=len(CLASSES)).eval()


@pytest.fixture
def packaged(tmp_path, monkeypatch, model):
    """A package whose open-small is small and untrained, and an empty folder to work in."""
    write_weights(
        tmp_path / "package" / "open-small", model, encoder=CONFIG.encoder.model_dump(), augment=CONFIG.augment,
        layout=COMMON15, head=HeadConfig(kind="linear", classes=CLASSES), origin={"step": 7}, half=True,
    )  # fmt: skip
    monkeypatch.setattr(run_folder, "WEIGHTS", tmp_path / "package")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "package" / "open-small"


@pytest.fixture
def recordings(packaged):
    """Raw recordings with the Kinect v2's 25 joints, in the folder to work in."""
    smae.synthesise("ntu", actions=2, subjects=3, cameras=1)
    return sorted((packaged.parents[1] / "here" / "ntu").rglob("*.skeleton"))


def test_half_of_the_bytes_are_read_as_float32(packaged, model):
    again, x = smae.load_encoder("open-small"), bodies(COMMON15, items=3, frames=12)
    assert {value.dtype for value in again.parameters()} == {torch.float32}
    torch.testing.assert_close(again(x), model.encoder(x), atol=1e-2, rtol=0)
    size = sum(value.numel() for value in model.state_dict().values())
    assert (packaged / "model.safetensors").stat().st_size < 2 * size + 4000
    batch = small_batch(COMMON15, frames=12)
    torch.testing.assert_close(read_weights("open-small").model(batch), model(batch), atol=1e-2, rtol=0)


def test_a_folder_of_that_name_comes_first_and_an_unknown_name_is_an_error(packaged, tmp_path):
    (tmp_path / "here" / "open-small").mkdir()
    assert not run_folder.is_packaged("open-small")
    with pytest.raises(DataError, match=r"open-small/config\.json"):
        smae.load_encoder("open-small")
    with pytest.raises(DataError, match=r"nothing at open-smal: .*\(open-small\); did you mean 'open-small'\?"):
        smae.load_encoder("open-smal")
    with pytest.raises(DataError, match=r"nothing at .*nowhere"):
        encoder_weights(tmp_path / "nowhere")


def test_without_a_run_recordings_have_features_and_a_class(recordings, capsys):
    """Both commands say whose weights they use, and predict which classes these know."""
    assert run(["embed", str(recordings[0]), "--out", "features.npz", "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    assert "no run here: using the packaged encoder open-small" in said
    assert "joints of ntu25 are mapped to common15" in said
    with np.load("features.npz") as found:
        assert (found["features"].shape, found["encoder"].item()) == ((1, 16), "open-small")
    assert run(["predict", *map(str, recordings[:2]), "--device", "cpu", "--json"]) == 0
    output = capsys.readouterr()
    assert "open-small knows 3 classes and no others: squat, walk, wave" in output.err
    found = json.loads(output.out)
    assert {one["label"] for one in found["found"]} <= set(CLASSES)
    assert found["head"] == "open-small"


def test_clips_in_python_have_features_too(packaged):
    clips = [np.random.default_rng(0).uniform(-0.5, 0.5, (1, 20, 15, 3)) for _ in range(2)]
    assert smae.Embedder("open-small", device="cpu").fit(clips).transform(clips).shape == (2, 16)


def test_a_mapped_recording_has_the_features_of_its_mapped_store(recordings):
    smae.prepare("ntu", "ntu.zarr", executor="inline")
    one = smae.embed("ntu.zarr", "store.npz", device="cpu")
    two = smae.embed("ntu", "raw.npz", device="cpu")
    assert one.name.tolist() == two.name.tolist()
    torch.testing.assert_close(one.x, two.x, atol=1e-5, rtol=0)
    mapped = smae.convert("ntu.zarr", layout="common15", out="mapped.zarr").store
    torch.testing.assert_close(smae.embed(mapped, "mapped.npz", device="cpu").x, one.x, atol=1e-5, rtol=0)


def test_the_command_writes_them_as_a_graph(packaged):
    assert run(["export-encoder", "open-small", "--format", "torch-export", "--out", "classifier.pt2"]) == 0
    assert Path("classifier.pt2").is_file()


def test_recordings_that_lack_joints_are_refused(packaged):
    xyz = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 17, 3))
    taken = smae.from_keypoints(xyz, layout=COCO17, unit="m")
    assert len(smae.predict([taken], device="cpu").found) == 1, "all 15 follow from COCO's"
    write_weights(
        packaged.parent / "hands", build_objective(CONFIG, smae.skeleton.NTU25).encoder,
        encoder=CONFIG.encoder.model_dump(), augment=CONFIG.augment, layout=smae.skeleton.NTU25, origin={},
    )  # fmt: skip
    store = smae.write_recordings([taken], "coco.zarr")
    with pytest.raises(DataError, match=r"has layout coco17, .*trained on ntu25: missing are .*--layout ntu25"):
        smae.embed(store, "features.npz", encoder="hands", device="cpu")
    left_out = smae.embed(store, "features.npz", encoder="hands", layout="ntu25", device="cpu")
    assert left_out.x.isfinite().all()


def test_records_of_packaged_weights_go_to_runs(recordings, packaged, caplog):
    caplog.set_level("INFO", logger="smae")
    smae.prepare("ntu", "ntu.zarr", executor="inline")
    options = {"encoder": "open-small", "data": "ntu.zarr", "protocol": "xsub", "device": "cpu"}
    options |= {"probes": ["knn", "finetune"], "settings": {"finetune.epochs": 1}, "baselines": False}
    found = smae.evaluate(**options)
    assert found.run.path.as_posix() == "runs/open-small"
    assert sorted(path.name for path in packaged.iterdir()) == ["config.json", "model.safetensors"]
    assert smae.evaluate(**options).evaluation.reused == 2
    longer = smae.evaluate(**options | {"probes": ["knn"], "settings": {"augment.frames": 24}})
    assert longer.evaluation.reused == 0
    assert "positions over time are resized from" in caplog.text
    # Records without a run are none: the package's weights are used all the same.
    assert smae.predict(recordings[:1], device="cpu").head == "open-small"


def test_another_head_stands_for_no_encoder(packaged, tmp_path):
    with pytest.raises(DataError, match="a head of smae eval"):
        read_exported(packaged)
    with pytest.raises(DataError, match="no run there"):
        smae.predict(["x"], run="nowhere")
    with pytest.raises(ConfigError, match="excludes"):
        smae.predict(["x"], head="open-small", protocol="xsub")


def test_training_starts_from_packaged_weights_on_a_store_of_another_layout(recordings, model, caplog):
    """One command: joints are mapped, positions resized, the encoder's settings are its own, and all is said."""
    caplog.set_level("INFO", logger="smae")
    smae.prepare("ntu", "ntu.zarr", executor="inline")
    settings = {"augment.frames": 24, "optim.lr": 1e-12, "train.batch": 4}
    start = {"data": "ntu.zarr", "recipe": "skeletonmae-cpu", "settings": settings, "init": "open-small"}
    done = smae.pretrain(**start, epochs=1, device="cpu")
    weights = encoder_weights(done.run.path)
    own = model.encoder.state_dict()
    for name, value in own.items():
        if name != "pos_embed.time":
            torch.testing.assert_close(weights[name], value, atol=1e-2, rtol=0)
    assert len(weights["pos_embed.time"]) == 2 * len(own["pos_embed.time"])
    about = done.run.describe()
    assert about["store"]["layout"] == "common15"
    assert about["config"]["encoder"] == CONFIG.encoder.model_dump()
    assert "open-small has the joints of common15: clips are mapped to them" in caplog.text
    assert "joints of ntu25 are mapped to common15" in caplog.text
    assert "positions over time are resized from" in caplog.text
    card = smae.export_encoder(done.run.path, "encoder") / "README.md"
    assert "begun with `open-small`, whose data and licence count too" in card.read_text()
    with pytest.raises(ConfigError, match="--layout kinect20: open-small has the joints of common15"):
        smae.pretrain(**start, layout="kinect20", device="cpu")


def test_what_is_shipped_is_small_complete_and_part_of_the_wheel():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert run_folder.packaged() == ["open-small"]
    folder = run_folder.weights_folder(run_folder.DEFAULT_WEIGHTS)
    for path in folder.iterdir():
        assert any(path.match(pattern) for pattern in declared["smae"]), path
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
    loaded = read_weights(run_folder.DEFAULT_WEIGHTS)
    assert (loaded.layout, loaded.config.origin["recipe"]) == (COMMON15, "open-small")
    assert not re.search(r"/(work|home|root|tmp)/", (folder / "config.json").read_text()), "no path of a machine"
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    for part in ("Public Domain Dedication", "free for use in research and commercial", "NSF EIA-0196217", "## Limits"):
        assert part in card
