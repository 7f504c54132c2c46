"""Imports: what was exported comes back bit for bit; other people's files are read, hostile ones refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from smae.data.export import export
from smae.data.prepare import run
from smae.data.prepare.explain import explain
from smae.data.prepare.run import prepare
from smae.data.raw.array_source import remove_padding
from smae.data.raw.single_body import read_matlab_array
from smae.data.raw.source import SOURCES
from smae.data.store import Store, open_store
from smae.errors import BadRecording, ConfigError, DataError
from tests import corpora
from tests.data import imported


def prepared(raw: Path, out: Path, source: str) -> Store:
    summary = prepare(raw, out, source=source, executor="inline")
    assert not summary.quarantined
    return open_store(out)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("file", "columns", "protocol"), [("NTU60_CS", 60, "xsub"), ("NTU120_CSet", 120, "xset")])
def test_npz_comes_back_bit_for_bit(file: str, columns: int, protocol: str, compressed: bool, tmp_path: Path) -> None:
    raw = imported.write_npz(tmp_path / f"{file}.npz", columns=columns, compressed=compressed, double=columns == 120)
    store = prepared(raw, tmp_path / "s.zarr", "ctrgcn-npz")
    assert store.protocols() == {f"ntu{columns}-{protocol}": (4, 3)}
    assert store.clips.bodies.tolist() == [1, 2, 1, 1, 2, 1, 2]
    export(store, tmp_path / "back.npz", format="ctrgcn", protocol=protocol)
    with np.load(raw) as want, np.load(tmp_path / "back.npz") as got:
        assert {name: got[name].tobytes() for name in got} == {name: want[name].tobytes() for name in want}


@pytest.mark.parametrize("mode", ["reference", "exact"])
def test_hdf5_comes_back_bit_for_bit(mode: str, tmp_path: Path) -> None:
    first = imported.store(tmp_path / "first.zarr", mode=mode, count=20)
    export(first, tmp_path / "a.h5", format="hdf5")
    second = prepared(tmp_path / "a.h5", tmp_path / "second.zarr", "hdf5")
    assert (second.mode, second.dataset, second.classes) == (mode, first.dataset, first.classes)
    assert second.protocols() == first.protocols()
    export(second, tmp_path / "b.h5", format="hdf5")
    with h5py.File(tmp_path / "a.h5") as want, h5py.File(tmp_path / "b.h5") as got:
        names: list[str] = []
        want.visit(names.append)
        arrays = [name for name in names if isinstance(want[name], h5py.Dataset) and name != "clips/source"]
        assert len(arrays) >= 11
        assert all(want[name][()].tobytes() == got[name][()].tobytes() for name in arrays)


def test_hdf5_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    export(imported.store(tmp_path / "first.zarr", count=8), tmp_path / "good.h5", format="hdf5")
    changes = {
        "is a link": lambda file: file.__setitem__("state", h5py.ExternalLink("other.h5", "/state")),
        "in another file": lambda file: file.create_dataset("state", (4, 25), "u1", external=[("other", 0, 100)]),
        "KeyError": lambda file: None,
    }
    for message, change in changes.items():
        (tmp_path / "bad.h5").write_bytes((tmp_path / "good.h5").read_bytes())
        with h5py.File(tmp_path / "bad.h5", "r+") as file:
            del file["state"]
            change(file)
        with pytest.raises(DataError, match=message):
            SOURCES.get("hdf5")().discover(tmp_path / "bad.h5")
    (tmp_path / "bad.h5").write_bytes((tmp_path / "good.h5").read_bytes()[:5000])
    with pytest.raises(DataError, match="not a store that smae exported"):
        SOURCES.get("hdf5")().discover(tmp_path / "bad.h5")


def test_hdf5_checksums_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    export(imported.store(tmp_path / "first.zarr", count=8), path, format="hdf5")
    intact = path.read_bytes()

    def flip(dataset: str) -> None:
        path.write_bytes(intact)
        with h5py.File(path) as file:
            chunk = file[dataset].id.get_chunk_info(0)
        data = bytearray(intact)
        data[chunk.byte_offset + chunk.size // 2] ^= 1
        path.write_bytes(data)

    for dataset in ("joints", "state"):
        flip(dataset)
        source = SOURCES.get("hdf5")()
        samples, reader = source.discover(path).samples, source.reader(path)
        for sample in samples:
            with pytest.raises(BadRecording, match="io: cannot be read"):
                reader.read(sample)
        reader.close()
    for dataset in ("clips/label", "clips/name"):
        flip(dataset)
        with pytest.raises(DataError, match=r"a\.h5: not a store that smae exported"):
            SOURCES.get("hdf5")().discover(path)


def test_pyskl_comes_back_within_its_half_precision(tmp_path: Path) -> None:
    first = imported.store(tmp_path / "first.zarr", count=20)
    export(first, tmp_path / "a.pkl", format="pyskl")
    second = prepared(tmp_path / "a.pkl", tmp_path / "second.zarr", "pyskl")
    assert second.protocols() == first.protocols()
    assert second.clips.subject.tolist() == first.clips.subject.tolist()
    export(second, tmp_path / "b.pkl", format="pyskl")
    assert (tmp_path / "a.pkl").read_bytes() == (tmp_path / "b.pkl").read_bytes()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pyskl_of_others_comes_back_bit_for_bit(protocol: int, tmp_path: Path) -> None:
    raw = imported.write_pickle(tmp_path / "theirs.pkl", protocol=protocol)
    store = prepared(raw, tmp_path / "s.zarr", "pyskl")
    assert store.protocols()["ntu60-xsub"] == (3, 3)
    export(store, tmp_path / "back.pkl", format="pyskl")
    want, got = (pickle.loads(path.read_bytes()) for path in (raw, tmp_path / "back.pkl"))
    theirs = {note["frame_dir"]: note for note in want["annotations"]}
    assert len(got["annotations"]) == len(theirs) == 6
    for note in got["annotations"]:
        old = theirs[note["frame_dir"]]
        assert (note["label"], note["total_frames"]) == (old["label"], old["total_frames"])
        assert note["keypoint"].dtype == old["keypoint"].dtype == np.float16
        assert note["keypoint"].tobytes() == old["keypoint"].tobytes()
    assert {name: got["split"][name] for name in want["split"]} == want["split"]


def test_exact_mode_is_not_claimed_for_data_that_were_cleaned_before(tmp_path: Path) -> None:
    raw = imported.write_pickle(tmp_path / "a.pkl")
    with pytest.raises(ConfigError, match="'pyskl' were cleaned before: leave --mode exact out"):
        prepare(raw, tmp_path / "s.zarr", source="pyskl", mode="exact", executor="inline")


def test_class_numbers_with_gaps_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    notes = [
        {"frame_dir": f"clip{label}", "label": label, "total_frames": 4, "keypoint": imported.bodies(rng, 4)}
        for label in (1, 4, 9)
    ]
    split = {"mine_train": ["clip1", "clip9"], "mine_val": ["clip4"]}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"split": split, "annotations": notes}))
    store = prepared(tmp_path / "a.pkl", tmp_path / "pyskl.zarr", "pyskl")
    export(store, tmp_path / "b.pkl", format="pyskl")
    back = pickle.loads((tmp_path / "b.pkl").read_bytes())
    assert [note["label"] for note in back["annotations"]] == [1, 4, 9]
    assert back["split"] == split
    x = {
        f"x_{half}": imported.bodies(rng, 6, count=2).reshape(2, 6, 75).repeat(2, axis=2) for half in ("train", "test")
    }
    y = {"y_train": np.eye(10)[[1, 9]], "y_test": np.eye(10)[[4, 9]]}
    np.savez(tmp_path / "a.npz", **x, **y)
    store = prepared(tmp_path / "a.npz", tmp_path / "npz.zarr", "ctrgcn-npz")
    export(store, tmp_path / "b.npz", format="ctrgcn", protocol="npz")
    with np.load(tmp_path / "b.npz") as got:
        assert {name: got[name].tobytes() for name in got} == {name: array.tobytes() for name, array in (x | y).items()}


SLOW = pytest.mark.slow
SPLITS = [("ntu60", "xsub"), pytest.param("ntu60", "xview", marks=SLOW), pytest.param("ntu120", "xset", marks=SLOW)]


@pytest.mark.parametrize(("dataset", "protocol"), SPLITS)
def test_reference_arrays_of_hard_recordings_come_back_bit_for_bit(dataset: str, protocol: str, tmp_path: Path) -> None:
    sizes = {"ntu60": (17, 60, 40), "ntu120": (32, 120, 106)}[dataset]
    names = imported.names(2 * len(corpora.KINDS), setups=sizes[0], actions=sizes[1], subjects=sizes[2])
    raw = corpora.write_raw(tmp_path / "raw", names, seed=51)
    prepare(raw, tmp_path / "first.zarr", executor="inline", missing_list=False)
    first = open_store(tmp_path / "first.zarr")
    names_of = {"xsub": "CS", "xview": "CV", "xset": "CSet"}
    there = tmp_path / f"{dataset.upper()}_{names_of[protocol]}.npz"
    export(first, there, format="ctrgcn", protocol=protocol)
    second = prepared(there, tmp_path / "second.zarr", "ctrgcn-npz")
    assert second.protocols() == {f"{dataset}-{protocol}": first.protocols()[f"{dataset}-{protocol}"]}
    export(second, tmp_path / "back.npz", format="ctrgcn", protocol=protocol)
    with np.load(there) as want, np.load(tmp_path / "back.npz") as got:
        for name in want:
            assert got[name].tobytes() == want[name].tobytes(), name
    for form, ending in (("hdf5", "h5"), ("pyskl", "pkl")):
        there = tmp_path / f"first.{ending}"
        export(first, there, format=form)
        export(prepared(there, tmp_path / f"{form}.zarr", form), tmp_path / f"second.{ending}", format=form)
        if form == "pyskl":
            assert (tmp_path / "second.pkl").read_bytes() == there.read_bytes()
            continue
        with h5py.File(there) as want, h5py.File(tmp_path / "second.h5") as got:
            for name in ("joints", "state", "clips/name", "clips/label", f"splits/{dataset}-{protocol}"):
                assert got[name][()].tobytes() == want[name][()].tobytes(), name


def test_flat_skeletons_are_refused_with_the_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for joints in (17, 18):
        note = {"frame_dir": "v_1", "label": 0, "total_frames": 4, "keypoint": rng.random((1, 4, joints, 2))}
        (tmp_path / "flat.pkl").write_bytes(pickle.dumps({"split": {}, "annotations": [note]}))
        with pytest.raises(
            DataError, match=f"{joints} joints of 2 coordinates: pixels of a picture.*take the file of 3D"
        ):
            SOURCES.get("pyskl")().discover(tmp_path / "flat.pkl")
    np.save(tmp_path / "train_data.npy", np.ones((2, 3, 4, 18, 2), np.float32))
    np.save(tmp_path / "train_label.npy", np.zeros(2, np.int64))
    with pytest.raises(DataError, match="OpenPose's as in Kinetics-Skeleton: pixels and a score"):
        SOURCES.get("stgcn-npy")().discover(tmp_path)


def test_one_annotation_of_another_layout_is_quarantined(tmp_path: Path) -> None:
    raw = imported.write_pickle(tmp_path / "a.pkl")
    content = pickle.loads(raw.read_bytes())
    content["annotations"][2]["keypoint"] = content["annotations"][2]["keypoint"][:, :, :20]
    raw.write_bytes(pickle.dumps(content))
    summary = prepare(raw, tmp_path / "s.zarr", source="pyskl", executor="inline")
    assert [bad.code for bad in summary.quarantined] == ["layout"]
    assert summary.ok == 5


def test_npz_that_is_not_one_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    raw = imported.write_npz(tmp_path / "a.npz")
    with np.load(raw) as good:
        arrays = dict(good)
    cases = {
        "not one-hot": {"y_train": arrays["y_train"] * 0.5},
        r"expected \[4, classes\]": {"y_train": arrays["y_train"][:2]},
        "expected float": {"x_test": arrays["x_test"].astype(np.int64)},
        "x_test has 150 numbers a frame, x_train 60": {"x_train": arrays["x_train"][..., :60]},
        "69 numbers a frame, which fit no number of bodies": {
            f"x_{part}": arrays[f"x_{part}"][..., :69] for part in ("train", "test")
        },
        "of Python objects": {"y_test": np.array([{}, {}, {}], dtype=object)},
    }
    for message, change in cases.items():
        np.savez(raw, **{**arrays, **change}, allow_pickle=True)
        with pytest.raises(DataError, match=message):
            prepare(raw, tmp_path / "s.zarr", source="ctrgcn-npz", executor="inline")
    np.savez(raw, x=arrays["x_train"])
    with pytest.raises(DataError, match="expected x_train"):
        prepare(raw, tmp_path / "s.zarr", source="ctrgcn-npz", executor="inline")
    assert not (tmp_path / "s.zarr").exists()


def test_npz_rows_with_nan_are_quarantined_and_empty_ones_excluded(tmp_path: Path) -> None:
    raw = imported.write_npz(tmp_path / "a.npz")
    with np.load(raw) as good:
        arrays = dict(good)
    arrays["x_train"][1, 2, 3], arrays["x_test"][0] = np.nan, 0
    np.savez(raw, **arrays)
    summary = prepare(raw, tmp_path / "s.zarr", source="ctrgcn-npz", executor="inline")
    assert [(bad.path, bad.code) for bad in summary.quarantined] == [("a.npz!x_train[1] (train-000001)", "non-finite")]
    assert summary.excluded == {"no-body": 1}
    assert [str(one) for one in summary.left_out] == ["a.npz!x_test[0] (test-000000): no-body: no body in any frame"]
    assert open_store(summary.store).protocols() == {"npz": (3, 2)}


@pytest.mark.parametrize(("joints", "layout"), [(25, "ntu25"), (20, "kinect20")])
@pytest.mark.parametrize("axes", [1, 2])
def test_npz_of_one_person_is_read(joints: int, layout: str, axes: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x = {f"x_{part}": imported.bodies(rng, 7, joints=joints, count=4) for part in ("train", "test")}
    x["x_train"][1, 5:] = 0
    flat = {key: value.reshape(4, 7, -1) for key, value in x.items()} if axes == 1 else x
    y = {f"y_{part}": np.arange(4) % 2 for part in ("train", "test")}
    np.savez(tmp_path / "one.npz", **flat, **y)
    store = prepared(tmp_path / "one.npz", tmp_path / "s.zarr", "ctrgcn-npz")
    assert (store.layout.name, set(store.clips.bodies.tolist())) == (layout, {1})
    assert store.protocols() == {"npz": (4, 4)}
    index = store.index_of("train-000001")
    assert np.array_equal(store.clip(index)[0], x["x_train"][1, :5]), "padding is cut off"


def write_streams(folder: Path, *streams: str, parts: tuple[str, ...] = ("train", "val")) -> np.ndarray:
    """Write ST-GCN arrays of several streams, all but the first of other numbers; return the first of train."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(5)
    joints = rng.normal(1, 0.5, (3, 3, 6, 25, 1)).astype(np.float32)
    for part in parts:
        for number, stream in enumerate(streams):
            np.save(folder / f"{part}_{stream}.npy", joints + number)
        labels = [f"{part}{row}" for row in range(3)], [0, 1, 2]
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps(labels))
    return joints


