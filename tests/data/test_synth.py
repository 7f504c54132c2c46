"""Synthetic raw data: valid files, the promised names and faults, human bodies, and the same bytes every time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import chain

import numpy as np
import pytest

from smae.data.raw.skeleton_parser import read_plain
from smae.data.synthetic.choreography import ACTIONS, ease, perform
from smae.data.synthetic.simulator import (
    FEET,
    JOINT,
    TREE,
    Track,
    View,
    drift,
    forward,
    make_body,
    observe,
    skeleton_text,
)
from smae.data.synthetic.synth import CLASSES, synthesise
from smae.errors import ConfigError
from smae.skeleton import NTU25

ACTS = [(action.name, act) for action in ACTIONS for act in action.acts]
PHASE = np.linspace(0, 1, 80)
SMALL = {"actions": 12, "subjects": 1, "cameras": 2, "replications": 1}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    out = tmp_path_factory.mktemp("synth") / "raw"
    return synthesise(out, seed=3, **SMALL)


def joints(act, *, size=1.0, mirrored=False):
    motion = perform(act, phase=PHASE, size=size)
    return forward(make_body(1.75), motion.mirrored() if mirrored else motion)


def ids_by_frame(path):
    """Return the body ids of each frame, without reading a joint: the reader takes a tenth of a second a file."""
    lines, frames = path.read_text().splitlines(), []
    at = 1
    while at < len(lines):
        count = int(lines[at])
        frames.append([lines[at + 1 + 27 * body].split()[0] for body in range(count)])
        at += 1 + 27 * count
    return frames


def test_every_file_passes_the_strict_reader(raw):
    files = sorted(raw.out.glob("*.skeleton"))
    assert len(files) == raw.files == 12 * 2
    assert {f.name[16:20] for f in files} == set(raw.classes) == set(list(CLASSES)[:12])
    frames = 0
    for path in files:
        recording = read_plain(path.read_bytes(), strict=True)
        frames += recording.frames
        assert 50 <= recording.frames <= 110
        assert recording.xyz.shape[1:] == (25, 3)
        assert set(np.unique(recording.state)) <= {0, 1, 2}
        assert (recording.xyz[..., 2] > 0.8).all()
        assert (recording.xyz[..., 2] < 6).all()
    assert frames == raw.frames


def test_two_person_actions_have_two_bodies_and_the_others_one(tmp_path):
    synthesise(tmp_path / "raw", actions=12, subjects=1, cameras=1, replications=1, hard=False)
    bodies = {p.name[16:20]: len(set(chain(*ids_by_frame(p)))) for p in (tmp_path / "raw").glob("*.skeleton")}
    assert {name for name, count in bodies.items() if count == 2} == {"A011", "A012"}
    assert {count for name, count in bodies.items() if name not in ("A011", "A012")} == {1}


def test_hard_data_hold_every_kind_of_fault(tmp_path):
    summary = synthesise(tmp_path / "raw", actions=12, subjects=2, cameras=1, replications=1)
    assert set(summary.faults) == {"gap", "new-id", "late-body", "short-phantom", "wide-phantom"}
    recordings = [ids_by_frame(p) for p in (tmp_path / "raw").glob("*.skeleton")]
    assert any([] in frames for frames in recordings), "no frame is empty"
    counts = [Counter(chain(*frames)) for frames in recordings]
    assert max(map(len, counts)) > 2, "no phantom beside two people"
    assert min(min(count.values()) for count in counts) <= 11, "no phantom that the length rule removes"


def test_the_same_arguments_give_the_same_bytes_under_any_hash_seed(raw, tmp_path):
    code = (
        "from pathlib import Path; from smae.data.synthetic.synth import synthesise; "
        f"synthesise(Path('raw'), seed=3, **{SMALL})"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, env={"PYTHONHASHSEED": "77", "PYTHONPATH": path}
    )
    for file in raw.out.glob("*.skeleton"):
        assert (tmp_path / "raw" / file.name).read_bytes() == file.read_bytes(), file.name


def test_another_seed_gives_other_people(raw, tmp_path):
    synthesise(tmp_path / "raw", seed=4, actions=1, subjects=1, cameras=1, replications=1)
    (other,) = (tmp_path / "raw").glob("*.skeleton")
    assert other.read_bytes() != (raw.out / other.name).read_bytes()


def test_cameras_see_one_performance_from_three_sides(tmp_path):
    synthesise(tmp_path / "raw", actions=1, subjects=1, cameras=3, replications=1, hard=False)
    seen = [read_plain(p.read_bytes()).xyz for p in sorted((tmp_path / "raw").glob("*.skeleton"))]
    assert len({len(xyz) for xyz in seen}) == 1
    across = [np.median(xyz[:, JOINT["right shoulder"]] - xyz[:, JOINT["left shoulder"]], axis=0) for xyz in seen]
    middle, left, right = (np.degrees(np.arctan2(v[2], v[0])) for v in across)
    assert abs(left - middle) == pytest.approx(45, abs=8)
    assert abs(right - middle) == pytest.approx(45, abs=8)
    assert np.sign(left - middle) == -np.sign(right - middle)


ONE = {"actions": 1, "subjects": 1, "cameras": 1, "replications": 1}


def test_an_earlier_output_is_replaced_only_when_asked(tmp_path):
    out = tmp_path / "raw"
    out.mkdir()
    synthesise(out, **SMALL)
    with pytest.raises(ConfigError, match="is there already: add --overwrite"):
        synthesise(out, **ONE)
    assert len(list(out.iterdir())) == 12 * 2 + 1
    synthesise(out, **ONE, overwrite=True)
    assert sorted(p.name for p in out.iterdir()) == ["S002C001P001R001A001.skeleton", "classes.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_overwrite_leaves_foreign_files_and_folders_intact(tmp_path):
    real, mixed, file = tmp_path / "real", tmp_path / "mixed", tmp_path / "file"
    real.mkdir()
    (real / "S009C001P009R001A009.skeleton").write_text("a recording of somebody")
    synthesise(mixed, **ONE)
    (mixed / "notes.txt").write_text("mine")
    file.write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for out in (real, mixed, file):
        with pytest.raises(ConfigError, match="is not a folder of synthetic recordings, so it is not replaced"):
            synthesise(out, **ONE, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("name", "value"), [("actions", 0), ("actions", 99), ("cameras", 4), ("subjects", 41)])
def test_numbers_out_of_range_are_refused_before_anything_is_written(tmp_path, name, value):
    with pytest.raises(ConfigError, match=f"{name}: expected 1 to .*, found {value}"):
        synthesise(tmp_path / "raw", **{name: value})
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(("name", "act"), ACTS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(ACTS)])
def test_bodies_keep_their_bones_their_feet_on_the_floor_and_human_speed(name, act):
    body = make_body(1.75)
    xyz = joints(act)
    for child, parent in TREE:
        bones = np.linalg.norm(xyz[:, child] - xyz[:, parent], axis=-1)
        np.testing.assert_allclose(bones, np.linalg.norm(body[child] - body[parent]), atol=1e-9)
    lowest = xyz[:, FEET, 1].min(axis=1)
    assert lowest.min() == pytest.approx(body[FEET[0], 1])
    assert (lowest.max() > 0.2) == (name == "jump")
    assert xyz[..., 1].min() > -0.12, "a joint under the floor"
    assert np.abs(np.diff(xyz, axis=0)).max() * 30 < 14, "a joint faster than a thrown hand, metres a second"


def test_hands_go_where_the_action_needs_them():
    acts = dict(ACTS)
    drink = joints(acts["drink"])
    reach = np.linalg.norm(drink[:, JOINT["right hand"]] - drink[:, JOINT["head"]], axis=-1)
    assert reach.min() < 0.28  # the hand holds a cup before the mouth
    clap = joints(acts["clap"])
    apart = np.linalg.norm(clap[:, JOINT["right hand"]] - clap[:, JOINT["left hand"]], axis=-1)
    assert apart.min() < 0.12
    assert apart[20:60].max() > 0.25
    wave = joints(acts["wave"])
    assert wave[40, JOINT["right hand"], 1] > wave[40, JOINT["head"], 1]


def test_the_left_handed_version_is_the_mirror_image():
    act = dict(ACTS)["throw"]
    order = np.arange(len(NTU25))
    for left, right in NTU25.mirror:
        order[left], order[right] = right, left
    np.testing.assert_allclose(joints(act, mirrored=True), joints(act)[:, order] * (-1, 1, 1), atol=1e-9)


def test_ease_passes_its_keys_and_stays_flat_outside():
    curve = ease(np.array([0, 0.2, 0.35, 0.5, 1.0]), (0.2, 1.0), (0.5, 3.0))
    np.testing.assert_allclose(curve, [1, 1, 2, 3, 3])


def test_joints_behind_the_trunk_are_inferred_and_noise_grows_with_distance():
    person = forward(make_body(1.75), perform(ACTIONS[0].acts[0], phase=np.zeros(200), size=1.0))
    person[:, JOINT["left hand"]] = person[:, JOINT["spine mid"]] + (0, 0, 0.3)
    errors = []
    for distance in (2.0, 4.0):
        seen = View(0, distance, 0.9, 0).project(person)
        xyz, state = observe(np.random.default_rng(0), seen)
        assert (state[:, JOINT["left hand"]] == 1).all()
        assert (state[:, JOINT["left thumb"]] == 0).all()
        errors.append(np.abs(xyz - seen)[:, JOINT["spine mid"]].mean())
    assert errors[1] == pytest.approx(4 * errors[0], rel=0.1)


def test_printed_numbers_come_back(tmp_path):
    rng = np.random.default_rng(1)
    xyz = rng.uniform((-1, -1, 2), (1, 1, 4), (3, 25, 3))
    track = Track(2**56 + 5, np.array([0, 2, 3]), xyz, rng.integers(0, 3, (3, 25)))
    data = skeleton_text(5, [track])
    recording = read_plain(data)
    assert data.endswith(b"\r\n")
    assert b"\n" not in data.replace(b"\r\n", b"")
    assert recording.frames == 5
    np.testing.assert_array_equal(recording.frame, [0, 2, 3])
    np.testing.assert_array_equal(recording.body, [2**56 + 5] * 3)
    np.testing.assert_array_equal(recording.state, track.state)
    np.testing.assert_allclose(recording.xyz, xyz, rtol=1e-6)
    first = data.split(b"\r\n")[4].split()
    assert float(first[3]) == pytest.approx(256 + 365 * xyz[0, 0, 0] / xyz[0, 0, 2], abs=1e-2)
    assert float(first[6]) == pytest.approx(540 - 1060 * xyz[0, 0, 1] / xyz[0, 0, 2], abs=1e-2)


def test_drift_is_smooth():
    waves = drift(np.random.default_rng(0), 200, 4)
    assert waves.shape == (200, 4)
    assert np.abs(np.diff(waves, axis=0)).max() < 1
