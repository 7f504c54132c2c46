"""Raw text to published arrays, end to end: what ``prepare`` and ``export`` give equals the oracle, float by float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smae.data.raw.recording import MISSING
from smae.data.store import open_store
from smae_cli.main import run
from tests import corpora
from tests.data import imported
from tests.oracles.exact_mode import exact
from tests.oracles.reference_pipeline import arrays, read

SETS = {"ntu60": ((17, 60, 40), ["xsub", "xview"]), "ntu120": ((32, 120, 106), ["xsub", "xset"])}


def equal_floats(folder: Path, dataset: str, *, count: int, seed: int, workers: int) -> int:
    """Take ``count`` hard files through the command line and the oracle; return how many floats were compared."""
    (setups, actions, subjects), protocols = SETS[dataset]
    names = imported.names(count, setups=setups, actions=actions, subjects=subjects)
    assert len(names) == count
    raw = corpora.write_raw(folder / "raw", names, seed=seed)
    store = folder / f"{dataset}.zarr"
    how = ["--executor", "inline"] if workers == 1 else ["--workers", str(workers)]
    assert run(["prepare", "--raw", str(raw), "--out", str(store), "--no-missing-list", *how]) == 0
    want = arrays(raw, dataset, protocols)
    floats = 0
    for protocol in protocols:
        out = folder / f"{protocol}.npz"
        assert run(["export", str(store), "--format", "ctrgcn", "--protocol", protocol, "--out", str(out)]) == 0
        with np.load(out) as got:
            assert sorted(got) == sorted(want[protocol])
            for name, array in want[protocol].items():
                bits = {"x": np.uint32, "y": np.uint64}[name[0]]
                assert got[name].dtype == array.dtype
                assert got[name].shape == array.shape
                assert np.array_equal(got[name].view(bits), array.view(bits)), f"{protocol}, {name}"
                floats += array.size
    return floats


@pytest.mark.parametrize("dataset", ["ntu60", pytest.param("ntu120", marks=pytest.mark.slow)])
def test_hundreds_of_hard_files_equal_the_oracle(dataset: str, tmp_path: Path) -> None:
    assert equal_floats(tmp_path, dataset, count=5 * len(corpora.KINDS), seed=21, workers=1) > 4_000_000


@pytest.mark.slow
@pytest.mark.parametrize("dataset", SETS)
def test_thousands_of_hard_files_equal_the_oracle(dataset: str, tmp_path: Path) -> None:
    assert equal_floats(tmp_path, dataset, count=1024, seed=31, workers=2) > 20_000_000


def test_exact_stores_hold_what_the_oracle_gives(tmp_path: Path) -> None:
    names = imported.names(3 * len(corpora.KINDS), setups=17, actions=60, subjects=40)
    raw = corpora.write_raw(tmp_path / "raw", names, seed=41)
    how = ["--mode", "exact", "--no-missing-list", "--executor", "inline"]
    assert run(["prepare", "--raw", str(raw), "--out", str(tmp_path / "s.zarr"), *how]) == 0
    store = open_store(tmp_path / "s.zarr")
    held = dict(zip(store.clips.name.tolist(), range(len(store)), strict=True))
    assert len(held) > len(names) * 0.9
    for name in names:
        want = exact(*read((raw / f"{name}.skeleton").read_text("ascii")))
        assert (want is None) == (name not in held), name
        if want is not None:
            got, there = store.clip(held[name]), ~np.isnan(want[0])
            assert np.array_equal(~np.isnan(got), there), name
            assert got[there].tobytes() == want[0][there].tobytes(), name
            assert np.array_equal(store.clip_state(held[name]) == MISSING, ~there.any(axis=3)), name