@pytest.mark.parametrize("streams", [("data_joint", "data_bone", "data_joint_motion"), ("position", "motion")])
def test_joints_are_chosen_among_streams(
    streams: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    joints = write_streams(tmp_path / "raw", *streams)
    with caplog.at_level("INFO"):
        summary = prepare(tmp_path / "raw", tmp_path / "s.zarr", source="stgcn-npy", executor="inline")
    store = open_store(summary.store)
    assert (summary.ok, summary.ignored) == (6, 2 * (len(streams) - 1))
    assert np.array_equal(store.clip(store.index_of("train1"))[0], joints[1, ..., 0].transpose(1, 2, 0))
    assert f"left out: train_{streams[1]}.npy" in caplog.text


def test_bones_alone_are_no_joints(tmp_path: Path) -> None:
    write_streams(tmp_path / "raw", "data_bone")
    with pytest.raises(DataError, match=r"there is only train_data_bone\.npy: bones and motion are differences"):
        SOURCES.get("stgcn-npy")().discover(tmp_path / "raw")
    write_streams(tmp_path / "raw", "data_joint", parts=("train",))
    with pytest.raises(DataError, match=r"of 'val' there is only val_data_bone\.npy"):
        SOURCES.get("stgcn-npy")().discover(tmp_path / "raw")
    write_streams(tmp_path / "two", "data_joint", "position")
    with pytest.raises(DataError, match="two arrays of 'train'"):
        SOURCES.get("stgcn-npy")().discover(tmp_path / "two")
    with pytest.raises(DataError, match=r"train_position\.npy and the same for val or test, found raw, two"):
        SOURCES.get("stgcn-npy")().discover(tmp_path)


def split_pickle(folder: Path, first: str, second: str) -> list[str]:
    """Write the annotations of ``imported.write_pickle`` as two lists; return their names."""
    content = pickle.loads(imported.write_pickle(folder / "all.pkl").read_bytes())
    (folder / "all.pkl").unlink()
    notes = content["annotations"]
    for name, held in ((first, notes[:4]), (second, notes[4:])):
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(held))
    return [note["frame_dir"] for note in notes]


