"""A program that hands hostile stores and raw files to the commands: refused in a line, nothing executed, little used.

An attacker writes a manifest that fits: what is changed in a store is signed again.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from blake3 import blake3
from numcodecs import blosc

from tests.data.raw_folder import files, skeleton, write_folder
from tests.reliability.forked_cli import Ended, answer, smae, too_slow, warm_up
from tests.reliability.stores import clear

PEAK = 512 * 10**6
GIB = 2**30
DEEP = b"[" * 20_000 + b"]" * 20_000
ESCAPES = "\x1b[2J\x1b]0;owned\x07"

Change = Callable[[Path], object]


class Bomb:
    """Leaves a file behind wherever it is unpickled."""

    def __init__(self, hit: Path) -> None:
        self.hit = hit

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.hit}",)


def hit_of(folder: Path) -> Path:
    """Return the file that is there if anything hostile below ``folder`` was executed."""
    return folder.parent / "hit"


def bomb(folder: Path) -> bytes:
    """Return a pickle that executes a command."""
    return pickle.dumps({"annotations": [Bomb(hit_of(folder))], "model": Bomb(hit_of(folder))}, protocol=2)


# Stores


def sign(store: Path, *names: str, **entry: object) -> None:
    """Make the manifest agree with files as they are now; ``entry`` says something else of them."""
    manifest = json.loads((store / "manifest.json").read_text())
    for name in names:
        data = (store / name).read_bytes() if (store / name).is_file() else b""
        facts = {"size": len(data), "blake3": blake3(data).hexdigest()}
        manifest["files"][name] = manifest["files"].get(name, {}) | facts | entry
    (store / "manifest.json").write_text(json.dumps(manifest))


def put(name: str, data: bytes | Callable[[Path], bytes]) -> Change:
    """Replace, or add, a signed file."""

    def change(store: Path) -> None:
        (store / name).write_bytes(data(store) if callable(data) else data)
        sign(store, name)

    return change


def put_manifest(data: bytes | Callable[[Path], bytes]) -> Change:
    return lambda store: (store / "manifest.json").write_bytes(data(store) if callable(data) else data)


def edit(name: str, *path: str | int, to: object) -> Change:
    """Change one value of a signed ``zarr.json``."""

    def change(store: Path) -> None:
        content = json.loads((store / name).read_text())
        inner = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to
        (store / name).write_text(json.dumps(content))
        sign(store, name)

    return change


def edit_manifest(change: Callable[[dict[str, Any]], object]) -> Change:
    def edited(store: Path) -> None:
        manifest = json.loads((store / "manifest.json").read_text())
        change(manifest)
        (store / "manifest.json").write_text(json.dumps(manifest))

    return edited


def instead(name: str, make: Callable[[Path], object]) -> Change:
    """Replace a file by something that is none."""

    def change(store: Path) -> None:
        os.rename(store / name, store.parent / "moved")
        make(store / name)

    return change


def chunk_bomb(_: Path) -> bytes:
    """Return a chunk with a sound checksum that inflates a few KB to 1 GiB."""
    packed: bytes = blosc.compress(np.zeros(GIB // 8), b"zstd", 9, 1)
    return packed + google_crc32c.value(packed).to_bytes(4, "little")


def shard_bomb(store: Path) -> None:
    """Make the first chunk of joints that bomb, its checksum in the manifest."""
    name, chunk = "joints/c/0/0/0", chunk_bomb(store)
    about = json.loads((store / "joints/zarr.json").read_text())
    count = about["chunk_grid"]["configuration"]["chunk_shape"][0]
    count //= about["codecs"][0]["configuration"]["chunk_shape"][0]
    data = (store / name).read_bytes()
    index = np.frombuffer(data[-16 * count - 4 : -4], "<u8").reshape(count, 2).copy()
    index[0] = len(data) - index.nbytes - 4, len(chunk)
    encoded = index.tobytes()
    shard = data[: -len(encoded) - 4] + chunk + encoded + google_crc32c.value(encoded).to_bytes(4, "little")
    (store / name).write_bytes(shard)
    manifest = json.loads((store / "manifest.json").read_text())
    crc32c = manifest["files"][name].get("crc32c", "")
    sign(store, name, **({"crc32c": f"{google_crc32c.value(chunk[:-4]):08x}" + crc32c[8:]} if crc32c else {}))


def key(name: str) -> Change:
    """Add a key to the manifest that leads elsewhere, to a file that is there."""

    def change(store: Path) -> None:
        outside = store.parent / "outside"
        outside.write_bytes(b"secret")
        entry = {"size": 6, "blake3": blake3(b"secret").hexdigest()}
        manifest = json.loads((store / "manifest.json").read_text())
        manifest["files"][name.format(outside=outside)] = entry
        (store / "manifest.json").write_text(json.dumps(manifest))

    return change


_ROWS, _COLUMN, _CHUNK = "joints/zarr.json", "clips/label/zarr.json", "joints/c/0/0/0"
_GRID = ("chunk_grid", "configuration", "chunk_shape")

STORES: dict[str, Change] = {
    "shape 2^60": edit(_ROWS, "shape", 0, to=2**60),
    "shape 2^60 of a column": edit(_COLUMN, "shape", 0, to=2**60),
    "shape 2^60 of all columns": lambda store: [
        edit(path.relative_to(store).as_posix(), "shape", 0, to=2**60)(store)
        for path in store.glob("clips/*/zarr.json")
    ],
    "shape below 0": edit(_ROWS, "shape", 0, to=-1),
    "shape of a fraction": edit(_ROWS, "shape", 0, to=1.5),
    "shape not a list": edit(_ROWS, "shape", to=None),
    "chunk length 0": edit(_ROWS, *_GRID, to=[0, 25, 3]),
    "chunk length 2^40": edit(_ROWS, *_GRID, to=[2**40, 25, 3]),
    "inner chunk length 0": edit(_ROWS, "codecs", 0, "configuration", "chunk_shape", to=[0, 25, 3]),
    "chunk length 2^40 of a column": edit(_COLUMN, *_GRID, to=[2**40]),
    "dtype float64": edit(_ROWS, "data_type", to="float64"),
    "dtype object": edit(_COLUMN, "data_type", to="object"),
    "codec pickle": edit(_COLUMN, "codecs", to=[{"name": "pickle"}]),
    "codec none": edit(_ROWS, "codecs", to=[]),
    "a transformer of storage": edit(_ROWS, "storage_transformers", to=[{"name": "run"}]),
    "keys with ..": edit(_ROWS, "chunk_key_encoding", "configuration", "separator", to="../"),
    "half a zarr.json": lambda store: put("zarr.json", (store / "zarr.json").read_bytes()[:300])(store),
    "half an array's zarr.json": lambda store: put(_ROWS, (store / _ROWS).read_bytes()[:300])(store),
    "empty zarr.json": put("zarr.json", b""),
    "empty array's zarr.json": put(_ROWS, b""),
    "deep zarr.json": put("zarr.json", DEEP),
    "deep array's zarr.json": put(_ROWS, DEEP),
    "deep codecs": lambda store: put(
        _ROWS, (store / _ROWS).read_bytes().replace(b'"codecs"', b'"codecs": ' + DEEP + b', "x"')
    )(store),
    "zarr.json over 64 MiB": put("zarr.json", b" " * (65 << 20) + b"{}"),
    "unknown layout": edit("zarr.json", "attributes", "smae", "layout", to="../../x"),
    "a split that leads out": edit("zarr.json", "attributes", "smae", "splits", to=["../../outside"]),
    "classes that are no list": edit("zarr.json", "attributes", "smae", "classes", to=3),
    "no class for its labels": edit("zarr.json", "attributes", "smae", "classes", to=[]),
    "counts that are no table": edit("zarr.json", "attributes", "smae", "counts", to=[1]),
    "a newer version in zarr.json": edit("zarr.json", "attributes", "smae", "version", to=99),
    "a row chunk of 1 GiB": shard_bomb,
    "a column chunk of 1 GiB": put("clips/label/c/0", chunk_bomb),
    "FIFO as a chunk": instead(_CHUNK, os.mkfifo),
    "FIFO as a column": instead("clips/label/c/0", os.mkfifo),
    "FIFO as zarr.json": instead("zarr.json", os.mkfifo),
    "FIFO as the manifest": instead("manifest.json", os.mkfifo),
    "folder as a chunk": instead(_CHUNK, os.mkdir),
    "folder as the manifest": instead("manifest.json", os.mkdir),
    "link as a chunk": instead(_CHUNK, lambda path: path.symlink_to(path.parents[5] / "moved")),
    "link as zarr.json": instead("zarr.json", lambda path: path.symlink_to(path.parents[1] / "moved")),
    "link as the manifest": instead("manifest.json", lambda path: path.symlink_to(path.parents[1] / "moved")),
    "link as a folder": instead("clips", lambda path: path.symlink_to(path.parents[1] / "moved")),
    "device as a chunk": instead(_CHUNK, lambda path: path.symlink_to("/dev/zero")),
    "looping link as the manifest": instead("manifest.json", lambda path: path.symlink_to(path)),
    ".. in the manifest": key("../outside"),
    ".. inside a key": key("clips/../../outside"),
    "absolute key": key("{outside}"),
    "empty key": key(""),
    "key with escape codes": key(ESCAPES),
    "no manifest": lambda store: (store / "manifest.json").unlink(),
    "empty manifest": put_manifest(b""),
    "half a manifest": put_manifest(lambda store: (store / "manifest.json").read_bytes()[:900]),
    "deep manifest": put_manifest(DEEP),
    "manifest of a list": put_manifest(b"[]"),
    "manifest over 64 MiB": put_manifest(b" " * (65 << 20)),
    "manifest without files": edit_manifest(lambda manifest: manifest.pop("files")),
    "a newer version": edit_manifest(lambda manifest: manifest.update(version=99)),
    "a version of text": edit_manifest(lambda manifest: manifest.update(version="1; rm -rf")),
    "sizes of 2^70": edit_manifest(lambda manifest: manifest["files"][_CHUNK].update(size=2**70)),
    "sizes of text": edit_manifest(lambda manifest: manifest["files"][_CHUNK].update(size="all")),
    "checksums of other chunks": edit_manifest(
        lambda manifest: manifest["files"][_CHUNK].update(crc32c="0" * len(manifest["files"][_CHUNK]["crc32c"]))
    ),
    "pickle as the manifest": put_manifest(bomb),
    "pickle as zarr.json": put("zarr.json", bomb),
    "pickle as an array's zarr.json": put(_ROWS, bomb),
    "pickle as a row chunk": put(_CHUNK, bomb),
    "pickle as a column": put("clips/label/c/0", bomb),
    "pickle as the quarantine list": put("quarantine.jsonl", bomb),
    "pickle as another file": lambda store: (store / "data.pkl").write_bytes(bomb(store)),
    "pickle instead of the store": lambda store: (shutil.rmtree(store), store.write_bytes(bomb(store))),
    "a file instead of the store": lambda store: (shutil.rmtree(store), store.write_bytes(b"")),
    "a looping link instead of the store": lambda store: (shutil.rmtree(store), store.symlink_to(store)),
    "a FIFO instead of the store": lambda store: (shutil.rmtree(store), os.mkfifo(store)),
}  # fmt: skip
"""What is done to a sound store. Nothing of it may be found sound, be executed, or take long."""

UNREAD = ("a row chunk of 1 GiB", "checksums of other chunks", "pickle as a row chunk")
"""What only reading rows can find: `info` reads none."""
LISTED = "pickle as the quarantine list"
"""What only `verify` and `prepare --resume` look at."""


def try_stores(raw: str, sound: str, folder: str, names: list[str]) -> list[str]:
    """Return the problem of each hostile store: `info`, `verify`, `export` and `prepare` refuse it."""
    warm_up()
    problems = []
    for number, name in enumerate(names):
        trial = Path(folder) / f"store-{number}"
        store = trial / "data.zarr"
        shutil.copytree(sound, store)
        STORES[name](store)
        commands = {
            "info": ["info", store],
            "verify": ["verify", store],
            "export": ["export", store, "--format", "hdf5", "--out", trial / "out.h5"],
            "resume": ["prepare", "--raw", raw, "--out", store, "--resume", "--executor", "inline", "--frames", 400],
        }
        found = []
        for command, arguments in commands.items():
            ended = smae(*arguments)
            if problem := _refusal(ended, store, allowed=_codes(command, name), lines=(0, 1)):
                found.append(f"{command}: {problem}")
        problems.append(f"{name}: {'; '.join(found)}" if found else "")
        shutil.rmtree(trial)
    return problems


def _codes(command: str, name: str) -> tuple[int, ...]:
    """Return the exit codes that a command may have: 4, or 0 where it does not look."""
    if command == "resume":
        # Without a manifest the folder is no store, so it is in the way.
        return (0, 4) if name in UNREAD else (2, 4)
    looks = command == "verify" or ((name not in UNREAD or command != "info") and name != LISTED)
    return (4,) if looks else (0, 4)


def _refusal(ended: Ended, target: Path, *, allowed: tuple[int, ...], lines: tuple[int, ...]) -> str:
    """Return what is wrong with how a command met something hostile."""
    checks = {
        f"{ended}": ended.code in allowed and len(ended.messages) in lines and "Traceback" not in ended.err,
        "it was executed": not hit_of(target).exists(),
        f"{ended.peak / 1e6:.0f} MB": ended.peak <= PEAK,
        (slow := too_slow(ended.seconds)): not slow,
        "escape codes reach the terminal": "\x1b" not in ended.out + ended.err,
    }
    return ", ".join(problem for problem, fine in checks.items() if not fine)


# Raw files. Each maker writes into an empty folder; beside it stand good recordings, which must survive.

NAME = "S001C003P020R002A002.skeleton"


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Change:
    def make(raw: Path) -> None:
        with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(raw / "a.zip", "w", method) as archive:
            for name, data in members:
                archive.writestr(name, data)

    return make


def zip_bomb(raw: Path) -> None:
    """Pack 1 GiB into a member of 1 MB, block by block."""
    with (
        zipfile.ZipFile(raw / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open(zipfile.ZipInfo(NAME), "w", force_zip64=True) as member,
    ):
        for _ in range(64):
            member.write(bytes(2**24))


def zip_of_false_size(raw: Path) -> None:
    """Let the directory say 3,000 bytes of a member that unpacks to 60 MB."""
    data = skeleton()
    zipped((NAME, data + b" " * 60_000_000))(raw)
    whole = (raw / "a.zip").read_bytes()
    (raw / "a.zip").write_bytes(whole.replace(struct.pack("<I", len(data) + 60_000_000), struct.pack("<I", 3000)))


def zip_of_one_body(raw: Path) -> None:
    """Let 1,000 members share one body (after D. Fifield, "A better zip bomb", 2019)."""
    body = skeleton() * 4000
    zipped((NAME, body))(raw)
    whole = (raw / "a.zip").read_bytes()
    at = whole.index(b"PK\x01\x02")
    end = whole.index(b"PK\x05\x06")
    entries = [
        whole[at:end].replace(NAME.encode(), f"S001C003P{n % 900 + 1:03}R{n // 900 + 2:03}A002.skeleton".encode())
        for n in range(1000)
    ]
    directory = b"".join(entries)
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1000, 1000, len(directory), at, 0)
    (raw / "a.zip").write_bytes(whole[:at] + directory + tail)


def as_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


def write(name: str, data: bytes | Callable[[Path], bytes]) -> Change:
    return lambda raw: (raw / name).write_bytes(data(raw) if callable(data) else data)


def npz(**members: bytes) -> Change:
    """Write an ``.npz`` of raw ``.npy`` bytes."""

    def make(raw: Path) -> None:
        zipped(*((f"{name}.npy", data) for name, data in members.items()))(raw)
        os.rename(raw / "a.zip", raw / "a.npz")

    return make


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """Return the start of an ``.npy`` that claims a shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def objects(folder: Path) -> bytes:
    return npy(np.array([Bomb(hit_of(folder))], dtype=object))


