"""One word for one thing: renamed options, names that are listed, completed and checked without torch, one bar."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

import pytest
from click.shell_completion import ShellComplete

from smae import progress
from smae.config import RECIPES, SCHEMAS, check_settings, recipe_names, setting_names
from smae.train.config import current_schemas
from smae_cli import console
from smae_cli.main import RENAMED, run
from smae_cli.main import smae as command_line


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    assert run(["synth", str(folder / "ntu"), "--actions", "2", "--subjects", "3", "--cameras", "1"]) == 0
    raw, out = str(folder / "ntu"), str(folder / "ntu.zarr")
    assert run(["prepare", "--raw", raw, "--out", out, "--executor", "inline"]) == 0
    (folder / "runs" / "first").mkdir(parents=True)
    (folder / "runs" / "first" / "run.json").write_text("{}")
    return folder


def complete(*words: str) -> list[str]:
    """Return what a shell offers after these words, the last of which is being typed."""
    asked = ShellComplete(command_line, {}, "smae", "_SMAE_COMPLETE")
    return [item.value for item in asked.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pretrain", "--recipe", "skeletonmae-ntu60"], ["skeletonmae-ntu60-xsub", "skeletonmae-ntu60-xview"]),
        (["pretrain", "--set", "optim.l"], ["optim.lr="]),
        (["pretrain", "--set", "masking.keep_f"], ["masking.keep_frames="]),
        (["pretrain", "--set", "masking.name=b"], ["masking.name=body-part"]),
        (["pretrain", "--set", "train.rows=s"], ["train.rows=streaming"]),
        (["pretrain", "--set", "augment.mirror=t"], ["augment.mirror=true"]),
        (["eval", "--probe", "se"], ["semi-1", "semi-2", "semi-5", "semi-10", "semi"]),
        (["eval", "--run", "runs/"], ["runs/first"]),
        (["eval", "--select", "best_v"], ["best_val"]),
        (["eval", "--protocol", "xs"], ["xsub"]),
        (["export-encoder", "--run", "r"], ["runs/first"]),
        (["info", "nt"], ["ntu.zarr"]),
        (["info", "--data", "nt"], ["ntu.zarr"]),
        (["view", "ntu.zarr", "--clip", "S001C001P002R001A00"], ["S001C001P002R001A001", "S001C001P002R001A002"]),
        (["export", "--format", "py"], ["pyskl"]),
        (["prepare", "--source", "pku"], ["pku-mmd"]),
        (["pretrain", "--device", "cu"], ["cuda", "cuda:N"]),
    ],
)
def test_values_are_completed(home, monkeypatch, words, offered):
    monkeypatch.chdir(home)
    assert complete(*words) == offered


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "--set", "masking.keep_joint=1"], "masking.keep_joint: no such setting; expected one of name, "),
        (["pretrain", "--set", "maskin.x=1"], "did you mean 'masking'?"),
        (["pretrain", "--set", "masking.name=randon"], "unknown masking 'randon': expected one of body-part, "),
        (["pretrain", "--set", "train.batch=0"], "train.batch: input should be greater than or equal to 1; found 0"),
        (["pretrain", "--set", "train.rows=disk"], "'auto', 'device', 'resident' or 'streaming'; found 'disk'"),
        (["pretrain", "--recipe", "bas"], "unknown recipe 'bas': expected one of auto, base, "),
        (["pretrain", "--device", "gpu"], "unknown device 'gpu'"),
        (["pretrain", "--epoch", "3"], "--epochs"),
        (
            ["eval", "--probe", "knnn"],
            "finetune, transfer, semi-1, semi-2, semi-5, semi-10, semi, all",
        ),
        (["eval", "--set", "linear.epoch=2"], "linear.epoch: no such setting"),
        (["eval", "--set", "masking.keep=2"], "masking.keep: no effect on an evaluation"),
        (
            ["prepare", "--raw", "x", "--out", "y", "--source", "nut"],
            "unknown source 'nut': expected one of ctrgcn-",
        ),
        (["export", "--format", "hdf", "--out", "x"], "unknown format 'hdf': expected one of ctrgcn, hdf5, pyskl"),
        (["predict", "a.skeleton", "--probe", "knn"], "'knn': expected one of linear, finetune, transfer"),
        (["ensemble", "a", "b", "--probe", "all"], "unknown probe 'all': expected one of linear, knn, "),
        (["eval", "--run", "nowhere", "--data", "nowhere.zarr", "--probe", "knnn"], "unknown probe 'knnn'"),
        (["convert", "nowhere.zarr", "--to", "ntu25"], "Missing option '--out'"),
        (["synth"], "Missing argument 'OUT'"),
        (["ensemble", "--probe", "knn"], "two runs or more"),
        (["info", "s3://a/a.zarr", "--data", "s3://a/b.zarr"], "a.zarr and --data s3://a/b.zarr: name one"),
    ],
)
def test_what_is_wrong_is_an_error_in_json_too(words, message, capsys):
    assert run([*words, "--json"]) == 2
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert set(answer) == {"version", "error"}
    assert answer["error"]["exit_code"] == 2
    assert message in answer["error"]["message"]
    assert all(set(json.loads(line)) == {"version", "note"} for line in err.splitlines())
    assert run(words) == 2
    assert capsys.readouterr().out == ""


RUNS = (
    "report",
    "report --run",
    "ensemble",
    "ensemble --run",
    "eval --run",
    "predict . --run",
    "view --run",
    "embed . --out a.npz --run",
)
RUNS += ("export-encoder --out a --run",)


def test_what_is_wrong_or_not_there_is_answered_without_torch(tmp_path):
    wrong = [
        ["pretrain", "--set", "masking.keep_joint=1"],
        ["pretrain", "--recipe", "bas"],
        ["eval", "--probe", "knnn"],
        ["eval", "--set", "linear.epoch=2"],
        ["pretrain", "--epoch", "3"],
        ["predict", "a.skeleton", "--probe", "lineer"],
        ["new", "objective", "simclr"],
        ["predict", "a.skeleton"],
        ["predict", ".", "--head", "nowhere"],
        ["predict", "a.txt", "--follow"],
        ["view", "a.skeleton"],
        ["explain", "a.skeleton"],
        ["info", "nowhere.zarr"],
        ["status", "nowhere"],
        ["eval", "--encoder", "open-small", "--data", "nowhere.zarr"],
        ["eval", "--encoder", "nowhere"],
        ["eval", "--protocol", "xsub"],
        ["eval", "--layout", "ntu52"],
        ["report"],
        ["report", "--data", "nowhere.zarr"],
        ["export-encoder", "--out", "a"],
        ["import-weights", "nowhere", "--format", "mamp", "--out", "a"],
        ["embed", "--out", "a.npz"],
        ["embed", ".", "--out", "a.txt"],
        ["pretrain"],
        ["pretrain", "nowhere.zarr"],
        ["pretrain", "--init", "nowhere"],
        *([*words.split(), "runs/nowhere"] for words in RUNS),
    ]
    code = (
        f"import sys\nfrom smae_cli.main import run\nfor words in {wrong!r}:\n    assert run(words), words\n"
        "    assert 'torch' not in sys.modules, words"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_settings_that_are_known_are_those_of_the_sections():
    there = json.loads(SCHEMAS.read_text())
    assert there == json.loads(json.dumps(current_schemas())), "python -m smae.train.config > smae/settings.json"
    assert {"seed", "optim.lr", "masking.keep_joints", "objective.momentum"} <= set(setting_names())


def test_every_recipe_passes_the_first_check():
    assert recipe_names() == sorted(path.stem for path in RECIPES.glob("*.toml"))
    for name in recipe_names():
        check_settings(name, {})
    check_settings("auto", {"train": {"compile": "auto"}, "augment": {"strength": [1, 0.5], "crop": [0.2, 1]}})


@pytest.mark.parametrize("name", RENAMED)
def test_earlier_spellings_work_with_a_note(name, capsys):
    import click

    context = click.Context(command_line, info_name="smae")
    for old, new in RENAMED[name].items():
        for words in ([old, "x"], [f"{old}=x"]):
            _, command, rest = command_line.resolve_command(context, [name, *words])
            assert rest[0].partition("=")[0] == new
            assert any(new in parameter.opts for parameter in command.params)
            assert f"{old} is now {new}" in capsys.readouterr().err
    _, _, rest = command_line.resolve_command(context, [name, "--", *RENAMED[name]])
    assert rest == ["--", *RENAMED[name]]


def test_a_store_is_an_argument_or_an_option(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    for words in (["info", "ntu.zarr"], ["info", "--data", "ntu.zarr"], ["verify", "--data", "ntu.zarr"]):
        assert run([*words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["path"] == "ntu.zarr"
    assert run(["view", "--data", "ntu.zarr", "--out", "a.png"]) == 0
    assert run(["synth", "--out", "small", "--actions", "2", "--subjects", "2", "--cameras", "1"]) == 0
    assert (home / "small").is_dir()
    assert run(["export", "--data", "ntu.zarr", "--format", "hdf5", "--to", "a.h5"]) == 0
    assert "--to is now --out" in capsys.readouterr().err


def test_what_is_typed_again_is_whole_at_80_columns(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["recipes"]) == 0
    lines = re.sub(r"\x1b.*?m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(any(name in line.split() for line in lines) for name in recipe_names())


def test_the_bounds_of_synth_are_the_largest_accepted_values(capsys):
    assert run(["synth", "x", "--actions", "15"]) == 2
    assert "2<=x<=14" in capsys.readouterr().err


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path, monkeypatch, capsys):
    def refuse(path, *rest, **more):
        raise PermissionError(13, "Permission denied")

    from smae.atomic_io import write_atomic
    from smae.errors import EnvironmentFault

    monkeypatch.setattr("smae.atomic_io._claim", refuse)
    with pytest.raises(EnvironmentFault, match="choose an output in a folder that you may write to"):
        write_atomic(tmp_path / "x", b"")


class Terminal:
    """A standard error of 100 columns that keeps what is drawn."""

    def __init__(self, monkeypatch) -> None:
        monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(console, "AFTER", 0.05)
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "160")


def test_a_whole_has_the_only_bar_with_its_total_from_the_start(monkeypatch, capsys):
    Terminal(monkeypatch)
    with console.feedback(), progress.whole("eval", total=200, unit="clips") as whole:
        with progress.task("features, train", total=7, unit="batches") as inner:
            time.sleep(0.3)
            inner.update(3)
            time.sleep(0.2)
        whole.update(100)
    err = capsys.readouterr().err
    assert "0/200" in err, "shown before the first part has finished"
    assert "elapsed" in err
    assert "left" in err
    assert "3/7" not in err
    assert "features, train" in err


def test_at_80_columns_the_bar_keeps_its_count_its_times_and_its_note(monkeypatch, capsys):
    Terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    words = "epoch 12/40  loss 0.7688  lr 1.96e-04  1,204 clips/s"
    with console.feedback(), progress.task("pretrain", total=10_000, unit="steps") as task:
        time.sleep(0.1)
        task.update(120, note=words)
        time.sleep(0.3)
    lines = re.sub(r"\x1b\[.*?[A-Za-z]", "", capsys.readouterr().err).replace("\r", "\n").splitlines()
    assert any(re.search(r"pretrain ━+ +120/10000 steps elapsed \d:\d\d:\d\d left [-:\d]+", line) for line in lines)
    assert any(line.rstrip() == f"  {words}" for line in lines)
    assert max(map(len, lines)) <= 80


def test_completion_works_in_the_installed_command(home):
    asked = {"_SMAE_COMPLETE": "bash_complete", "COMP_WORDS": "smae pretrain --set optim.w", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-m", "smae_cli.main"], env=os.environ | asked, capture_output=True, text=True, timeout=60
    )
    assert {line.partition(",")[2] for line in done.stdout.split()} == {"optim.weight_decay=", "optim.warmup="}