@pytest.mark.parametrize(
    ("files", "protocol"), [(("train", "val"), "split"), (("my_xsub_test", "my_xsub_train"), "my_xsub")]
)
def test_two_pickles_are_one_store(files: tuple[str, str], protocol: str, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    names = split_pickle(raw, *files)
    store = prepared(raw, tmp_path / "s.zarr", "pyskl")
    assert sorted(store.clips.name.tolist()) == sorted(names)
    train = {"train": names[:4], "my_xsub_test": names[4:]}[files[0]]
    assert [str(store.clips.name[index]) for index in store.split(protocol).train] == sorted(train)
    content = pickle.loads((raw / f"{files[0]}.pkl").read_bytes())
    (raw / f"{files[1]}.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=f"the clip {names[0]} is there twice"):
        SOURCES.get("pyskl")().discover(raw)
    (raw / "more.pkl").write_bytes(b"")
    with pytest.raises(DataError, match=r"expected one \.pkl file, found more\.pkl"):
        SOURCES.get("pyskl")().discover(raw)


def test_a_pickle_is_held_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    make = run.make_executor

    def note(name: str, **options: Any) -> Any:
        chosen.append(name)
        return make(name, **options)

    monkeypatch.setattr(run, "make_executor", note)
    prepare(imported.write_pickle(tmp_path / "a.pkl"), tmp_path / "a.zarr", source="pyskl", workers=4)
    assert chosen[-1] == "inline"


def test_two_files_that_may_hold_the_same_clips_are_refused(tmp_path: Path) -> None:
    for name in ("NTU60_CS.npz", "NTU60_CV.npz"):
        imported.write_npz(tmp_path / name)
    with pytest.raises(DataError, match=r"expected one \.npz file, found NTU60_CS\.npz, NTU60_CV\.npz"):
        SOURCES.get("ctrgcn-npz")().discover(tmp_path)


def test_padding_is_recognised_by_its_bits() -> None:
    rows = np.zeros((6, 2, 25, 3), np.float32)
    rows[:4, 0] = 1
    assert remove_padding(rows, doubled=False).shape == (1, 4, 25, 3)
    assert remove_padding(rows, doubled=True).shape == (2, 4, 25, 3)
    rows[5, 1, 0, 0] = -0.0
    assert remove_padding(rows, doubled=False).shape == (2, 6, 25, 3)


def test_matlab_arrays_are_read_and_damaged_files_refused(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(20, 3, 7))
    data = imported.write_mat(tmp_path / "a.mat", array).read_bytes()
    assert np.array_equal(read_matlab_array(data, "d_skel"), array)
    with pytest.raises(BadRecording, match=r"expected a real array other, found \['d_skel'\]"):
        read_matlab_array(data, "other")
    for cut in range(0, len(data), 97):
        with pytest.raises(BadRecording):
            read_matlab_array(data[:cut], "d_skel")


def test_ucla_and_utd_bring_their_splits(tmp_path: Path) -> None:
    ucla, utd = tmp_path / "ucla", tmp_path / "utd"
    ucla.mkdir()
    utd.mkdir()
    for view in (1, 2, 3):
        imported.write_ucla(ucla / f"a0{view}_s01_e00_v0{view}.json", frames=view, label=view)
    store = prepared(ucla, tmp_path / "ucla.zarr", "nw-ucla")
    assert store.protocols() == {"xview": (2, 1)}
    assert store.clips.frames.tolist() == [1, 2, 3]
    skeleton = np.random.default_rng(0).normal(0, 0.4, (20, 3, 6))
    for subject in (1, 2):
        imported.write_mat(utd / f"a{subject}_s{subject}_t1_skeleton.mat", skeleton)
    store = prepared(utd, tmp_path / "utd.zarr", "utd-mhad")
    assert store.protocols() == {"xsub": (1, 1)}
    want = skeleton.transpose(2, 0, 1).astype(np.float32)
    assert np.array_equal(store.clip(0)[0, :, 3], want[:, 0] - want[0, 2]), "the head is joint 3, the spine the origin"


@pytest.mark.parametrize("packed", [False, True])
def test_ucla_as_it_is_handed_out_is_read_frame_by_frame(packed: bool, tmp_path: Path) -> None:
    raw = tmp_path / "multiview_action"
    want = imported.write_ucla_frames(raw / "view_3" / "a02_s04_e01", frames=12)
    imported.write_ucla_frames(raw / "view_1" / "a02_s04_e01", frames=5)
    imported.write_ucla(raw / "a01_s01_e00_v02.json", frames=4, label=1)
    (raw / "view_1" / "a02_s04_e01" / "fileList.txt").write_text("0\n")
    if packed:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for path in sorted(raw.rglob("*.*")):
                archive.write(path, path.relative_to(tmp_path))
        raw = tmp_path / "a.zip"
    summary = prepare(raw, tmp_path / "s.zarr", source="nw-ucla", executor="inline")
    store = open_store(summary.store)
    assert (summary.ok, summary.ignored, summary.found) == (3, 1, 4)
    assert store.clips.name.tolist() == ["a01_s01_e00_v02", "a02_s04_e01_v01", "a02_s04_e01_v03"]
    assert store.protocols() == {"xview": (2, 1)}
    seen = np.delete(want, 2, axis=0).astype(np.float32)
    assert np.array_equal(store.clip(2)[0], seen - seen[0, 1]), "frames in the order of their numbers, 10 after 9"


def test_one_bad_frame_takes_its_own_clip_alone(tmp_path: Path) -> None:
    for view in (1, 2, 3):
        imported.write_ucla_frames(tmp_path / "raw" / f"view_{view}" / "a02_s04_e01", frames=5)
    text = tmp_path / "raw" / "view_2" / "a02_s04_e01" / "frame_3_tc_99_skeletons.txt"
    text.write_text(text.read_text()[:200])
    (tmp_path / "raw" / "frame_0_tc_0_skeletons.txt").write_text("60\n")
    summary = prepare(tmp_path / "raw", tmp_path / "s.zarr", source="nw-ucla", executor="inline")
    assert sorted((bad.path, bad.code) for bad in summary.quarantined) == [
        ("frame_0_tc_0_skeletons.txt", "name"),
        ("view_2/a02_s04_e01 (a02_s04_e01_v02)", "joint-count"),
    ]
    assert summary.ok == 2
    assert explain(summary.store, "a02_s04_e01_v02").verdict == "bad"


def test_links_out_of_the_folder_are_counted_once(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a01_s01_e00_v01.json").symlink_to("/dev/null")
    (tmp_path / "raw" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"found 1 other files and 1 that cannot be read \(for example a01_s01_e00"):
        prepare(tmp_path / "raw", tmp_path / "s.zarr", source="nw-ucla", executor="inline")


def test_recordings_converted_by_txt2npy_are_read_without_executing_anything(tmp_path: Path) -> None:
    names = [f"S001C001P00{number}R001A001" for number in (1, 2, 3, 4)]
    want = imported.write_skeleton_npy(tmp_path / f"{names[0]}.skeleton.npy", frames=14)
    imported.write_skeleton_npy(tmp_path / f"{names[1]}.skeleton.npy", frames=15, count=2)
    np.save(tmp_path / f"{names[2]}.skeleton.npy", want)
    np.save(tmp_path / f"{names[3]}.skeleton.npy", {"skel_body0": Path("x")}, allow_pickle=True)
    summary = prepare(tmp_path, tmp_path.with_name("s.zarr"), source="ntu-npy", executor="inline", missing_list=False)
    store = open_store(summary.store)
    assert store.clips.name.tolist() == names[:2]
    seen = want[:, 0].astype(np.float32)
    assert np.array_equal(store.clip(0)[0], seen - seen[0, 1])
    data = (tmp_path / f"{names[1]}.skeleton.npy").read_bytes()
    both = SOURCES.get("ntu-npy")().parse(data, strict=False, max_range=20)
    assert both.body.tolist() == [0] + [0, 1] * 14, "no second body in the first frame"
    reasons = {bad.path[:20]: bad.message for bad in summary.quarantined}
    assert "where one object is expected" in reasons[names[2]]
    assert "only plain types and NumPy arrays are read" in reasons[names[3]]


def test_pickle_without_clips_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pickle.Pickler(buffer, protocol=5).dump({"annotations": [], "split": {}})
    (tmp_path / "a.pkl").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="holds no annotation"):
        SOURCES.get("pyskl")().discover(tmp_path)
