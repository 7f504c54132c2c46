"""Keypoints: arrays and the JSON of MediaPipe, MMPose and OpenPose become recordings in metres."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import smae
from smae.data.raw.recording import MISSING
from smae.data.raw.source import make_source
from smae.errors import BadRecording, ConfigError, DataError
from smae.eval.export import PreparationConfig
from smae.eval.raw_clips import read_recordings
from smae.skeleton import H36M17, MEDIAPIPE33, OPENPOSE25
from smae.testing.sources import SourceContract
from smae.viz.scene import scene_of_clip


def pose(joints: int, *, frames: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    start = rng.uniform([-0.4, -0.9, 2.7], [0.4, 0.9, 3.3], (joints, 3))
    return (start + rng.normal(0, 0.01, (frames, joints, 3)).cumsum(0)).round(5).astype(np.float32)


def parse(data: bytes, layout, *, strict: bool = False):
    return make_source("keypoints", layout).parse(data, strict=strict, max_range=20)


def saved(tmp_path: Path, array) -> bytes:
    np.save(tmp_path / "x.npy", array)
    return (tmp_path / "x.npy").read_bytes()


def write_openpose(folder: Path, stem: str, x: np.ndarray, *, key: str = "pose_keypoints_3d") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for frame, points in enumerate(x):
        numbers = np.concatenate([points, np.ones((len(points), 1))], axis=1).ravel().tolist()
        content = {"version": 1.3, "people": [{"person_id": [-1], key: numbers}]}
        (folder / f"{stem}_{frame:012}_keypoints.json").write_text(json.dumps(content))


@pytest.mark.parametrize("form", ["frames", "bodies", "scores", "columns", "archive"])
def test_arrays_of_every_form_give_the_same_rows(tmp_path, form):
    x = pose(17)
    arrays = {"frames": x, "bodies": x[None], "scores": np.dstack([x, np.ones((12, 17))]), "columns": x.reshape(12, 51)}
    if form == "archive":
        np.savez_compressed(tmp_path / "x.npz", keypoints=x, scores=np.ones(12))
        recording = parse((tmp_path / "x.npz").read_bytes(), H36M17)
    else:
        recording = parse(saved(tmp_path, arrays[form]), H36M17)
    np.testing.assert_array_equal(recording.xyz, x)
    assert recording.frame.tolist() == list(range(12))


def test_json_of_mediapipe_is_turned_upright():
    x = pose(33)
    frames = [
        {
            "pose_world_landmarks": [
                [dict(zip("xyz", map(float, joint), strict=True), visibility=0.9) for joint in points]
            ]
        }
        for points in x
    ]
    frames[4] = {"pose_world_landmarks": []}
    recording = parse(json.dumps(frames).encode(), MEDIAPIPE33)
    assert recording.frames == 12
    assert recording.frame.tolist() == [frame for frame in range(12) if frame != 4]
    np.testing.assert_array_equal(recording.xyz[0], x[0] * [-1, -1, 1])


def test_json_of_mmpose_keeps_its_people_apart():
    first, second = pose(17, seed=1), pose(17, seed=2)
    frames = [
        {
            "frame_id": i,
            "instances": [{"keypoints": body[i].tolist(), "keypoint_scores": [1] * 17} for body in (first, second)],
        }
        for i in range(12)
    ]
    recording = parse(json.dumps({"instance_info": frames}).encode(), H36M17)
    np.testing.assert_array_equal(recording.xyz[recording.body == 1], second)


def test_joints_with_score_0_are_missing(tmp_path):
    x = np.dstack([pose(17), np.ones((12, 17))]).astype(np.float32)
    x[3, 5, 3] = 0
    recording = parse(saved(tmp_path, x), H36M17)
    assert np.isnan(recording.xyz[3, 5]).all()
    assert recording.notes == {"nan": 1}
    with pytest.raises(BadRecording, match="NaN"):
        parse(saved(tmp_path, x), H36M17, strict=True)


@pytest.mark.parametrize(
    "content",
    [
        [[[0.1, 0.2]] * 17],
        [{"people": [{"pose_keypoints_2d": [0.5] * 51}]}],
        [{"pose_landmarks": [[{"x": 0.1, "y": 0.2, "z": 0.1}] * 17]}],
        [[0.3] * 34],
    ],
)
def test_points_in_an_image_are_refused_with_the_reason(content):
    with pytest.raises(BadRecording, match="depth cannot be read off one picture"):
        parse(json.dumps(content).encode(), H36M17)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"3",
        b'[["a"]]',
        b"[[1, 2, 3]]",
        b"[[[[[[[1]]]]]]]",
        b"[[true]]",
        b'{"frames": 1}',
        b"\x93NUMPY",
        b"PK\x03\x04",
    ],
)
def test_anything_else_is_a_bad_recording(content):
    with pytest.raises(BadRecording):
        parse(content, H36M17)


class TestKeypoints(SourceContract):
    name = "keypoints"

    def write_raw(self, folder):
        for number, action in enumerate(("sit", "wave", "wave")):
            (folder / action).mkdir(exist_ok=True)
            np.save(folder / action / f"take{number}.npy", pose(17, seed=number))
        return folder


# The contract's tests name no layout: the source under test is the one for Human3.6M's joints.
@pytest.fixture(autouse=True)
def human36m(request, monkeypatch):
    if request.cls is TestKeypoints:
        from smae.data.raw.keypoints import KeypointsSource

        monkeypatch.setattr(KeypointsSource, "given_layout", H36M17)


def test_a_folder_is_prepared_with_classes_by_folder(tmp_path):
    for number, action in enumerate(("sit", "wave", "wave")):
        write_openpose(tmp_path / "raw" / action, f"take{number}", pose(25, seed=number) * 100)
    np.save(tmp_path / "raw" / "sit" / "S001C001P001R001A009.npy", pose(25, seed=9) * 100)
    options = {"source": "keypoints", "executor": "inline"}
    with pytest.raises(ConfigError, match="keypoints do not say whose joints they are: add --layout"):
        smae.prepare(tmp_path / "raw", tmp_path / "x.zarr", **options)
    with pytest.raises(ConfigError, match="say the unit"):
        smae.prepare(tmp_path / "raw", tmp_path / "x.zarr", layout="openpose25", **options)
    made = smae.prepare(tmp_path / "raw", tmp_path / "x.zarr", layout="openpose25", unit="cm", fps=25, **options)
    store = smae.open_store(made.store)
    assert store.clips.name.tolist() == ["S001C001P001R001A009", "sit-take0", "wave-take1", "wave-take2"]
    assert store.classes == ("A009", "sit", "wave")
    assert store.layout == OPENPOSE25
    assert store.attributes.origin["fps"] == 25
    x = pose(25, seed=1)
    np.testing.assert_allclose(store.clip(2)[0], x - x[0, 8], atol=1e-5)
    about = smae.explain(store.path, "wave-take1", raw=tmp_path / "raw")
    assert not about.differs
    shown = scene_of_clip(store, 2, raw=tmp_path / "raw")
    np.testing.assert_allclose(shown.panels[0].joints[0], x, atol=1e-5)


def test_openpose_without_3d_is_refused_with_the_reason(tmp_path):
    write_openpose(tmp_path / "raw" / "sit", "take", pose(25)[..., :2], key="pose_keypoints_2d")
    with pytest.raises(DataError, match="points in a picture, which 3D encoders cannot take"):
        smae.prepare(tmp_path / "raw", tmp_path / "x.zarr", source="keypoints", executor="inline", layout="openpose25")
    assert not (tmp_path / "x.zarr").exists()


def test_one_file_is_a_raw_path(tmp_path):
    np.save(tmp_path / "take.npy", pose(17))
    made = smae.prepare(
        tmp_path / "take.npy", tmp_path / "x.zarr", source="keypoints", executor="inline", layout="h36m17"
    )
    assert made.ok == 1


def test_arrays_in_memory_become_a_store_in_the_joints_asked_for(tmp_path):
    takes = [
        smae.from_keypoints(
            pose(33, seed=i) * 100, layout="mediapipe33", fps=30, unit="cm", name=f"take{i}", label="wave"
        )
        for i in range(2)
    ]
    store = smae.write_recordings(takes, tmp_path / "x.zarr", layout="ntu25")
    assert store.clips.name.tolist() == ["take0", "take1"]
    assert store.classes == ("wave",)
    assert store.attributes.origin["fps"] == 30
    assert store.attributes.origin["converted_from"] == "mediapipe33"
    assert (store.clip_state(0)[:, :, 7] != MISSING).all()
    plain = smae.write_recordings(takes, tmp_path / "y.zarr")
    assert plain.layout == MEDIAPIPE33
    with pytest.raises(DataError, match="each name once"):
        smae.write_recordings([takes[0], takes[0]], tmp_path / "z.zarr")
    with pytest.raises(DataError, match="found no recording"):
        smae.write_recordings([], tmp_path / "z.zarr")


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (pose(17)[..., :2], {}, "points in a picture"),
        (pose(17) * 1000, {}, "the bodies extend over .* say the unit"),
        (pose(17), {"unit": "mm"}, "the bodies extend over 0.00"),
        (pose(16), {}, r"expected \[frames, 17, 3\]"),
        (pose(17) * np.inf, {}, "infinite"),
    ],
)
def test_arrays_that_are_no_recording_are_refused(array, options, message):
    with pytest.raises(DataError, match=message), np.errstate(invalid="ignore"):
        smae.from_keypoints(array, layout="h36m17", **options)


def test_an_encoder_takes_recordings_in_memory_of_other_joints(tmp_path):
    takes = [
        smae.from_keypoints(pose(33, seed=i), layout="mediapipe33", name=f"take{i}", label="ab"[i]) for i in range(2)
    ]
    store = smae.write_recordings(takes, tmp_path / "x.zarr", layout="h36m17")
    settings = {"train.max_steps": 1, "train.batch": 2, "encoder.dim": 16, "encoder.heads": 2, "augment.align": "none"}
    options = {"recipe": "cpu", "protocol": "all", "settings": settings, "device": "cpu"}
    smae.pretrain(data=store.path, out=tmp_path / "run", **options)
    stored = smae.embed(store, tmp_path / "a.npz", run=tmp_path / "run", device="cpu")
    memory = smae.embed(takes, tmp_path / "b.npz", run=tmp_path / "run", device="cpu")
    assert memory.x.shape == (2, 16)
    np.testing.assert_array_equal(memory.x, stored.x)
    (one,) = read_recordings(takes[1:], prepared=PreparationConfig(frames=12), layout=H36M17).clips
    np.testing.assert_array_equal(one.joints, store.clip(1))
    np.save(tmp_path / "take1.npy", pose(33, seed=1) * 1000)
    prepared = PreparationConfig(source="keypoints", unit="mm")
    (file,) = read_recordings([tmp_path / "take1.npy"], prepared=prepared, layout=MEDIAPIPE33).clips
    np.testing.assert_allclose(file.joints, takes[1].clip(MEDIAPIPE33).joints, atol=1e-5)
    with pytest.raises(BadRecording, match="of layout h36m17, found"):
        read_recordings([tmp_path / "take1.npy"], prepared=prepared, layout=H36M17)
