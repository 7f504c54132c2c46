"""Golden values: bits that a change of the code must not move.

Fingerprints of stores, bytes of batches, losses of training, figures of an evaluation and arrays of exports are
compared with ``goldens.json``. After a deliberate change, ``python -m tests.test_goldens`` writes that file anew.

Figures made by torch are compared bit for bit where torch and processor are those of the file, and to 1e-4 elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smae.data.loader.augment import Augment
from smae.data.loader.loader import Loader
from smae.data.store import open_store
from smae_cli.main import run
from tests import corpora
from tests.data.raw import test_contract as sources

FILE = Path(__file__).with_name("goldens.json")
REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "uiprmd" / "to_skeleton.py"
CPU = torch.device("cpu")
BUILD = f"torch {torch.__version__.split('+')[0]}, {torch.backends.cpu.get_cpu_capability()}"
TINY = {
    "train.precision": "float32",
    "augment.frames": 12,
    "augment.min_frames": 8,
    "encoder.dim": 16,
    "decoder.dim": 16,
    "decoder.depth": 1,
    "decoder.heads": 2,
    "train.batch": 8,
    "train.max_steps": 5,
    "train.workers": 0,
    "train.ema": 0.9,
    "optim.warmup": 1,
}
VIT = {"encoder.depth": 1, "encoder.patch": 4, "encoder.heads": 2}
RUNS: dict[str, dict[str, Any]] = {
    "skeletonmae": {**VIT, "objective.normalise": "clip"},
    "cross decoder": {**VIT, "decoder.name": "cross", "objective.predict": 0.5},
    "bones, noise, mirror": {**VIT, "augment.stream": "bone", "augment.noise": 0.01, "augment.mirror": True},
    "mae": {**VIT, "objective.name": "mae", "masking.name": "random"},
    "mamp": {**VIT, "objective.name": "mamp", "masking.name": "motion-aware"},
    "s-jepa": {**VIT, "objective.name": "s-jepa", "masking.name": "tube", "masking.length": 3},
    "body-part": {**VIT, "masking.name": "body-part", "masking.length": 3},
    "sttformer": {"encoder.heads": 2, "encoder.name": "sttformer", "masking.name": "random"},
    "ctrgcn": {"encoder.name": "ctrgcn", "masking.name": "random", "encoder.dim": 32},
    "graph": {"encoder.name": "graph", "masking.name": "random", "encoder.share": 2},
}
AUGMENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "noise": {"noise": 0.02},
    "bone": {"stream": "bone", "mirror": True, "scale": 0.2},
    "motion": {"stream": "motion", "turn": 1.0},
    "relative, aligned": {"stream": "relative", "align": "body"},
}
LOADINGS: dict[str, dict[str, Any]] = {
    "resident": {"mode": "resident", "workers": 0},
    "resident, 2 workers": {"mode": "resident", "workers": 2},
    "streaming": {"mode": "streaming", "workers": 1, "block_rows": 300, "window": 2},
}


def command(*words: str) -> None:
    assert run([*words]) == 0, f"smae {' '.join(words)}"


def prepared(raw: Path, out: Path, *words: str) -> str:
    """Prepare a store and return its fingerprint."""
    code = run(["prepare", "--raw", str(raw), "--out", str(out), "--executor", "inline", "--max-bad", "1", *words])
    assert code in (0, 3)
    return open_store(out).fingerprint


def digest(*arrays: np.ndarray) -> str:
    """Return a SHA-256 of types, shapes and bytes."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def hard_corpus(folder: Path) -> Path:
    """Write recordings of all kinds of ``corpora``, those of two bodies included, under NTU names."""
    names = [
        f"S{number % 17 + 1:03}C{number % 3 + 1:03}P{number % 40 + 1:03}R001A{number % 5 + 1:03}"
        for number in range(50)
    ]
    return corpora.write_raw(folder, names, seed=7)


