"""Exports: CTR-GCN's arrays equal the oracle's bit for bit; pickles and HDF5 hold what the store holds."""

from __future__ import annotations

import errno
import pickle
import pickletools
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from smae.data.export import EXPORTS, Request, ctrgcn, export, signature
from smae.data.store import Store
from smae.errors import ConfigError, DataError, EnvironmentFault, UnknownNameError
from tests.data import imported
from tests.oracles.reference_pipeline import aligned, row_order


@pytest.fixture(scope="module")
def ntu60(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return imported.store(tmp_path_factory.mktemp("exports") / "ntu60.zarr")


@pytest.fixture(scope="module")
def ntu120(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return imported.store(tmp_path_factory.mktemp("exports") / "ntu120.zarr", dataset="ntu120", count=150)


def expected(store: Store, dataset: str, protocol: str, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Return the four arrays by the oracle, from the clips at ``indices``."""
    names = [str(store.clips.name[index]) for index in indices]
    clips = [store.clip(int(index)).swapaxes(0, 1) for index in indices]
    x = aligned([clip.reshape(len(clip), -1) for clip in clips], dataset)
    columns = {"ntu60": 60, "ntu120": 120}[dataset]
    y = np.eye(columns)[[int(name[-3:]) - 1 for name in names]]
    order = {half: row_order(names, dataset, protocol, half) for half in ("train", "test")}
    return {f"{kind}_{half}": array[rows] for kind, array in (("x", x), ("y", y)) for half, rows in order.items()}


@pytest.mark.parametrize("protocol", ["xsub", "xview"])
def test_ntu60_arrays_equal_the_oracle(ntu60: Store, protocol: str, tmp_path: Path) -> None:
    export(ntu60, tmp_path / "a.npz", format="ctrgcn", protocol=protocol)
    want = expected(ntu60, "ntu60", protocol, np.arange(len(ntu60)))
    with np.load(tmp_path / "a.npz") as got:
        assert sorted(got) == ["x_test", "x_train", "y_test", "y_train"]
        for name, array in want.items():
            assert got[name].dtype == array.dtype
            assert got[name].shape == array.shape
            assert got[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("protocol", ["xsub", "xset"])
def test_ntu120_writes_single_bodies_twice(ntu120: Store, protocol: str, tmp_path: Path) -> None:
    export(ntu120, tmp_path / "a.npz", format="ctrgcn", protocol=protocol)
    want = expected(ntu120, "ntu120", protocol, np.arange(len(ntu120)))
    with np.load(tmp_path / "a.npz") as got:
        assert all(got[name].tobytes() == array.tobytes() for name, array in want.items())
        assert got["x_train"].shape[1] == ntu120.clips.frames.max()


def test_ntu60_part_of_an_ntu120_store_is_written_as_ntu60(ntu120: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not fit the 60 columns"):
        export(ntu120, tmp_path / "a.npz", format="ctrgcn", protocol="ntu60-xview")
    # In the real data, setups up to 17 have actions up to 60 only.
    foreign = "S(00.|01[0-7]).*A(06[1-9]|0[7-9].|1..)"
    store = imported.store(tmp_path / "s.zarr", dataset="ntu120", count=400, leave_out=foreign)
    export(store, tmp_path / "a.npz", format="ctrgcn", protocol="ntu60-xview")
    part = np.flatnonzero(store.clips.setup <= 17)
    assert 20 < len(part) < len(store)
    want = expected(store, "ntu60", "xview", part)
    with np.load(tmp_path / "a.npz") as got:
        assert all(np.array_equal(got[name], array) for name, array in want.items())


def test_frames_pad_further_and_never_cut(ntu60: Store, tmp_path: Path) -> None:
    export(ntu60, tmp_path / "a.npz", format="ctrgcn", protocol="xsub", frames=300)
    with np.load(tmp_path / "a.npz") as got:
        assert got["x_train"].shape[1:] == (300, 150)
        assert not got["x_train"][:, ntu60.clips.frames.max() :].any()
    with pytest.raises(ConfigError, match="the longest clip has"):
        export(ntu60, tmp_path / "b.npz", format="ctrgcn", protocol="xsub", frames=3)


def test_exact_resampled_and_rounded_stores_are_refused_unless_asked(tmp_path: Path) -> None:
    exact = imported.store(tmp_path / "exact.zarr", mode="exact")
    with pytest.raises(DataError, match=r"cleaned in exact mode.*--anyway"):
        export(exact, tmp_path / "a.npz", format="ctrgcn", protocol="xsub")
    summary = export(exact, tmp_path / "a.npz", format="ctrgcn", protocol="xsub", anyway=True)
    assert "exact mode" in summary.notes[0]
    with np.load(tmp_path / "a.npz") as got:
        assert np.isfinite(got["x_train"]).all()
    resampled = imported.store(tmp_path / "resampled.zarr", frames=64)
    with pytest.raises(DataError, match="resampled to 64 frames"):
        export(resampled, tmp_path / "b.npz", format="ctrgcn", protocol="xsub")
    rounded = imported.store(tmp_path / "rounded.zarr", codec="int16")
    with pytest.raises(DataError, match="joints are rounded: it was prepared with --codec int16"):
        export(rounded, tmp_path / "b.npz", format="ctrgcn", protocol="xsub")


def test_the_same_store_gives_the_same_bytes_in_little_memory(
    ntu60: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for form in EXPORTS.names():
        protocol = "xsub" if form == "ctrgcn" else None
        for name in ("a", "b"):
            export(ntu60, tmp_path / f"{form}-{name}", format=form, protocol=protocol)
        assert (tmp_path / f"{form}-a").read_bytes() == (tmp_path / f"{form}-b").read_bytes()
    monkeypatch.setattr(ctrgcn, "BLOCK", 4)
    tracemalloc.start()
    summary = export(ntu60, tmp_path / "blocks.npz", format="ctrgcn", protocol="xsub", frames=20_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert summary.bytes > 600e6
    assert peak < 200e6


def test_pickle_holds_plain_types_that_old_versions_read(ntu60: Store, tmp_path: Path) -> None:
    export(ntu60, tmp_path / "a.pkl", format="pyskl")
    data = (tmp_path / "a.pkl").read_bytes()
    texts = [argument for opcode, argument, _ in pickletools.genops(data) if "UNICODE" in opcode.name]
    assert "numpy.core.multiarray" in texts
    assert "numpy._core.multiarray" not in texts
    content = pickle.loads(data)
    assert set(content["split"]) == {"xsub_train", "xsub_val", "xview_train", "xview_val"}
    split = ntu60.split("xsub")
    assert content["split"]["xsub_train"] == ntu60.clips.name[split.train].tolist()
    for index, note in enumerate(content["annotations"]):
        clip = ntu60.clip(index)
        assert note["frame_dir"] == ntu60.clips.name[index]
        assert (note["label"], note["total_frames"]) == (int(note["frame_dir"][-3:]) - 1, clip.shape[1])
        assert note["keypoint"].dtype == np.float16
        assert np.array_equal(note["keypoint"], clip.astype(np.float16))
        assert type(note["label"]) is int


def test_hdf5_holds_every_row_and_column(ntu60: Store, tmp_path: Path) -> None:
    export(ntu60, tmp_path / "a.h5", format="hdf5")
    with h5py.File(tmp_path / "a.h5") as got:
        assert got["joints"][:].tobytes() == ntu60.rows(0, ntu60.row_count).tobytes()
        assert got["state"][:].tobytes() == ntu60.states(0, ntu60.row_count).tobytes()
        assert [name.decode() for name in got["clips/name"]] == ntu60.clips.name.tolist()
        for name in ("offset", "frames", "bodies", "label", "subject", "camera", "setup", "replication", "source"):
            assert np.array_equal(got[f"clips/{name}"], getattr(ntu60.clips, name))
        role = got["splits/ntu60-xsub"][:]
        assert np.flatnonzero(role == 1).tolist() == ntu60.split("xsub").train.tolist()
        assert got.attrs["fingerprint"] == ntu60.fingerprint


def test_wrong_requests_write_nothing(ntu60: Store, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'ctrgcn'"):
        export(ntu60, tmp_path / "a", format="ctr-gcn")
    with pytest.raises(ConfigError, match=r"choose it with --protocol \(ntu60-xsub, ntu60-xview\)"):
        export(ntu60, tmp_path / "a", format="ctrgcn")
    with pytest.raises(UnknownNameError, match="unknown protocol 'xset'"):
        export(ntu60, tmp_path / "a", format="ctrgcn", protocol="xset")
    with pytest.raises(ConfigError, match="does not pad"):
        export(ntu60, tmp_path / "a", format="pyskl", frames=300)
    with pytest.raises(ConfigError, match="be inside"):
        export(ntu60, ntu60.path / "a.npz", format="hdf5")
    with pytest.raises(ConfigError, match="is not a file of format hdf5"):
        export(ntu60, tmp_path, format="hdf5")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_the_old_file_and_no_half_one(
    ntu60: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 old")

    def full(*args: object, **kwargs: object) -> np.ndarray:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ctrgcn, "align", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        export(ntu60, tmp_path / "a.npz", format="ctrgcn", protocol="xsub", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    assert (tmp_path / "a.npz").read_bytes() == b"PK\x03\x04 old"


def test_overwrite_replaces_only_an_export_of_the_same_format(ntu60: Store, tmp_path: Path) -> None:
    for name in ("thesis.npz", "notes.txt", "no-suffix"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "other.pkl").write_bytes(b"\x80\x04.")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "link.npz").symlink_to(tmp_path / "thesis.npz")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for name in ("thesis.npz", "notes.txt", "no-suffix", "other.pkl", "folder.npz", "link.npz"):
        with pytest.raises(ConfigError, match=r"is not a file of format ctrgcn|is a link, which is not replaced"):
            export(ntu60, tmp_path / name, format="ctrgcn", protocol="xsub", overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    for form, name in {"ctrgcn": "a.npz", "pyskl": "a.pkl", "hdf5": "a.H5"}.items():
        export(ntu60, tmp_path / name, format=form, protocol="xsub")
        with pytest.raises(ConfigError, match="add --overwrite"):
            export(ntu60, tmp_path / name, format=form, protocol="xsub")
        export(ntu60, tmp_path / name, format=form, protocol="xsub", overwrite=True)


def test_overwrite_never_touches_the_store(ntu60: Store, tmp_path: Path) -> None:
    (tmp_path / "to-store").symlink_to(ntu60.path)
    shard = ntu60.path / "joints/c/0/0/0"
    before = shard.read_bytes()
    for target in (ntu60.path, ntu60.path / "a.npz", ntu60.path.parent, shard, tmp_path / "to-store" / "a.npz"):
        with pytest.raises(ConfigError, match="would replace, or be inside"):
            export(ntu60, target, format="ctrgcn", protocol="xsub", overwrite=True)
    assert shard.read_bytes() == before
    assert not (ntu60.path / "a.npz").exists()


def test_exporters_of_packages_declare_what_they_replace(
    ntu60: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EXPORTS, "_members", {})

    def write(store: Store, path: Path, request: Request) -> tuple[dict[str, str], tuple[str, ...]]:
        path.write_text("name,class\n")
        return {}, ()

    EXPORTS.register("test-undeclared")(write)
    (tmp_path / "a.csv").write_text("earlier")
    with pytest.raises(ConfigError, match="is not a file of format"):
        export(ntu60, tmp_path / "a.csv", format="test-undeclared", overwrite=True)
    EXPORTS.register("test-declared")(signature(".csv")(write))
    export(ntu60, tmp_path / "a.csv", format="test-declared", overwrite=True)
    assert (tmp_path / "a.csv").read_text() == "name,class\n"