_X, _Y = npy(np.ones((2, 5, 150), np.float32)), npy(np.eye(2, dtype=np.float32))


def mat_bomb(raw: Path) -> None:
    """Write a MATLAB file whose compressed element inflates to 1 GiB."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**24)) for _ in range(64)) + packer.flush()
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    (raw / "a1_s1_t1_skeleton.mat").write_bytes(head + struct.pack("<II", 15, len(packed)) + packed)


def h5_link(raw: Path) -> None:
    import h5py

    with h5py.File(raw / "a.h5", "w") as file:
        file["joints"] = h5py.ExternalLink("/etc/passwd", "/joints")


def pickled(stream: bytes) -> Change:
    return write("a.pkl", stream)


RAW: dict[str, tuple[str, Change]] = {
    "zip bomb": ("ntu", zip_bomb),
    "zip member of a false size": ("ntu", zip_of_false_size),
    "zip of members that share one body": ("ntu", zip_of_one_body),
    "zip member ..": ("ntu", zipped((f"../../{NAME}", skeleton()))),
    "zip member of an absolute name": ("ntu", zipped((f"/tmp/{NAME}", skeleton()))),
    "zip member of a drive": ("ntu", zipped((f"C:\\{NAME}", skeleton()))),
    "zip member that is a link": ("ntu", zipped((as_link(NAME), b"/etc/passwd"))),
    "zip member twice": ("ntu", zipped((NAME, skeleton()), (NAME, skeleton(seed=9)))),
    "zip member of another method": ("ntu", zipped((NAME, skeleton()), method=zipfile.ZIP_LZMA)),
    "zip member with escape codes": ("ntu", zipped((f"{ESCAPES}/{NAME}", b"bad"))),
    "zip that is none": ("ntu", write("a.zip", b"PK\x03\x04" + bytes(500))),
    "pickle as a recording": ("ntu", write(NAME, bomb)),
    "pickle as a zip": ("ntu", write("a.zip", bomb)),
    "pickle that executes": ("pyskl", write("a.pkl", bomb)),
    "pickle that imports by name": ("pyskl", pickled(b"cos\nsystem\n(S'true'\ntR.")),
    "pickle of old instances": ("pyskl", pickled(b"(S'true'\nios\nsystem\n.")),
    "pickle of 2^40 bytes": ("pyskl", pickled(b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.")),
    "pickle of 2^32 memo": ("pyskl", pickled(b"\x80\x04N\x94r" + struct.pack("<I", 2**32 - 1) + b"0.")),
    "pickle that doubles itself": ("pyskl", pickled(b"\x80\x02]" + b"(2" * 40 + b"l" * 40 + b".")),
    "pickle 20,000 deep": ("pyskl", pickled(b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".")),
    "pickle of a number of a million digits": ("pyskl", pickled(b"L" + b"9" * 1_000_000 + b"L\n.")),
    "pickle of an array of objects": ("pyskl", write("a.pkl", lambda raw: pickle.dumps(np.array([Bomb(raw)], object)))),
    "npz of objects": ("ctrgcn-npz", lambda raw: npz(x_train=_X, y_train=objects(raw), x_test=_X, y_test=_Y)(raw)),
    "npz of objects in x": ("ctrgcn-npz", lambda raw: npz(x_train=objects(raw), y_train=_Y, x_test=_X, y_test=_Y)(raw)),
    "npz of shape 2^60": ("ctrgcn-npz", npz(x_train=header((2**60, 5, 150)), y_train=_Y, x_test=_X, y_test=_Y)),
    "npz of labels of 2^60": ("ctrgcn-npz", npz(x_train=_X, y_train=header((2**60,)), x_test=_X, y_test=_Y)),
    "npz of labels of 240 MB": (
        "ctrgcn-npz",
        lambda raw: npz(x_train=_X, y_train=npy(np.zeros((2, 15_000_000))), x_test=_X, y_test=_Y)(raw),
    ),
    "npz of a row of 240 MB": (
        "ctrgcn-npz",
        lambda raw: npz(
            x_train=npy(np.zeros((1, 400_000, 150), np.float32)), y_train=npy(np.eye(1)), x_test=_X, y_test=_Y
        )(raw),
    ),
    "npz with a header of code": (
        "ctrgcn-npz",
        npz(x_train=_X.replace(b"{'descr'", b"__import__"), y_train=_Y, x_test=_X, y_test=_Y),
    ),
    "npy of objects": ("stgcn-npy", lambda raw: (raw / "train_data_joint.npy").write_bytes(objects(raw))),
    "npy with labels that execute": (
        "stgcn-npy",
        lambda raw: [
            (raw / f"{half}_data_joint.npy").write_bytes(npy(np.ones((2, 3, 5, 25, 2), np.float32)))
            and (raw / f"{half}_label.pkl").write_bytes(bomb(raw))
            for half in ("train", "val")
        ],
    ),
    "hdf5 that leads elsewhere": ("hdf5", h5_link),
    "hdf5 that is a pickle": ("hdf5", write("a.h5", bomb)),
    "JSON 20,000 deep": ("nw-ucla", write("a01_s01_e00_v01.json", DEEP)),
    "JSON of a number of a million digits": ("nw-ucla", write("a01_s01_e00_v01.json", b"9" * 1_000_000)),
    "MATLAB file that inflates to 1 GiB": ("utd-mhad", mat_bomb),
}  # fmt: skip
"""Hostile raw files, and the source that is to read them."""


def try_raw(folder: str, names: list[str]) -> list[str]:
    """Return the problem of each hostile raw file: `prepare` must quarantine or refuse it."""
    warm_up()
    problems = []
    for number, name in enumerate(names):
        trial = Path(folder) / f"raw-{number}"
        source, make = RAW[name]
        raw, out = trial / "raw", trial / "out.zarr"
        write_folder(raw, files(3) if source == "ntu" else {})
        raw.mkdir(parents=True, exist_ok=True)
        make(raw)
        before = sorted(os.listdir(folder)), sorted(path for path in trial.rglob("*") if path.name != "hit")
        ended = smae("prepare", "--raw", raw, "--out", out, "--source", source, "--executor", "inline", "--max-bad", 1)
        problem = _refusal(ended, raw, allowed=(3, 4), lines=(0, 1) if ended.code == 3 else range(1, 7))
        clear(out)
        after = sorted(os.listdir(folder)), sorted(path for path in trial.rglob("*") if path.name != "hit")
        if after != before:
            problem = f"{problem} it left {set(after[1]) ^ set(before[1])}"
        problems.append(f"{name}: {problem}" if problem else "")
        shutil.rmtree(trial)
    return problems


def trials(kind: str, raw: str, sound: str, folder: str, names: list[str]) -> list[str]:
    """Return the problem of each hostile ``stores`` or ``raw`` trial."""
    return try_stores(raw, sound, folder, names) if kind == "stores" else try_raw(folder, names)


if __name__ == "__main__":
    answer(trials)