def stores(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of each golden store and its fingerprint."""
    hard = hard_corpus(folder / "hard")
    yield "hard corpus", prepared(hard, folder / "hard.zarr")
    yield "hard corpus, int16", prepared(hard, folder / "int16.zarr", "--codec", "int16")
    yield "hard corpus, exact", prepared(hard, folder / "exact.zarr", "--mode", "exact")
    yield "hard corpus, 40 frames", prepared(hard, folder / "frames.zarr", "--frames", "40")
    synth = str(folder / "synth")
    command("synth", synth, "--actions", "12", "--subjects", "6", "--cameras", "1", "--replications", "1")
    yield "synthetic", prepared(Path(synth), folder / "synth.zarr")
    for contract in vars(sources).values():
        if isinstance(contract, type) and issubclass(contract, sources.SourceContract) and contract.name:
            inside = folder / contract.__name__
            inside.mkdir()
            raw = contract().write_raw(inside)
            yield contract.__name__, prepared(raw, folder / f"{contract.__name__}.zarr", "--source", contract.name)
    if REAL.is_file():
        real = str(folder / "real")
        subprocess.run([sys.executable, str(REAL), real, "--limit", "120"], check=True, capture_output=True)
        yield "real recordings", prepared(Path(real), folder / "real.zarr")


def batches(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield a digest of three batches for each augmentation, way of loading, and phase."""
    store = open_store(folder / "hard.zarr")
    index = np.arange(len(store))
    for augment_name, values in AUGMENTS.items():
        for loading, options in LOADINGS.items():
            for train in (True, False):
                augment = Augment(frames=20, min_frames=8, **values)
                loader = Loader(store, index, augment=augment, batch=12, seed=3, train=train, device=CPU, **options)
                arrays = []
                for batch, _ in zip(loader.epoch(1), range(3), strict=False):
                    arrays += [getattr(batch, name).numpy() for name in ("x", "clip", "body", "index", "label")]
                yield f"{augment_name}; {loading}; {'train' if train else 'test'}", digest(*arrays)


def losses(folder: Path) -> Iterator[tuple[str, list[float]]]:
    """Yield the losses of five steps of each run."""
    for name, settings in RUNS.items():
        out = folder / "runs" / name
        sets = [word for key, value in (TINY | settings).items() for word in ("--set", f"{key}={json.dumps(value)}")]
        data = str(folder / "synth.zarr")
        command("pretrain", "--data", data, "--out", str(out), "--recipe", "base", "--device", "cpu", *sets)
        yield name, [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def evaluation(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield the figures of a small evaluation, by probe and row."""
    sets = {
        "linear.epochs": 3,
        "linear.views": 2,
        "finetune.epochs": 2,
        "finetune.hidden": 16,
        "finetune.batch": 16,
        "scratch.epochs": 2,
        "scratch.hidden": 16,
        "scratch.batch": 16,
    }
    words = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    modes = ("linear", "knn", "finetune", "semi-10", "scratch")
    words += [word for mode in modes for word in ("--probe", mode)]
    run_folder = folder / "runs" / "skeletonmae"
    command("eval", "--run", str(run_folder), "--protocol", "xsub", "--device", "cpu", *words)
    for path in sorted((run_folder / "eval").glob("*.json")):
        result = json.loads(path.read_text())
        rows = [[row["what"], row["top1"], row["top5"]] for row in result["rows"]]
        yield result["mode"], {"rows": rows, "predicted": result["predicted"], "confusion": result["confusion"]}


def exports(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield digests of the arrays of each export, and of an encoder's tensors and features."""
    import h5py
    from safetensors.numpy import load_file

    store = str(folder / "hard.zarr")
    command("export", store, "--format", "ctrgcn", "--protocol", "xsub", "--out", str(folder / "a.npz"))
    with np.load(folder / "a.npz") as arrays:
        yield "ctrgcn", digest(*(arrays[name] for name in sorted(arrays)))
    command("export", store, "--format", "pyskl", "--out", str(folder / "a.pkl"))
    made = pickle.loads((folder / "a.pkl").read_bytes())  # written by the line above
    keypoints = [np.asarray(clip["keypoint"]) for clip in made["annotations"]]
    yield "pyskl", digest(*keypoints, np.array(json.dumps(made["split"], sort_keys=True)))
    command("export", store, "--format", "hdf5", "--out", str(folder / "a.h5"))
    found: dict[str, np.ndarray] = {}
    with h5py.File(folder / "a.h5") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    yield "hdf5", digest(*(np.asarray(found[name]) for name in sorted(found)))
    command("export-encoder", str(folder / "runs" / "mamp"), "--out", str(folder / "encoder"))
    tensors = load_file(folder / "encoder" / "model.safetensors").values()
    yield "encoder", digest(np.array(sorted(digest(tensor) for tensor in tensors)))
    features = str(folder / "features.npz")
    command(
        "embed", str(folder / "synth.zarr"), "--encoder", str(folder / "encoder"), "--out", features, "--device", "cpu"
    )
    with np.load(features) as arrays:
        yield "features", digest(arrays["features"])


PARTS: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    "stores": stores,
    "batches": batches,
    "losses": losses,
    "evaluation": evaluation,
    "exports": exports,
}
BY_TORCH = {"losses", "evaluation", "encoder", "features"}
"""Parts and values that torch's arithmetic decides."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which each part finds what the parts before it made."""
    return tmp_path_factory.mktemp("goldens")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("part", PARTS)
def test_goldens(part: str, folder: Path) -> None:
    golden = json.loads(FILE.read_text(encoding="utf-8"))
    same_build = golden["build"] == BUILD
    now = json.loads(json.dumps(dict(PARTS[part](folder))))
    missing = {"real recordings"} if part == "stores" and not REAL.is_file() else set()
    assert now.keys() == golden[part].keys() - missing
    for name, value in now.items():
        if same_build or not BY_TORCH & {part, name}:
            assert value == golden[part][name], f"{part}: {name} has moved"
        elif part == "losses":
            # Another processor rounds differently, and BatchNorm over few clips magnifies it.
            assert value == pytest.approx(golden[part][name], rel=1e-3), f"{part}: {name} has moved"


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        values = {part: dict(make(Path(name))) for part, make in PARTS.items()}
    FILE.write_text(json.dumps({"build": BUILD, **values}, indent=1) + "\n", encoding="utf-8")
