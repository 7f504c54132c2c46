"""Layouts that a store carries, units that are asked about, and maps from one layout to another."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import smae
from smae.data.prepare.run import prepare
from smae.data.raw.recording import MISSING, Clip
from smae.data.store import Store, open_store
from smae.data.store.clips import ClipFacts
from smae.data.store.convert import layout_map
from smae.data.store.writer import Header, write_store
from smae.errors import ConfigError, DataError
from smae.eval.export import read_weights
from smae.skeleton import AZURE32, BUILT_IN, COCO17, H36M17, KINECT20, MEDIAPIPE33, NTU25, Layout, load_layout

HAND = Layout("hand3", ("palm", "left tip", "right tip"), ((1, 0), (2, 0)), ((1, 2),), {"all": (0, 1, 2)}, 0)


def joints_of(layout: Layout, *, frames: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, (1, frames, len(layout), 3)).astype(np.float32)


def write(path: Path, layout: Layout, *, mode: str = "reference", clips: int = 4) -> Store:
    header = Header(layout=layout, mode=mode, dataset="mine", classes=("a", "b"))
    made = [
        (
            ClipFacts(f"clip{n}", "ab"[n % 2], subject=n),
            Clip(joints_of(layout, seed=n), np.full((1, 6, len(layout)), 2, np.uint8)),
        )
        for n in range(clips)
    ]
    write_store(path, header=header, clips=made, splits={"mine": np.array([1, 1, 2, 2][:clips], np.uint8)})
    return open_store(path)


def pickled(path: Path, keypoints: list[np.ndarray]) -> Path:
    notes = [
        {"frame_dir": f"clip{n}", "label": n % 2, "total_frames": one.shape[1], "keypoint": one}
        for n, one in enumerate(keypoints)
    ]
    path.write_bytes(pickle.dumps(notes))
    return path


def test_a_store_opens_without_the_plug_in_that_made_its_layout(tmp_path: Path) -> None:
    assert write(tmp_path / "hand.zarr", HAND).layout == HAND
    text = (tmp_path / "hand.zarr" / "zarr.json").read_text()
    assert '"skeleton"' in text
    write(tmp_path / "ntu.zarr", NTU25)
    assert '"skeleton"' not in (tmp_path / "ntu.zarr" / "zarr.json").read_text()


def test_an_encoder_of_such_a_store_is_exported_and_loaded_without_it(tmp_path: Path) -> None:
    write(tmp_path / "hand.zarr", HAND)
    settings = {"train.max_steps": 1, "train.batch": 2, "encoder.dim": 16, "encoder.heads": 2, "augment.align": "none"}
    smae.pretrain(
        data=tmp_path / "hand.zarr",
        out=tmp_path / "run",
        recipe="cpu",
        protocol="mine",
        settings=settings,
        device="cpu",
    )
    smae.export_encoder(tmp_path / "run", out=tmp_path / "encoder")
    assert read_weights(tmp_path / "encoder").layout == HAND
    smae.export(open_store(tmp_path / "hand.zarr"), tmp_path / "hand.h5", format="hdf5")
    prepare(tmp_path / "hand.h5", tmp_path / "back.zarr", source="hdf5", executor="inline", unit="m")
    assert open_store(tmp_path / "back.zarr").layout == HAND


@pytest.mark.parametrize(
    "change",
    [{"bones": [[1, 2]]}, {"joints": ["palm"]}, {"centre": 7}, {"bones": "x"}, {"surplus": 1}, {"joints": [1, 2, 3]}],
)
def test_a_definition_that_is_none_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    from smae.skeleton import layout_from_json, layout_json

    with pytest.raises(ConfigError, match="layout hand3"):
        layout_from_json("hand3", layout_json(HAND)["skeleton"] | change)


def test_a_layout_from_a_file_says_what_does_not_follow_from_names(tmp_path: Path) -> None:
    (tmp_path / "upper.toml").write_text(
        'name = "upper"\njoints = ["spine", "head", "left shoulder", "left hand", "right shoulder", "right hand"]\n'
        'bones = [["head", "spine"], ["left shoulder", "spine"], ["left hand", "left shoulder"]]\ncentre = "spine"\n'
    )
    made = load_layout(str(tmp_path / "upper.toml"))
    assert made.mirror == ((2, 4), (3, 5))
    assert made.bones == ((1, 0), (2, 0), (3, 2), (4, 0), (5, 4))
    assert made.parts == {"torso": (0, 1), "left arm": (2, 3), "right arm": (4, 5)}
    assert made.across == ((2, 4),)
    for text, message in {
        "name = 1": "missing|names must be text",
        "name = ": "cannot be read as TOML",
        'name = "x"\njoints = ["a", "b"]\nbones = [["a", "c"]]\ncentre = "a"': "no joint 'c' among a, b",
    }.items():
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_layout(str(tmp_path / "bad.toml"))


def test_seventeen_joints_are_asked_about_and_taken_when_named(tmp_path: Path) -> None:
    file = pickled(tmp_path / "a.pkl", [joints_of(H36M17, seed=n) for n in range(4)])
    with pytest.raises(DataError, match=r"17 joints .* --layout with one of h36m17 \(17\), coco17 \(17\)"):
        prepare(file, tmp_path / "s.zarr", source="pyskl", executor="inline")
    prepare(file, tmp_path / "s.zarr", source="pyskl", executor="inline", layout="h36m17")
    store = open_store(tmp_path / "s.zarr")
    assert store.layout is H36M17
    assert store.attributes.origin["layout"] == "h36m17"
    assert not smae.explain(tmp_path / "s.zarr", "clip1", raw=file).differs
    with pytest.raises(DataError, match="17 joints, and layout ntu25 has 25"):
        prepare(file, tmp_path / "t.zarr", source="pyskl", executor="inline", layout="ntu25")
    with pytest.raises(ConfigError, match="files of source 'ntu' say whose joints they hold"):
        prepare(tmp_path / "a.pkl", tmp_path / "t.zarr", layout="h36m17", executor="inline")


def test_pixels_are_refused_with_the_reason(tmp_path: Path) -> None:
    file = pickled(tmp_path / "a.pkl", [joints_of(COCO17)[..., :2]])
    with pytest.raises(
        DataError, match="17 joints of 2 coordinates: pixels of a picture, which 3D encoders cannot take"
    ):
        prepare(file, tmp_path / "s.zarr", source="pyskl", executor="inline", layout="coco17")


@pytest.mark.parametrize(("factor", "unit"), [(1000, "mm"), (100, "cm")])
def test_units_are_asked_about_and_applied(tmp_path: Path, factor: int, unit: str) -> None:
    metres = [joints_of(NTU25, seed=n) for n in range(4)]
    file = pickled(tmp_path / "a.pkl", [one * factor for one in metres])
    with pytest.raises(ConfigError, match=r"the bodies extend over .* say the unit \(--unit mm, --unit cm"):
        prepare(file, tmp_path / "s.zarr", source="pyskl", executor="inline")
    prepare(file, tmp_path / "s.zarr", source="pyskl", executor="inline", unit=unit)
    store = open_store(tmp_path / "s.zarr")
    np.testing.assert_allclose(store.clip(1), metres[1], rtol=1e-5)
    assert store.attributes.origin["unit"] == unit
    assert not smae.explain(tmp_path / "s.zarr", "clip1", raw=file).differs


def test_points_in_a_picture_are_refused_at_any_size(tmp_path: Path) -> None:
    made = []
    for n in range(4):
        points = np.random.default_rng(n).uniform(0, 1, (1, 6, 25, 3)).astype(np.float32)
        made.append(points)
    file = pickled(tmp_path / "a.pkl", made)
    with pytest.raises(
        ConfigError, match=r"points in a picture and a confidence.* ntu25 or openpose25: --layout says which"
    ):
        prepare(file, tmp_path / "a.zarr", source="pyskl", executor="inline")
    for points in made:
        points[..., :2] *= 2
        points[..., 2] = 0
    with pytest.raises(ConfigError, match="every joint has the same depth"):
        prepare(pickled(file, made), tmp_path / "a.zarr", source="pyskl", executor="inline")


def test_confidences_and_small_bodies_are_asked_about(tmp_path: Path) -> None:
    flat = np.concatenate([0.1 * joints_of(NTU25)[..., :2] + 0.5, np.full((1, 6, 25, 1), 0.9, np.float32)], -1)
    file = pickled(tmp_path / "a.pkl", [flat, flat])
    with pytest.raises(ConfigError, match="x, y and a confidence, they are not joints in 3D"):
        prepare(file, tmp_path / "s.zarr", source="pyskl", executor="inline")
    prepare(file, tmp_path / "s.zarr", source="pyskl", executor="inline", unit="m")


def test_recordings_in_millimetres_are_asked_about_too(tmp_path: Path) -> None:
    raw = tmp_path / "ntu"
    smae.synthesise(raw, actions=2, subjects=1, cameras=1, replications=1)
    prepare(raw, tmp_path / "metres.zarr", executor="inline", missing_list=False)
    for path in raw.glob("*.skeleton"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            cells = line.split()
            if len(cells) == 12:
                cells[:3] = [f"{1000 * float(cell):.4f}" for cell in cells[:3]]
                lines[number] = " ".join(cells)
        path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError, match="say the unit"):
        prepare(raw, tmp_path / "s.zarr", executor="inline", missing_list=False)
    prepare(raw, tmp_path / "s.zarr", executor="inline", missing_list=False, unit="mm")
    same, there = open_store(tmp_path / "s.zarr"), open_store(tmp_path / "metres.zarr")
    np.testing.assert_allclose(same.clip(0), there.clip(0), atol=1e-5)


def test_maps_take_joints_by_name_and_say_what_they_lack() -> None:
    mapping = layout_map(AZURE32, NTU25)
    assert mapping.missing == ()
    assert mapping.interpolated == ("neck",)
    mapping = layout_map(MEDIAPIPE33, NTU25)
    assert mapping.missing == ()
    mapping = layout_map(H36M17, NTU25)
    assert set(mapping.missing) == {
        f"{side} {part}" for side in ("left", "right") for part in ("hand", "hand tip", "thumb", "foot")
    }
    for source in BUILT_IN:
        for target in BUILT_IN:
            sums = layout_map(source, target).weights.sum(1)
            assert np.isin(np.round(sums, 5), (0, 1)).all(), (source.name, target.name)
        assert np.array_equal(layout_map(source, source).weights, np.eye(len(source)))


def test_a_mapped_clip_is_what_the_rules_say_by_hand() -> None:
    clip = Clip(joints_of(MEDIAPIPE33), np.full((1, 6, 33), 2, np.uint8))
    clip.state[0, 2, MEDIAPIPE33.joints.index("left hip")] = MISSING
    clip.state[0, 3, MEDIAPIPE33.joints.index("left ear")] = 1
    made = layout_map(MEDIAPIPE33, NTU25)(clip, gaps=True)

    def at(layout: Layout, name: str, joints: np.ndarray) -> np.ndarray:
        return joints[0, :, layout.joints.index(name)]

    def theirs(name: str) -> np.ndarray:
        return at(MEDIAPIPE33, name, clip.joints)

    base = (theirs("left hip") + theirs("right hip")) / 2
    top = (theirs("left shoulder") + theirs("right shoulder")) / 2
    head = (theirs("left ear") + theirs("right ear")) / 2
    seen = np.arange(6) != 2
    np.testing.assert_allclose(at(NTU25, "spine base", made.joints)[seen], base[seen], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        at(NTU25, "spine mid", made.joints)[seen], ((base + top) / 2)[seen], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(at(NTU25, "neck", made.joints), (2 * top + head) / 3, rtol=1e-5, atol=1e-6)
    hand = (theirs("left wrist") + theirs("left index") + theirs("left pinky")) / 3
    np.testing.assert_allclose(at(NTU25, "left hand", made.joints), hand, rtol=1e-5, atol=1e-6)
    assert np.isnan(at(NTU25, "spine base", made.joints)[2]).all()
    assert made.state[0, 2, NTU25.joints.index("spine base")] == MISSING
    assert made.state[0, 3, NTU25.joints.index("head")] == 1


def test_convert_writes_a_store_that_trains(tmp_path: Path) -> None:
    first = write(tmp_path / "azure.zarr", AZURE32)
    made = smae.convert(first.path, layout="ntu25", out=tmp_path / "ntu.zarr")
    store = open_store(tmp_path / "ntu.zarr")
    assert (store.layout, store.fingerprint, len(store)) == (NTU25, made.fingerprint, 4)
    assert store.protocols() == first.protocols()
    assert store.clips.name.tolist() == first.clips.name.tolist()
    assert store.attributes.origin["converted"] == first.fingerprint
    assert smae.verify(tmp_path / "ntu.zarr").ok
    shared = [(NTU25.joints.index(name), AZURE32.joints.index(name)) for name in NTU25.joints if name in AZURE32.joints]
    ours, theirs = zip(*shared, strict=True)
    np.testing.assert_allclose(store.clip(2)[:, :, ours], first.clip(2)[:, :, theirs], rtol=1e-6)
    with pytest.raises(ConfigError, match="add --overwrite"):
        smae.convert(first.path, layout="ntu25", out=tmp_path / "ntu.zarr")
    assert smae.convert(first.path, layout="ntu25", out=tmp_path / "ntu.zarr", overwrite=True) == made
    with pytest.raises(ConfigError, match="has layout azure32 already"):
        smae.convert(first.path, layout="azure32", out=tmp_path / "x.zarr")
    with pytest.raises(DataError, match="gives only"):
        smae.convert(write(tmp_path / "hand.zarr", HAND).path, layout="ntu25", out=tmp_path / "x.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["azure.zarr", "hand.zarr", "ntu.zarr"]


def test_kinects_map_onto_one_another() -> None:
    mapping = layout_map(NTU25, KINECT20)
    assert (mapping.missing, mapping.interpolated) == ((), ())
    clip = Clip(joints_of(NTU25), np.full((1, 6, 25), 2, np.uint8))
    made = mapping(clip, gaps=False)
    assert np.array_equal(made.joints[0, :, 4:], clip.joints[0, :, 4:20])
    assert np.array_equal(made.joints[0, :, 2], clip.joints[0, :, 20])
    exact = replace(clip, joints=clip.joints.copy())
    exact.state[0, 1, 20] = MISSING
    assert np.isnan(mapping(exact, gaps=True).joints[0, 1, 2]).all()
    assert (mapping(exact, gaps=False).joints[0, 1, 2] == 0).all()


def test_a_store_mapped_on_reading_is_the_converted_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for mode in ("reference", "exact"):
        first = write(tmp_path / f"{mode}.zarr", MEDIAPIPE33, mode=mode)
        smae.convert(first.path, layout="ntu25", out=tmp_path / f"{mode}-ntu25.zarr")
        there, here = open_store(tmp_path / f"{mode}-ntu25.zarr"), smae.map_store(first, "ntu25")
        assert here.layout is NTU25
        for one in (here, pickle.loads(pickle.dumps(here))):
            for index in range(len(first)):
                np.testing.assert_array_equal(one.clip(index), there.clip(index))
                np.testing.assert_array_equal(one.clip_state(index), there.clip_state(index))
    assert "joints of mediapipe33 are mapped to ntu25: interpolated " in caplog.text
    assert smae.map_store(first, MEDIAPIPE33) is first
    with pytest.raises(DataError, match="gives only"):
        smae.map_store(write(tmp_path / "hand.zarr", HAND), "ntu25")


def test_an_encoder_is_evaluated_on_a_store_of_another_layout_when_asked(tmp_path: Path) -> None:
    write(tmp_path / "ntu.zarr", NTU25)
    write(tmp_path / "azure.zarr", AZURE32)
    settings = {"train.max_steps": 1, "train.batch": 2, "encoder.dim": 16, "encoder.heads": 2}
    smae.pretrain(
        data=tmp_path / "ntu.zarr", out=tmp_path / "run", recipe="cpu", protocol="mine", settings=settings, device="cpu"
    )
    evaluate = {"run": tmp_path / "run", "data": tmp_path / "azure.zarr", "probes": ["knn"], "device": "cpu"}
    with pytest.raises(DataError, match=r"--layout ntu25, or smae convert"):
        smae.evaluate(**evaluate)
    _, found = smae.evaluate(**evaluate, layout="ntu25")
    smae.convert(tmp_path / "azure.zarr", layout="ntu25", out=tmp_path / "converted.zarr")
    _, other = smae.evaluate(**evaluate | {"data": tmp_path / "converted.zarr"})
    assert [row.top1 for row in found.rows] == [row.top1 for row in other.rows]
    features = [
        smae.embed(tmp_path / name, tmp_path / f"{name}.npz", run=tmp_path / "run", device="cpu", **options).x
        for name, options in (("azure.zarr", {"layout": "ntu25"}), ("converted.zarr", {}))
    ]
    assert np.array_equal(*(one.numpy() for one in features))
