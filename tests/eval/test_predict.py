"""Prediction: clips are prepared like those of the store, in each mode; which head is used."""

from __future__ import annotations

import numpy as np
import pytest

import smae
from smae.atomic_io import write_json
from smae.data.loader.loader import Loader
from smae.errors import ConfigError, DataError, UnknownNameError
from smae.eval.export import PreparationConfig
from smae.eval.predict import find_head
from smae.eval.raw_clips import ClipsInMemory, read_recordings
from smae.skeleton import KINECT20, NTU25, OPENPOSE25
from smae.train.run_folder import VERSION, Run
from tests.eval.evaluated import record_json
from tests.train.small import CPU, small_config


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "ntu"
    smae.synthesise(folder, actions=2, subjects=2, cameras=1, replications=1)
    return folder


@pytest.mark.parametrize(("mode", "frames"), [("reference", None), ("exact", None), ("reference", 30)])
def test_batches_of_recordings_are_those_of_the_store_made_of_them(raw, tmp_path, mode, frames):
    options = {"frames": frames} if frames else {}
    made = smae.prepare(raw, tmp_path / "x.zarr", mode=mode, executor="inline", missing_list=False, **options)
    store = smae.open_store(made.store)
    paths = {path.stem: path for path in raw.rglob("*.skeleton")}
    prepared = PreparationConfig(mode=mode, frames=frames)
    files = [paths[name] for name in store.clips.name.tolist()]
    clips = read_recordings(files, prepared=prepared, layout=NTU25).clips
    own = ClipsInMemory(clips, layout=NTU25, mode=mode)
    first, second = (
        next(iter(Loader(source, np.arange(len(clips)), augment=small_config().augment, batch=64, seed=0, train=False,
                         device=CPU, workers=0).epoch(0)))
        for source in (store, own)
    )  # fmt: skip
    assert len(clips) == len(store) > 2
    assert np.array_equal(first.x.numpy(), second.x.numpy())
    assert np.array_equal(first.clip.numpy(), second.clip.numpy())


def test_a_store_is_no_recording(tmp_path):
    store = tmp_path / "data.zarr"
    store.mkdir()
    with pytest.raises(ConfigError, match="is a store: give recordings here; smae embed and smae eval take stores"):
        read_recordings([store], prepared=PreparationConfig(), layout=NTU25)


def test_a_source_that_does_not_fit_is_refused(raw):
    path = next(raw.rglob("*.skeleton"))
    with pytest.raises(DataError, match="layout ntu25, the encoder was trained on openpose25: missing are right eye, "):
        read_recordings([path], prepared=PreparationConfig(), layout=OPENPOSE25)
    # Of the Kinect v1's joints none is missing.
    assert read_recordings([path], prepared=PreparationConfig(), layout=KINECT20).clips[0].joints.shape[2] == 20
    # A file's ending says more about it than what the training data were.
    assert len(read_recordings([path], prepared=PreparationConfig(source="pyskl"), layout=NTU25).clips) == 1


def a_run(folder, *heads):
    """Return a run whose own protocol is xsub, with a record and a head for each of (mode, changes)."""
    run = Run(folder)
    plain = {"version": VERSION, "config": {"protocol": "xsub"}, "store": {"fingerprint": "ab" * 32}}
    write_json(run.path / "run.json", {**plain, "versions": {}, "device": {}})
    for number, (mode, changes) in enumerate(heads):
        name = f"{number}-{mode}"
        write_json(run.results / f"{name}.json", record_json(mode=mode, **changes))
        write_json(run.heads / name / "config.json", {})
    return run


XVIEW, OTHER = {"protocol": "ntu60-xview"}, {"store": "cd" * 32}
OLD, NEW = ({"checkpoint": {"step": step, "sha256": "ef" * 32}} for step in (4, 8))


@pytest.mark.parametrize(
    ("options", "heads", "name"),
    [
        ({}, [("linear", {}), ("linear", XVIEW), ("finetune", {})], "2-finetune"),
        ({"probe": "linear"}, [("linear", {}), ("linear", XVIEW), ("finetune", {})], "0-linear"),
        ({"protocol": "xview"}, [("linear", {}), ("linear", XVIEW)], "1-linear"),
        ({"protocol": "ntu60-xview", "probe": "linear"}, [("linear", {}), ("linear", XVIEW)], "1-linear"),
        ({}, [("finetune", OTHER), ("linear", {})], "1-linear"),
        ({}, [("linear", OLD), ("linear", NEW)], "1-linear"),
        ({}, [("linear", NEW), ("linear", OLD)], "0-linear"),
        ({}, [("transfer", OTHER), ("linear", {})], "1-linear"),
    ],
)
def test_a_head_is_chosen_by_protocol_store_probe_and_checkpoint(tmp_path, caplog, options, heads, name):
    caplog.set_level("INFO")
    assert find_head(a_run(tmp_path / "run", *heads), **options).name == name
    assert f"using the head {tmp_path / 'run' / 'heads' / name}" in caplog.text


def test_a_missing_head_is_an_error_with_the_command_that_makes_it(tmp_path):
    run = a_run(tmp_path / "run", ("linear", {}))
    with pytest.raises(DataError, match=r"of finetune \(there: 0-linear; .*\): make one with `smae eval"):
        find_head(run, probe="finetune")


def test_keypoints_are_read_in_the_layout_that_is_named(tmp_path):
    take = np.random.default_rng(0).uniform(-0.9, 0.9, (9, 33, 3)).astype(np.float32)
    np.save(tmp_path / "take.npy", take)
    files, prepared = [tmp_path / "take.npy"], PreparationConfig()
    with pytest.raises(ConfigError, match="keypoints do not say whose joints they are: add --layout"):
        read_recordings(files, prepared=prepared, layout=NTU25)
    expected = smae.from_keypoints(take, layout="mediapipe33").clip(NTU25)
    (clip,) = read_recordings(files, prepared=prepared, layout=NTU25, own="mediapipe33").clips
    np.testing.assert_array_equal(clip.joints, expected.joints)


def test_a_recording_that_says_its_layout_takes_no_other(raw):
    with pytest.raises(ConfigError, match="say whose joints they hold: leave it out, or, for files that do not, add"):
        read_recordings([raw], prepared=PreparationConfig(), layout=NTU25, own="mediapipe33")


def test_a_probe_that_keeps_no_head_is_named_under_its_earlier_word_too(tmp_path, caplog):
    with pytest.raises(UnknownNameError, match="'knn': expected one of linear, finetune, transfer"):
        smae.predict([tmp_path / "a.skeleton"], mode="knn")
    assert "predict: mode is now probe" in caplog.text
