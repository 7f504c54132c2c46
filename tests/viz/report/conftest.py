"""Runs for tests of reports, trained and evaluated once; tests must not change them."""

from __future__ import annotations

from pathlib import Path

import pytest

from smae_cli.main import run as smae

TINY = [
    "--recipe", "skeletonmae-cpu", "--device", "cpu", "--epochs", "1", "--set", "augment.frames=12",
    "--set", "encoder.dim=16", "--set", "encoder.depth=1", "--set", "decoder.dim=16", "--set", "decoder.depth=1",
    "--set", "train.batch=8",
]  # fmt: skip


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and three runs: two evaluated under the same settings, one not evaluated."""
    folder = tmp_path_factory.mktemp("report")
    raw, store = str(folder / "ntu"), str(folder / "ntu.zarr")
    assert smae(["synth", raw, "--actions", "3", "--subjects", "6", "--cameras", "1"]) == 0
    assert smae(["prepare", "--raw", raw, "--out", store, "--executor", "inline"]) == 0
    for name, more in (("first", []), ("second", ["--set", "masking.keep_joints=0.6"]), ("third", ["--seed", "5"])):
        assert smae(["pretrain", "--data", store, "--out", str(folder / name), *TINY, *more]) == 0
    for name in ("first", "second"):
        evaluate = ["eval", "--run", str(folder / name), "--device", "cpu", "--set", "linear.epochs=2"]
        assert smae([*evaluate, "--probe", "linear", "--probe", "knn"]) == 0
    return folder
