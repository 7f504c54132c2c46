"""Every registered source keeps the contract of sources, on small raw data made here."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from smae.data.export import export
from smae.data.raw.source import SOURCES
from smae.testing.sources import SourceContract
from tests.data import imported
from tests.data.raw_folder import files, write_folder


class TestNtu(SourceContract):
    name = "ntu"

    def write_raw(self, folder: Path) -> Path:
        two_actions = {
            name.replace("A001", f"A{number % 2 + 1:03}"): data for number, (name, data) in enumerate(files(4).items())
        }
        return write_folder(folder, two_actions)


class TestCtrgcnNpz(SourceContract):
    name = "ctrgcn-npz"

    def write_raw(self, folder: Path) -> Path:
        return imported.write_npz(folder / "NTU60_CS.npz")


class TestCtrgcnNpzCompressed(SourceContract):
    name = "ctrgcn-npz"

    def write_raw(self, folder: Path) -> Path:
        imported.write_npz(folder / "NTU120_CSet.npz", columns=120, compressed=True, double=True)
        return folder


class TestPyskl(SourceContract):
    name = "pyskl"

    def write_raw(self, folder: Path) -> Path:
        return imported.write_pickle(folder / "ntu60_3d.pkl")


class TestHdf5(SourceContract):
    name = "hdf5"

    def write_raw(self, folder: Path) -> Path:
        path = folder / "ntu60.h5"
        if not path.exists():
            export(imported.store(folder.parent / "first.zarr", count=8), path, format="hdf5")
        return path


class TestStgcnNpy(SourceContract):
    name = "stgcn-npy"

    def write_raw(self, folder: Path) -> Path:
        raw = folder / "xsub"
        raw.mkdir(exist_ok=True)
        rng = np.random.default_rng(3)
        listed = imported.names(6, setups=17, actions=60, subjects=40)
        for half, part in (("train", listed[:4]), ("val", listed[4:])):
            data = np.zeros((len(part), 3, 9, 25, 2), np.float32)
            data[:, :, :6, :, 0] = rng.normal(0, 0.5, (len(part), 3, 6, 25)) + 1
            np.save(raw / f"{half}_data.npy", data)
            labels = ([f"{name}.skeleton" for name in part], [int(name[-3:]) - 1 for name in part])
            (raw / f"{half}_label.pkl").write_bytes(pickle.dumps(labels))
        return raw


class TestNwUcla(SourceContract):
    name = "nw-ucla"

    def write_raw(self, folder: Path) -> Path:
        for view, action, frames in ((1, 1, 4), (2, 8, 1), (3, 1, 9)):
            imported.write_ucla(folder / f"a{action:02}_s01_e00_v{view:02}.json", frames=frames, label=action)
        return folder


class TestNwUclaFrames(SourceContract):
    name = "nw-ucla"

    def write_raw(self, folder: Path) -> Path:
        for view, action, frames in ((1, 1, 4), (2, 8, 2), (3, 1, 11)):
            imported.write_ucla_frames(folder / f"view_{view}" / f"a{action:02}_s01_e00", frames=frames)
        return folder


class TestNtuNpy(SourceContract):
    name = "ntu-npy"

    def write_raw(self, folder: Path) -> Path:
        for number, frames in enumerate((5, 20, 33), 1):
            path = folder / f"S001C001P001R001A{number:03}.skeleton.npy"
            imported.write_skeleton_npy(path, frames=frames, count=1 + number % 2)
        return folder


class TestUtdMhad(SourceContract):
    name = "utd-mhad"

    def write_raw(self, folder: Path) -> Path:
        rng = np.random.default_rng(5)
        for number, subject in enumerate((1, 2, 3)):
            skeleton = rng.normal(0, 0.5, (20, 3, 5 + number))
            imported.write_mat(folder / f"a{number + 9}_s{subject}_t1_skeleton.mat", skeleton, packed=number != 1)
        return folder


class TestPkuMmd(SourceContract):
    name = "pku-mmd"

    def write_raw(self, folder: Path) -> Path:
        rng = np.random.default_rng(7)
        for part in ("skeleton", "label", "split"):
            (folder / part).mkdir(exist_ok=True)
        for video in ("0002-L", "0003-M"):
            lines = np.zeros((40, 150))
            lines[:, :75] = rng.normal(0, 0.5, (40, 75)) + 1
            np.savetxt(folder / "skeleton" / f"{video}.txt", lines, fmt="%.5f")
            (folder / "label" / f"{video}.txt").write_text("3,2,12,1\n5,20,38,2\n")
        split = "Training videos:\n0002-L, \nValidation videos:\n0003-M, \n"
        (folder / "split" / "cross-view.txt").write_text(split)
        return folder


def test_every_source_is_held_to_the_contract() -> None:
    held = {cls.name for cls in SourceContract.__subclasses__() if cls.__module__ == __name__}
    # These two are held to it beside their own tests.
    held |= {"keypoints", "mocap"}
    # Videos need MediaPipe: tests/data/raw/test_video.py has a worker in its place.
    assert held == set(SOURCES.names()) - {"video"}
