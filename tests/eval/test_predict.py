"""Prediction: clips are prepared like those of the store, in each mode; which head is used."""

from __future__ import annotations

import json

import numpy as np
import pytest

import smae
from smae.data.loader.loader import Loader
from smae.errors import ConfigError, DataError
from smae.eval.export import PreparationConfig
from smae.eval.predict import ClipsInMemory, find_head, read_clip
from smae.skeleton import KINECT20, NTU25
from smae.train.run_folder import VERSION, Run
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
    clips = [read_clip(paths[name], prepared=prepared, layout=NTU25) for name in store.clips.name.tolist()]
    own = ClipsInMemory(clips, layout=NTU25, mode=mode)
    first, second = (
        next(iter(Loader(source, np.arange(len(clips)), augment=small_config().augment, batch=64, seed=0, train=False,
                         device=CPU, workers=0).epoch(0)))
        for source in (store, own)
    )  # fmt: skip
    assert len(clips) == len(store) > 2
    assert np.array_equal(first.x.numpy(), second.x.numpy())
    assert np.array_equal(first.clip.numpy(), second.clip.numpy())


def test_a_source_that_does_not_fit_is_refused(raw):
    path = next(raw.rglob("*.skeleton"))
    with pytest.raises(DataError, match="layout ntu25, the encoder was trained on kinect20"):
        read_clip(path, prepared=PreparationConfig(), layout=KINECT20)
    with pytest.raises(ConfigError, match="holds many clips in a file"):
        read_clip(path, prepared=PreparationConfig(source="ctrgcn-npz"), layout=NTU25)


def a_run(folder, *heads, protocol="xsub"):
    for name in heads:
        (folder / "heads" / name).mkdir(parents=True)
    plain = {"version": VERSION, "config": {"protocol": protocol}, "store": {}, "versions": {}, "device": {}}
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(plain))
    return Run(folder)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "ntu60-xsub-finetune"),
        ({"mode": "linear"}, "ntu60-xsub-linear"),
        ({"protocol": "xview"}, "ntu60-xview-linear"),
        ({"protocol": "ntu60-xview", "mode": "linear"}, "ntu60-xview-linear"),
    ],
)
def test_the_runs_own_protocol_and_the_fine_tuned_head_come_first(tmp_path, options, name):
    run = a_run(tmp_path / "run", "ntu60-xsub-linear", "ntu60-xview-linear", "ntu60-xsub-finetune")
    assert find_head(run, **options).name == name


def test_a_missing_head_is_an_error_with_the_command_that_makes_it(tmp_path):
    run = a_run(tmp_path / "run", "ntu60-xsub-linear")
    with pytest.raises(DataError, match=r"of finetune \(there: ntu60-xsub-linear\): make one with `smae eval"):
        find_head(run, mode="finetune")
