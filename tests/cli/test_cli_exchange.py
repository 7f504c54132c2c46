"""The commands that bring data in and out: `prepare --source`, `explain`, `export`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from smae_cli.main import run
from tests.data import imported
from tests.data.raw_folder import files, write_folder

NAME = "S001C002P001R001A001"


def test_npz_in_and_out_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, store, back = imported.write_npz(tmp_path / "NTU60_CS.npz"), tmp_path / "s.zarr", tmp_path / "back.npz"
    inline = ["--executor", "inline"]
    assert run(["prepare", "--source", "ctrgcn-npz", "--raw", str(raw), "--out", str(store), *inline]) == 0
    capsys.readouterr()
    export = ["export", str(store), "--format", "ctrgcn", "--protocol", "xsub", "--out", str(back)]
    assert run([*export, "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["contents"]["x_train"] == "float32 [4, 12, 150]"
    with np.load(raw) as want, np.load(back) as got:
        assert got["x_test"].tobytes() == want["x_test"].tobytes()
    assert run(export) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_unknown_sources_and_forms_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write_folder(tmp_path / "raw", files(3))
    assert run(["prepare", "--source", "pyskll", "--raw", str(raw), "--out", str(tmp_path / "s.zarr")]) == 2
    assert "did you mean 'pyskl'" in capsys.readouterr().err
    assert run(["explain", str(raw), "S001"]) == 2
    assert "no recording 'S001'" in capsys.readouterr().err


def test_explain_informs_people_and_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write_folder(tmp_path / "raw", files(3))
    assert run(["explain", str(raw / f"{NAME}.skeleton")]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[0] == f"{NAME}: clip"
    assert "cleaning" in output
    (raw / f"{NAME}.skeleton").write_bytes(b"3\n1\n")
    assert run(["explain", str(raw), NAME, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["verdict"] == "bad"


def test_info_of_one_clip_is_explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, store = write_folder(tmp_path / "raw", files(3)), str(tmp_path / "s.zarr")
    assert run(["prepare", "--raw", str(raw), "--out", store, "--executor", "inline"]) == 0
    for more in ([], ["--raw", str(raw)], ["--raw", str(raw), "--json"]):
        capsys.readouterr()
        assert run(["explain", store, NAME, *more]) == 0
        output = capsys.readouterr().out
        assert run(["info", store, "--clip", NAME, *more]) == 0
        assert capsys.readouterr().out == output
    assert run(["info", store, "--clip", NAME[:-1]]) == 2
    assert run(["info", store, "--raw", str(raw)]) == 2
    assert "--raw goes with --clip" in capsys.readouterr().err
