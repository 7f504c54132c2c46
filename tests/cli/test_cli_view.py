"""``smae view`` and class names on the command line: files, messages, exit codes."""

from __future__ import annotations

import json

import pytest

from smae_cli.main import run
from tests.data import raw_folder

NAMES = raw_folder.names(3)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with three recordings, one of them bad, and the store of the others."""
    folder = tmp_path_factory.mktemp("home")
    good = {f"{name}.skeleton": raw_folder.skeleton(20, seed=number) for number, name in enumerate(NAMES[:2])}
    raw_folder.write_folder(folder / "ntu", {**good, f"{NAMES[2]}.skeleton": b"2\n"})
    out = str(folder / "ntu.zarr")
    assert run(["prepare", "--raw", str(folder / "ntu"), "--out", out, "--executor", "inline", "--max-bad", "1"]) == 3
    (folder / "runs" / "a").mkdir(parents=True)
    (folder / "runs" / "a" / "run.json").write_text("{}")
    return folder


def test_by_default_the_first_clip_is_drawn_and_replacing_is_said(smae, home):
    code, result, text = smae("view")
    assert (code, result) == (0, {"file": f"{NAMES[0]}.html"})
    assert "the first of 2 clips" in text
    assert "replaced" not in text
    assert NAMES[0] in (home / f"{NAMES[0]}.html").read_text()
    _, _, text = smae("view", "ntu.zarr", "--index", 0)
    assert f"{NAMES[0]}.html exists and is replaced" in text


@pytest.mark.parametrize("target", ["a.gif", "new/a.png"])
def test_pictures_are_written_to_the_given_file(smae, home, target):
    code, result, _ = smae("view", "--clip", NAMES[1], "--raw", "ntu", "--out", target)
    assert (code, result) == (0, {"file": target})
    assert (home / target).stat().st_size > 1000


def test_raw_files_and_folders_are_drawn(smae):
    assert smae("view", f"ntu/{NAMES[1]}.skeleton")[:2] == (0, {"file": f"{NAMES[1]}.html"})
    assert smae("view", "ntu", "--clip", NAMES[1], "--out", "b.html")[0] == 0


def test_a_bad_recording_has_the_message_of_prepare(smae, home):
    line = json.loads((home / "ntu.zarr" / "quarantine.jsonl").read_text())
    for arguments in ([f"ntu/{NAMES[2]}.skeleton"], ["ntu", "--clip", NAMES[2]], ["ntu.zarr", "--clip", NAMES[2]]):
        code, result, _ = smae("view", *arguments)
        assert code == 4
        assert line["message"] in result["error"]["message"]
        assert f"{line['path']}:{line['line']}:{line['column']}: {line['code']}" in result["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "a.mp4"], "ends in"),
        (["--index", "9"], "expected 0 to 1"),
        (["--index", "0", "--clip", NAMES[0]], "leave one out"),
        (["--raw", "ntu", "--run", "runs/a"], "leave one out"),
        (["ntu"], "--clip"),
        (["ntu", "--clip", NAMES[0], "--raw", "ntu"], "leave --raw out"),
        (["nowhere"], "nothing at nowhere"),
        (["--clip", "S009C001P001R001A001"], "unknown clip"),
    ],
)
def test_wrong_usage_is_refused_with_a_remedy(smae, arguments, words):
    code, result, _ = smae("view", *arguments)
    assert code == 2
    assert words in result["error"]["message"]


@pytest.mark.parametrize("target", ["notes.html", "notes.png", "ntu.zarr/zarr.json", "ntu.zarr/new.html"])
def test_foreign_files_and_inputs_are_not_replaced(smae, home, target):
    path = home / target
    if target.startswith("notes"):
        path.write_text("mine")
    before = path.read_bytes() if path.exists() else None
    assert smae("view", "--index", 0, "--out", target)[0] == 2
    assert (path.read_bytes() if path.exists() else None) == before


def test_classes_are_listed_with_names(smae, home, capsys):
    code, result, _ = smae("info", "--classes")
    assert code == 0
    assert sum(one["clips"] for one in result["classes"]) == 2
    assert result["classes"][0]["name"] == "A001 drink water"
    assert run(["info", "ntu.zarr", "--card"]) == 0
    assert capsys.readouterr().out.startswith("# ntu.zarr\n")
    assert run(["info", "ntu.zarr", "--classes"]) == 0
    assert "drink water" in capsys.readouterr().out
