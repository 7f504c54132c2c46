"""The command line: what it prints for people and for programs, its exit codes, its silence when no one reads it."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from smae.data.synthetic.synth import synthesise
from smae.errors import NonFiniteError
from smae.tables import clock, percent
from smae_cli import console
from smae_cli.main import COMMANDS, run
from tests.data import imported
from tests.reliability.forked_cli import too_slow

TINY = [
    "--recipe", "skeletonmae-cpu", "--device", "cpu", "--epochs", "1", "--set", "augment.frames=12",
    "--set", "encoder.dim=16", "--set", "encoder.depth=1", "--set", "decoder.dim=16", "--set", "decoder.depth=1",
    "--set", "train.batch=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with raw recordings and their store."""
    folder = tmp_path_factory.mktemp("home")
    assert run(["synth", str(folder / "ntu"), "--actions", "2", "--subjects", "4", "--cameras", "1"]) == 0
    raw, out = str(folder / "ntu"), str(folder / "ntu.zarr")
    assert run(["prepare", "--raw", raw, "--out", out, "--executor", "inline"]) == 0
    return folder


@pytest.fixture(scope="module")
def trained(home):
    assert run(["pretrain", "--data", str(home / "ntu.zarr"), "--out", str(home / "first"), *TINY]) == 0
    return home / "first"


