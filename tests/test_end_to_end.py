"""The main job from raw files to the page, through the command line: on synthetic and on real recordings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from smae_cli.main import run

SHARED = Path(__file__).resolve().parents[2] / "shared"
TINY = [
    "--recipe", "skeletonmae-cpu", "--device", "cpu", "--epochs", "2", "--set", "augment.frames=24",
    "--set", "encoder.dim=32", "--set", "encoder.depth=2",
    "--set", "decoder.dim=32", "--set", "decoder.depth=1", "--set", "train.batch=32", "--set", "optim.warmup=1",
]  # fmt: skip

JUDGE = ["--protocol", "xsub", "--set", "linear.epochs=10"]


def smae(*args: object, capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, Any]:
    """Run a command with ``--json`` and return its result."""
    capsys.readouterr()
    got = run([*map(str, args), "--json"])
    out, err = capsys.readouterr()
    assert got == code, err
    result: dict[str, Any] = json.loads(out)
    return result


def main_job(raw: Path, *, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run the three commands of the README and the page in the current folder; return what each printed."""
    output = {
        "prepare": smae("prepare", "--raw", raw, "--out", "ntu.zarr", capsys=capsys),
        "info": smae("info", capsys=capsys),
        "verify": smae("verify", capsys=capsys),
        "pretrain": smae("pretrain", *TINY, capsys=capsys),
        "eval": smae("eval", *JUDGE, capsys=capsys),
        "report": smae("report", capsys=capsys),
    }
    page = Path(output["report"]["page"]).read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert "pre-trained encoder" in page
    run_folder = Path(output["pretrain"]["run"])
    (picture,) = (run_folder / "eval").glob("ntu60-xsub-linear-*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = {(row["mode"], row["what"]): row["top1"] for row in output["eval"]["rows"]}
    for mode in ("linear", "knn"):
        assert {"pre-trained encoder", "random encoder", "chance"} <= {what for m, what in rows if m == mode}
    assert ("linear", "raw coordinates") in rows
    assert ("knn", "raw coordinates, linear") in rows
    output["rows"] = rows
    return output


def test_synthetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    written = smae("synth", "ntu", "--actions", 4, "--cameras", 1, "--replications", 2, capsys=capsys)
    assert written["files"] == 4 * 8 * 2
    output = main_job(Path("ntu"), capsys=capsys)
    assert output["prepare"]["ok"] == output["info"]["clips"] == 64
    assert output["info"]["protocols"]["ntu60-xsub"] == [40, 24]
    assert output["rows"]["linear", "chance"] == pytest.approx(1 / 4)
    again = smae("eval", *JUDGE, "--probe", "knn", capsys=capsys)
    first = [row for row in output["eval"]["rows"] if row["mode"] == "knn"]
    assert again["rows"] == first, "the same checkpoint under the same protocol must score the same"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real recordings lie in ../shared, which is not here")
def test_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    script = SHARED / "data" / "uiprmd" / "to_skeleton.py"
    subprocess.run([sys.executable, script, "real.zip", "--every", "10"], check=True, capture_output=True)
    output = main_job(Path("real.zip"), capsys=capsys)
    assert output["prepare"]["found"] == output["prepare"]["ok"] == output["info"]["clips"] == 200
    assert output["info"]["classes"] == 20
    assert output["info"]["subjects"] == 10
    assert output["info"]["protocols"]["ntu60-xsub"] == [120, 80]
    assert output["rows"]["knn", "raw coordinates"] > 3 / 20, "raw coordinates alone are known to be far above chance"


def test_damaged_files_are_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    smae("synth", "ntu", "--actions", 2, "--cameras", 1, "--replications", 1, capsys=capsys)
    files = sorted(Path("ntu").rglob("*.skeleton"))
    lines = files[0].read_bytes().split(b"\r\n")
    lines[4] = lines[4].replace(b".", b". ", 1)
    files[0].write_bytes(b"\r\n".join(lines))
    files[1].write_bytes(files[1].read_bytes()[:-40])
    files[2].write_bytes(b"")
    output = smae("prepare", "--raw", "ntu", "--out", "ntu.zarr", capsys=capsys, code=3)
    bad = {Path(entry["path"]).name: (entry["code"], entry["line"]) for entry in output["quarantined"]}
    assert bad[files[0].name] == ("fields", 5)
    assert bad[files[1].name][0] == "truncated"
    assert bad[files[1].name][1] > 1000
    assert bad[files[2].name][0] == "empty"
    assert output["ok"] == len(files) - 3
    assert len(Path("ntu.zarr/quarantine.jsonl").read_text().splitlines()) == 3
