"""Scenes of recordings and clips: their panels, notes and errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from smae.data.prepare import PrepareSettings
from smae.data.prepare.run import prepare
from smae.data.raw.recording import MISSING, Recording
from smae.data.store import open_store
from smae.errors import DataError, NoBody, UnknownNameError
from smae.viz.scene import find_clip, scene_of_clip, scene_of_raw
from tests.data import raw_folder

NAMES = raw_folder.names(3)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A folder with two good recordings, the second of two bodies, and a bad one."""
    contents = dict(
        zip(NAMES, (raw_folder.skeleton(20), raw_folder.skeleton(20, seed=1, bodies=2), b"2\n"), strict=True)
    )
    return raw_folder.write_folder(tmp_path_factory.mktemp("raw"), {f"{n}.skeleton": d for n, d in contents.items()})


@pytest.fixture(scope="module")
def store(raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("stores") / "ntu.zarr"
    prepare(raw, out, executor="inline", max_bad=1.0)
    return open_store(out)


def test_a_clip_is_shown_as_stored(store):
    index = store.index_of(NAMES[1])
    made = scene_of_clip(store, index)
    assert made.name == NAMES[1]
    assert made.title.startswith(f"{NAMES[1]} · A")
    (panel,) = made.panels
    np.testing.assert_array_equal(panel.joints, store.clip(index))
    np.testing.assert_array_equal(panel.kind, store.clip_state(index))


def test_raw_bodies_are_shown_beside_the_clip(store, raw):
    made = scene_of_clip(store, store.index_of(NAMES[1]), raw=raw)
    first, second = made.panels
    assert first.bodies[0].startswith("id ")
    assert sorted(first.roles) == [0, 1]
    assert made.notes == ()
    for body, role in enumerate(first.roles):
        offset = (first.joints[body] - second.joints[role]).reshape(-1, 3)
        assert np.ptp(offset, axis=0).max() < 1e-5, "cleaning moves an actor as a whole"


def test_another_raw_file_gives_a_note(store, tmp_path):
    other = raw_folder.write_folder(tmp_path / "raw", {f"{NAMES[0]}.skeleton": raw_folder.skeleton(20, seed=5)})
    made = scene_of_clip(store, store.index_of(NAMES[0]), raw=other)
    assert "NOT the one" in made.notes[0]


def test_a_raw_file_is_shown_raw_and_denoised(raw):
    made = scene_of_raw(raw / f"{NAMES[0]}.skeleton", None, PrepareSettings())
    assert [panel.title for panel in made.panels] == ["raw", "denoised (reference mode)"]
    assert made.title.startswith(f"{NAMES[0]} · A")


def test_a_file_of_another_name_has_no_action(raw, tmp_path):
    path = tmp_path / "mine.skeleton"
    path.write_bytes((raw / f"{NAMES[0]}.skeleton").read_bytes())
    assert scene_of_raw(path, None, PrepareSettings()).title == "mine"


def test_a_removed_body_has_its_own_role(raw, monkeypatch):
    from smae.data.raw.ntu import NtuSource

    parse = NtuSource.parse

    def with_a_phantom(self, data, **options):
        real: Recording = parse(self, data, **options)
        rng = np.random.default_rng(0)
        at = np.concatenate([real.frame, real.frame[:1]])
        order = np.argsort(at, kind="stable")
        return replace(
            real,
            frame=at[order],
            body=np.concatenate([real.body, np.uint64([1])])[order],
            xyz=np.concatenate([real.xyz, rng.uniform(-1, 1, (1, 25, 3)).astype(np.float32)])[order],
            state=np.concatenate([real.state, real.state[:1]])[order],
        )

    monkeypatch.setattr(NtuSource, "parse", with_a_phantom)
    first = scene_of_raw(raw / f"{NAMES[0]}.skeleton", None, PrepareSettings()).panels[0]
    assert dict(zip(first.bodies, first.roles, strict=True))["id 1"] == 2
    assert (first.kind[first.bodies.index("id 1")] != MISSING).any(-1).sum() == 1


def test_a_bad_file_has_the_message_of_the_quarantine_list(raw, store):
    words = f"{NAMES[2]}.skeleton:1:1: truncated"
    with pytest.raises(DataError, match=words):
        scene_of_raw(raw / f"{NAMES[2]}.skeleton", None, PrepareSettings())
    with pytest.raises(DataError, match=words):
        scene_of_raw(raw, NAMES[2], PrepareSettings())
    with pytest.raises(DataError, match=f"{words}.*it was quarantined"):
        find_clip(store, NAMES[2])


def test_an_unknown_clip_is_refused(store):
    with pytest.raises(UnknownNameError, match="unknown clip"):
        find_clip(store, "S009C001P001R001A001")


def test_a_recording_without_bodies_is_refused(tmp_path):
    path = tmp_path / f"{NAMES[0]}.skeleton"
    path.write_bytes(b"2\n0\n0\n")
    with pytest.raises(NoBody, match="nothing to show"):
        scene_of_raw(path, None, PrepareSettings())