def test_help_lists_every_command_and_exit_code(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for name, what in COMMANDS.items():
        assert f"{name} " in text
        assert what.split()[0] in text
    assert "130 / 143 interrupted" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(name, capsys):
    assert run([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Usage: smae {name}" in text
    assert "--json" in text


def test_the_help_of_synth_shows_its_defaults(capsys):
    assert run(["synth", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    parameters = inspect.signature(synthesise).parameters
    for name in ("seed", "actions", "subjects", "cameras", "replications"):
        assert re.search(rf"--{name} [^\[]*\[default: {parameters[name].default};", text)


def test_the_settings_of_a_recipe_are_printed(capsys):
    assert run(["recipes", "skeletonmae-cpu"]) == 0
    assert '[masking]\nname = "spatial-temporal"' in capsys.readouterr().out
    assert run(["recipes", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["encoder"]["depth"] == 2
    assert run(["recipes", "cpo"]) == 2
    assert "did you mean 'cpu'?" in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("smae, version ")


@pytest.mark.parametrize(("typed", "meant"), [("pretain", "pretrain"), ("inof", "info"), ("evla", "eval")])
def test_an_unknown_command_gets_a_hint(capsys, typed, meant):
    assert run([typed]) == 2
    assert f"No such command '{typed}'. Did you mean '{meant}'?" in capsys.readouterr().err


def test_an_unknown_benchmark_gets_a_hint(capsys):
    assert run(["bench", "lodaer"]) == 2
    assert "No such command 'lodaer'. Did you mean 'loader'?" in capsys.readouterr().err


def test_an_unknown_option_gets_a_hint(capsys):
    assert run(["pretrain", "--epoch", "3"]) == 2
    assert "--epochs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "masking.keep_joint=0.5"], "masking.keep_joint: no such setting"),
        (["--set", "masking.keep_joint=0.5"], "did you mean 'keep_joints'?"),
        (["--set", "maskin.keep=0.5"], "did you mean 'masking'?"),
        (["--set", "masking.name=randon"], "did you mean 'random'?"),
        (["--set", "optim.lr=nan"], "optim.lr: "),
        (["--set", "train.batch=0"], "train.batch: input should be greater than or equal to 1; found 0"),
        (["--set", "masking.keep_frames=1", "--set", "masking.keep_joints=1"], "would hide nothing"),
        (["--set", "lr"], "expected section.key=value"),
        (["--recipe", "bas"], "did you mean 'base'?"),
        (["--recipe", "gone.toml"], "gone.toml: cannot be read"),
        (["--protocol", "xsup"], "unknown protocol 'xsup' for a store of 'ntu60': expected one of ntu60-xsub"),
        (["--device", "gpu"], "expected one of auto, cpu, cuda, cuda:N"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(smae, home, arguments, message):
    code, output, err = smae("pretrain", "--out", "never", *TINY[:4], *arguments)
    assert code == output["error"]["exit_code"] == 2
    assert message in output["error"]["message"]
    assert message in err
    assert "Traceback" not in err
    assert not (home / "never").exists()


@pytest.mark.parametrize("command", [["info"], ["verify"], ["pretrain", "--data"]])
def test_a_missing_store_is_exit_code_4(smae, command):
    code, output, err = smae(*command, "gone.zarr")
    assert code == 4
    assert "gone.zarr" in json.dumps(output)
    assert "Traceback" not in err


def test_no_store_here_says_how_to_make_one(smae, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output, _ = smae("info")
    assert code == 4
    assert "smae prepare --raw ntu/ --out ntu.zarr" in output["error"]["message"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", [["pretrain"], ["eval", "--run", "first"]])
def test_a_gpu_that_is_not_there_is_exit_code_5_and_never_silently_the_cpu(smae, trained, command):
    code, output, _ = smae(*command, "--device", "cuda")
    assert code == output["error"]["exit_code"] == 5
    assert "sees 0 CUDA devices. Use --device cpu" in output["error"]["message"]


def test_json_of_the_data_commands(smae, home):
    code, about, _ = smae("info", "ntu.zarr")
    assert code == 0
    assert about["clips"] > 0
    assert about["path"] == "ntu.zarr"
    code, found, _ = smae("verify")
    assert (code, found["ok"], found["problems"]) == (0, True, [])
    name = next((home / "ntu").rglob("*.skeleton")).stem
    code, story, _ = smae("explain", "ntu", name)
    assert (code, story["name"]) == (0, name)
    code, written, _ = smae("export", "--format", "hdf5", "--out", "ntu.h5")
    assert (code, Path(written["path"]).name) == (0, "ntu.h5")
    code, made, err = smae("synth", "more", "--actions", "2", "--subjects", "2", "--cameras", "1")
    assert (code, made["files"] > 0) == (0, True)
    code, summary, err = smae("prepare", "--raw", "more", "--out", "more.zarr", "--executor", "inline")
    assert (code, Path(summary["store"]).name) == (0, "more.zarr")
    assert all("progress" in json.loads(line) or "note" in json.loads(line) for line in err.splitlines())


def test_json_of_recipes(smae):
    code, output, _ = smae("recipes")
    assert code == 0
    assert {"base", "cpu"} <= set(output)


def test_json_of_training_evaluating_and_reporting(smae, trained):
    code, output, err = smae("pretrain", "--data", "ntu.zarr", "--out", "second", *TINY)
    assert code == 0
    assert output["steps"] > 0
    lines = [json.loads(line) for line in err.splitlines()]
    assert {"note", "progress"} <= {key for line in lines for key in line}
    code, output, _ = smae("eval", "--run", "second", "--set", "linear.epochs=2", "--device", "cpu")
    assert code == 0
    assert {row["mode"] for row in output["rows"]} == {"linear", "knn"}
    code, output, _ = smae("report", "second")
    assert code == 0
    assert Path(output["page"]).read_text().lower().startswith("<!doctype html>")


def test_what_to_do_next_names_the_runs_own_protocol(home, tmp_path, capsys):
    assert run(["pretrain", "--data", str(home / "ntu.zarr"), "--out", str(tmp_path / "run"), *TINY,
                "--set", "train.max_steps=1", "--protocol", "ntu60-xsub"]) == 0  # fmt: skip
    assert f"next: smae eval --run {tmp_path / 'run'} --protocol ntu60-xsub" in capsys.readouterr().out


def test_a_run_that_is_there_is_not_overwritten(smae, trained):
    code, output, _ = smae("pretrain", "--data", "ntu.zarr", "--out", "first", *TINY)
    assert code == 2
    assert "add --resume" in output["error"]["message"]


def test_resuming_under_other_settings_is_exit_code_4(smae, trained):
    code, output, _ = smae("pretrain", "--out", "first", "--resume", "--set", "optim.lr=1", "--device", "cpu")
    assert code == 4
    assert "optim.lr: 0.001 there, 1.0 here" in output["error"]["message"]


def test_a_store_of_another_layout_is_exit_code_4_with_a_message(smae, home, trained):
    (home / "ucla").mkdir()
    for view in (1, 2, 3):
        imported.write_ucla(home / "ucla" / f"a0{view}_s01_e00_v0{view}.json", frames=20, label=view)
    code, _, _ = smae("prepare", "--source", "nw-ucla", "--raw", "ucla", "--out", "ucla.zarr", "--executor", "inline")
    assert code == 0
    before = (home / "first" / "run.json").read_bytes()
    for command in (
        ["pretrain", "--out", "first", "--resume", "--data", "ucla.zarr", "--device", "cpu"],
        ["eval", "--run", "first", "--data", "ucla.zarr", "--protocol", "xview", "--device", "cpu"],
        ["report", "first", "--data", "ucla.zarr", "--out", "page.html"],
    ):
        code, output, _ = smae(*command)
        assert code == 4, command
        assert "first was trained on layout ntu25, ucla.zarr holds kinect20" in output["error"]["message"]
    assert (home / "first" / "run.json").read_bytes() == before
    assert not (home / "page.html").exists()


def test_the_mode_of_the_store_is_shown_everywhere(smae, home, trained):
    code, _, _ = smae("prepare", "--raw", "ntu", "--mode", "exact", "--out", "exact.zarr", "--executor", "inline")
    assert code == 0
    assert [smae("info", f"{name}.zarr")[1]["mode"] for name in ("ntu", "exact")] == ["reference", "exact"]
    assert json.loads((home / "first" / "run.json").read_text())["store"]["mode"] == "reference"
    words = ("--run", "first", "--data", "exact.zarr", "--probe", "knn", "--device", "cpu")
    code, output, err = smae("eval", *words)
    assert (code, output["store_mode"]) == (0, "exact")
    assert "trained on a store in reference mode, evaluated on one in exact mode" in err
    code, output, _ = smae("report", "first")
    page = Path(output["page"]).read_text()
    assert "reference mode" in page
    assert ", in exact mode" in page, "beside the numbers that rest on the other one"


def test_people_get_words(home, trained, monkeypatch, capsys):
    monkeypatch.chdir(home)
    capsys.readouterr()
    assert run(["info"]) == 0
    out, err = capsys.readouterr()
    assert "protocol ntu60-xsub" in out
    assert err == ""
    assert run(["info", "gone.zarr"]) > 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("smae: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("raised", "code", "output"),
    [
        (NonFiniteError("step 3: loss nan"), 7, "smae: step 3"),
        (KeyboardInterrupt(), 130, "smae: interrupted"),
        (OSError(28, "No space left on device"), 5, "No space left"),
        (MemoryError("too much"), 5, "MemoryError"),
        (RuntimeError("oops"), 1, "a bug of smae's: RuntimeError: oops; please report"),
    ],
)
def test_every_kind_of_end_has_its_exit_code(monkeypatch, capsys, raised, code, output):
    def fail(path):
        raise raised

    monkeypatch.setattr("smae.info", fail)
    assert run(["info"]) == code
    assert output in capsys.readouterr().err


def test_an_error_of_a_plug_in_is_named_as_its_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "crooked.py").write_text("def info(path):\n    raise RuntimeError('oops')\n")
    about = tmp_path / "crooked-2.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: crooked\nVersion: 2.1\n")
    (about / "entry_points.txt").write_text("[smae.probes]\ncrooked = crooked:info\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("smae.info", importlib.import_module("crooked").info)
    assert run(["info"]) == 1
    err = capsys.readouterr().err
    expected = f"an error of a plug-in, probe 'crooked' of crooked 2.1: {tmp_path / 'crooked.py'}:2: RuntimeError: oops"
    assert expected in err
    assert "a bug of smae" not in err
    assert run(["doctor", "--json"]) in (0, 5)
    found = {one["what"]: one["found"] for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["plug-in: probe 'crooked' of crooked 2.1"] == f"crooked:info, from {tmp_path / 'crooked.py'}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.7, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations_are_written_as_people_do(seconds, text):
    assert clock(seconds) == text


def test_shares_are_percentages():
    assert [percent(share) for share in (None, 0, 0.12345, 1)] == ["-", "0.0", "12.3", "100.0"]


@pytest.mark.parametrize("columns", [0, 60])
def test_names_in_tables_are_never_cut(monkeypatch, capsys, columns):
    names = [f"/data/{'deep/' * 30}S001C001P00{n}R001A001.skeleton" for n in range(3)]
    if columns:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))
    console.table(("recording", "class"), [(name, "wave") for name in names])
    lines = capsys.readouterr().out.splitlines()
    assert columns or max(map(len, lines)) > 170
    assert all(name in "".join("".join(lines).split()).replace("wave", "") for name in names)
    assert not columns or max(len(re.sub(r"\x1b.*?m", "", line)) for line in lines) <= columns


@pytest.mark.parametrize("arguments", [["recipes"], ["recipes", "--json"], ["--help"]])
def test_a_closed_pipe_is_no_error(arguments):
    command = [sys.executable, "-m", "smae_cli.main", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        err = process.stderr.read()
        assert (process.wait(timeout=60), err) == (0, "")


def test_the_work_goes_on_when_no_one_reads_to_its_progress():
    code = (
        "import logging\n"
        "from smae import progress\n"
        "from smae_cli import console\n"
        "with console.feedback(), progress.task('work', total=3) as task:\n"
        "    for n in range(3):\n"
        "        logging.getLogger('smae').info('hello')\n"
        "        task.advance()\n"
        "print('done')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stderr.close()
        assert process.stdout.read() == b"done\n"
        assert process.wait(timeout=60) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_exits_within_five_seconds(home, tmp_path, number, code):
    places = ["--data", str(home / "ntu.zarr"), "--out", str(tmp_path / "run")]
    command = [sys.executable, "-m", "smae_cli.main", "pretrain", *places, *TINY, "--epochs", "5000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        log = tmp_path / "run" / "log.jsonl"
        deadline = time.monotonic() + 120
        while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        sent = time.monotonic()
        err = process.communicate(timeout=60)[1]
        assert process.returncode == code, err
        assert not too_slow(time.monotonic() - sent)
    assert "--resume continues" in err
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert (tmp_path / "run" / "checkpoints" / f"step-{steps[-1]:08d}").is_dir()


def test_control_characters_are_escaped_wherever_a_command_prints():
    assert console.printable("a\x1b[2J\x07\r\x9b\u202e\ud800 é\n\tb") == "a\\x1b[2J\\x07\\r\\x9b\\u202e\\ud800 é\n\tb"
    for path in Path(console.__file__).parent.glob("*.py"):
        if path.name != "console.py":
            assert not re.search(r"click\.echo|\bprint\(", path.read_text()), f"{path.name}: use console.echo"
