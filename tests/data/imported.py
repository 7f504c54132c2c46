"""Little stores, and the array files of others, to test exports and imports with."""

from __future__ import annotations

import json
import pickle
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from smae.data.raw.recording import MISSING, Clip
from smae.data.store import Store, open_store
from smae.data.store.clips import ClipFacts
from smae.data.store.writer import Header, write_store
from smae.skeleton import NTU25


def names(count: int, *, setups: int, actions: int, subjects: int) -> list[str]:
    """Return ``count`` NTU names, sorted, of all setups, cameras and subjects in turn."""
    made = {
        f"S{i % setups + 1:03}C{i % 3 + 1:03}P{i * 7 % subjects + 1:03}R{i % 2 + 1:03}A{i * 11 % actions + 1:03}"
        for i in range(count)
    }
    return sorted(made)


def store(
    folder: Path,
    *,
    dataset: str = "ntu60",
    count: int = 60,
    mode: str = "reference",
    frames: int | None = None,
    leave_out: str = "",
    codec: str = "float32",
) -> Store:
    """Write a store of random clips of 1 or 2 bodies and 5 to 30 frames, some rows of body 2 absent.

    Names that begin with the pattern ``leave_out`` are left out.
    """
    rng = np.random.default_rng(len(dataset) + count)
    sizes = {"ntu60": (17, 60, 40), "ntu120": (32, 120, 106)}[dataset]
    listed = names(count, setups=sizes[0], actions=sizes[1], subjects=sizes[2])
    listed = [name for name in listed if not (leave_out and re.match(leave_out, name))]
    clips = []
    for number, name in enumerate(listed):
        shape = (1 + number % 2, int(rng.integers(5, 31)), 25)
        joints = rng.normal(0, 0.6, (*shape, 3)).astype(np.float32)
        joints[0, 0, 1] = 0
        state = np.full(shape, 2, np.uint8)
        if shape[0] == 2:
            joints[1, :2], state[1, :2] = np.nan if mode == "exact" else 0, MISSING
        clips.append((ClipFacts(name, name[-4:], *_numbers(name)), Clip(joints, state)))
    header = Header(NTU25, mode, dataset, tuple(sorted({name[-4:] for name in listed})), frames=frames, codec=codec)
    write_store(folder, header=header, clips=clips)
    return open_store(folder)


def _numbers(name: str) -> tuple[int, int, int, int]:
    return int(name[9:12]), int(name[5:8]), int(name[1:4]), int(name[13:16])


def bodies(rng: np.random.Generator, frames: int, *, joints: int = 25, count: int = 1) -> np.ndarray:
    """Return float32 [count, frames, joints, 3], body 1's spine at the origin of the first frame."""
    xyz = rng.normal(0, 0.5, (count, frames, joints, 3)).astype(np.float32)
    xyz[0, 0, 1] = 0
    return xyz


def write_npz(path: Path, *, columns: int = 60, compressed: bool = False, double: bool = False) -> Path:
    """Write an ``.npz`` in the CTR-GCN form: 4 training and 3 test rows, every second one of two bodies."""
    rng = np.random.default_rng(columns)
    arrays = {}
    for half, count in (("train", 4), ("test", 3)):
        x = np.zeros((count, 12, 2, 25, 3), np.float32)
        for row in range(count):
            frames = 12 if row == 0 else int(rng.integers(4, 12))
            xyz = bodies(rng, frames, count=1 + row % 2)
            x[row, :frames, : len(xyz)] = xyz.swapaxes(0, 1)
            if double and row % 2 == 0:
                x[row, :frames, 1] = xyz[0]
        arrays[f"x_{half}"] = x.reshape(count, 12, 150)
        arrays[f"y_{half}"] = np.eye(columns)[np.arange(count) % 3]
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def write_pickle(path: Path, *, protocol: int = 4) -> Path:
    """Write a pickle in pyskl's form, with joints in the sensor's space."""
    rng = np.random.default_rng(1)
    listed = names(6, setups=17, actions=60, subjects=40)
    notes = [
        {
            "frame_dir": name,
            "label": int(name[-3:]) - 1,
            "total_frames": 5,
            "keypoint": np.add(bodies(rng, 5, count=1 + number % 2), [0, 0, 3]).astype(np.float16),
        }
        for number, name in enumerate(listed)
    ]
    split = {"xsub_train": listed[:3], "xsub_val": listed[3:]}
    path.write_bytes(pickle.dumps({"split": split, "annotations": notes}, protocol=protocol))
    return path


def write_mat(path: Path, array: np.ndarray, *, name: str = "d_skel", packed: bool = True) -> Path:
    """Write one real array as a MATLAB 5 file."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)

    matrix = element(6, struct.pack("<II", 6, 0))
    matrix += element(5, np.array(array.shape, "<i4").tobytes())
    matrix += element(1, name.encode())
    matrix += element(9, array.astype("<f8").tobytes(order="F"))
    body = element(14, matrix)
    if packed:
        squeezed = zlib.compress(body)
        body = struct.pack("<II", 15, len(squeezed)) + squeezed
    path.write_bytes(b"MATLAB 5.0 MAT-file, made for a test".ljust(124) + b"\x00\x01IM" + body)
    return path


def write_ucla_frames(folder: Path, *, frames: int) -> np.ndarray:
    """Write a clip of NW-UCLA as a text for each frame, the third without a person; return float [T, 20, 3]."""
    folder.mkdir(parents=True, exist_ok=True)
    xyz = (bodies(np.random.default_rng(frames), frames, joints=20)[0] + [0, 0, 3]).round(5)
    xyz[2:3] = 0
    for number, frame in enumerate(xyz):
        lines = [",".join(f"{value:.5f}" for value in joint) + ",2" for joint in frame] if frame.any() else []
        text = "\n".join([str(3 * len(lines)), *lines]) + "\n"
        (folder / f"frame_{number}_tc_{number * 33}_skeletons.txt").write_text(text)
    return xyz


def write_skeleton_npy(path: Path, *, frames: int, count: int = 1) -> np.ndarray:
    """Write a recording as ``txt2npy.py`` does, body 2 absent in the first frame; return float [T, M, 25, 3]."""
    made = bodies(np.random.default_rng(frames), frames, count=count).swapaxes(0, 1)
    xyz = np.add(made, [0, 0, 3])
    xyz[0, 1:] = 0
    content = {"file_name": path.name[:20], "nbodys": [count] * frames, "njoints": 25}
    content |= {f"skel_body{body}": xyz[:, body] for body in range(count)}
    content |= {f"rgb_body{body}": xyz[:, body, :, :2] for body in range(count)}
    np.save(path, content, allow_pickle=True)
    return xyz


def write_ucla(path: Path, *, frames: int, label: int) -> Path:
    """Write a sequence in the form of NW-UCLA."""
    rng = np.random.default_rng(frames)
    skeletons = (bodies(rng, frames, joints=20)[0] + [0, 0, 3]).round(5).tolist()
    path.write_text(json.dumps({"file_name": path.stem, "skeletons": skeletons, "label": label}))
    return path
