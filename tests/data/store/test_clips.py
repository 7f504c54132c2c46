"""A store as a sequence of clips: numbers and names, arrays and tensors of both bodies, a dataset, a table."""

from __future__ import annotations

import builtins
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import smae
from smae.data.raw.recording import MISSING
from smae.data.store.clips import StoreClip
from smae.errors import ConfigError, EnvironmentFault, UnknownNameError
from smae.skeleton import NTU25


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    smae.synthesise(folder / "ntu", actions=2, subjects=3, cameras=2, replications=1)
    smae.prepare(folder / "ntu", folder / "ntu.zarr", executor="inline")
    return smae.open_store(folder / "ntu.zarr")


def test_a_clip_is_found_by_number_and_by_name(store):
    clip = store[3]
    assert store[clip.name].index == store[3 - len(store)].index == 3
    assert np.array_equal(store.clip(clip.name), store.clip(3))
    assert np.array_equal(clip.joints, store.clip(3))
    assert np.array_equal(clip.state, store.clip_state(3))
    assert (clip.label, clip.action) == (store.clips.label[3], store.classes[store.clips.label[3]])
    assert clip.facts["subject"] == store.clips.subject[3]
    with pytest.raises(TypeError, match="as an integer"):
        store[0:2]
    with pytest.raises(IndexError, match=f"clip {len(store)} of {len(store)}"):
        store[len(store)]
    with pytest.raises(UnknownNameError, match="did you mean"):
        store.clip(clip.name[:-1] + "9")


def test_iteration_gives_every_clip_once(store):
    assert [clip.name for clip in store] == store.clips.name.tolist()


def test_the_prompt_shows_about_ten_lines(store):
    lines = repr(store).splitlines()
    assert 8 <= len(lines) <= 12
    assert "ntu60-xsub (train" in repr(store)
    assert "<table>" in store._repr_html_()


def two_bodies() -> StoreClip:
    joints = np.arange(2 * 4 * 25 * 3, dtype=np.float32).reshape(2, 4, 25, 3)
    state = np.full((2, 4, 25), 2, np.uint8)
    state[1, 2:] = MISSING
    joints[1, 2:] = np.nan
    return StoreClip("x", 0, 1, "A002", joints, state, {})


def test_both_bodies_have_a_fixed_form_with_a_mask():
    clip = two_bodies()
    joints, mask = clip.padded()
    assert joints.shape == (2, 4, 25, 3)
    assert mask[0].all()
    assert mask[1].any(1).tolist() == [True, True, False, False]
    assert (joints[1, 2:] == 0).all()
    assert np.array_equal(joints[0], clip.joints[0])
    one = StoreClip("y", 0, 0, "A001", clip.joints[:1], clip.state[:1], {})
    joints, mask = one.padded(8)
    assert joints.shape == (2, 8, 25, 3)
    assert mask[0].all()
    assert not mask[1].any()
    assert not joints[1].any()


def test_tensors_have_the_axes_of_published_models():
    clip = two_bodies()
    tensors = clip.tensors()
    joints, mask = clip.padded()
    assert tensors["x"].shape == (3, 4, len(NTU25), 2)
    assert torch.equal(tensors["x"][:, 1, 7, 0], torch.from_numpy(joints[0, 1, 7]))
    assert torch.equal(tensors["mask"][2, 5], torch.from_numpy(mask[:, 2, 5]))
    assert int(tensors["label"]) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_plain_data_loader_takes_the_dataset(store, workers):
    dataset = store.torch_dataset("xsub", "test", frames=16)
    assert dataset.index.tolist() == store.split("xsub").test.tolist()
    batches = list(DataLoader(pickle.loads(pickle.dumps(dataset)), batch_size=3, num_workers=workers))
    assert batches[0]["x"].shape == (3, 3, 16, 25, 2)
    assert torch.cat([batch["label"] for batch in batches]).tolist() == dataset.labels.tolist()
    assert torch.equal(batches[0]["x"][1], store[int(dataset.index[1])].tensors(16)["x"])
    assert len(store.torch_dataset(frames=None)) == len(store)


def test_a_part_that_is_not_there_is_refused(store):
    for part in ("val", "name", "tset"):
        with pytest.raises(ConfigError, match=f"part '{part}' of ntu60-xsub: expected one"):
            store.torch_dataset("xsub", part)


def test_the_table_of_clips_needs_pandas_and_says_so(store, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "pandas":
            raise ImportError("No module named 'pandas'")
        return real(name, *rest, **more)

    monkeypatch.setattr("importlib.import_module", without)
    with pytest.raises(EnvironmentFault, match=r"to_pandas needs pandas .*pip install pandas"):
        store.to_pandas()


def test_the_table_of_clips(store):
    pytest.importorskip("pandas", reason="pandas is not installed")
    table = store.to_pandas()
    assert table.index.tolist() == store.clips.name.tolist()
    assert table["label"].tolist() == store.clips.label.tolist()
    assert (table["ntu60-xsub"] == "test").sum() == len(store.split("xsub").test)
