"""``smae status`` from a run and an unfinished preparation to lines and JSON."""

from __future__ import annotations

import json

from smae_cli.main import run
from tests.data.prepare.test_workspace import begin
from tests.eval.test_status import make_run


def test_runs_and_unfinished_work_are_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs", "first", logged=2, saved=2)
    begin(tmp_path, tasks=[10, 10], done=[1])
    assert run(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["path"], one["state"]) for one in found["runs"]] == [("runs/first", "interrupted")]
    assert found["unfinished"] == [{"out": "ntu.zarr", "state": "interrupted", "done": 10, "total": 20}]
    assert run(["status"]) == 0
    text = capsys.readouterr().out
    assert "2 of 3" in text
    assert "smae pretrain --resume --out runs/first" in text
    assert "10 of 20 samples are done" in text
    assert run(["status", "runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["path"] == "runs/first"


def test_an_empty_folder_and_no_folder(tmp_path, capsys):
    assert run(["status", str(tmp_path)]) == 0
    assert "no runs here" in capsys.readouterr().out
    assert run(["status", str(tmp_path / "nowhere")]) == 2
