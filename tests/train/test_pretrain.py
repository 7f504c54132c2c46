"""Pre-training of a whole run on a store in memory: settings, folder, resumption, log and devices."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from smae.atomic_io import write_json
from smae.config import as_toml
from smae.errors import ConfigError, DataError, EnvironmentFault
from smae.eval.evaluate import evaluate
from smae.eval.export import export_encoder, load_objective
from smae.eval.run_probes import seen_in_training
from smae.progress import Task
from smae.skeleton import KINECT20, NTU25
from smae.train.checkpoint import load_latest
from smae.train.config import build_config, choose_recipe
from smae.train.distributed import pick_device
from smae.train.loop import Loop, Position, _Progress
from smae.train.metrics_log import MetricsLog, read_log
from smae.train.pretrain import pretrain
from smae.train.run_folder import Run
from tests.fakes import FakeStore
from tests.reliability.runs import write_store
from tests.train.small import CPU, small_config

STORE = FakeStore.toy(clips=24, classes=4, seed=3, frames=16)


def train(path, *, resume=False, data=STORE, **settings):
    recipe = path.parent / "small.toml"
    recipe.write_text(as_toml(small_config(train={"epochs": 2})))
    return pretrain(data=data, out=path, recipe=str(recipe), settings=settings, resume=resume, device="cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("trained") / "run")


def test_a_run_leaves_all_that_its_folder_promises(trained):
    run = trained.run
    about = run.describe()
    assert about["store"]["fingerprint"] == STORE.fingerprint
    assert about["recipe"].endswith("small.toml")
    assert small_config(train={"epochs": 2}).model_dump(mode="json") == about["config"]
    assert trained.steps == len(read_log(run.log)) == 8
    assert trained.loss == read_log(run.log)[-1]["loss"]
    assert (run.checkpoints / "step-00000008").is_dir()


@pytest.mark.parametrize("kind", ["run", "checkpoint", "exported"])
def test_a_run_can_start_from_the_weights_of_another(trained, tmp_path, kind):
    source = {"run": trained.run.path, "checkpoint": trained.run.checkpoints / "step-00000008"}.get(kind)
    if source is None:
        source = export_encoder(trained.run.path, tmp_path / "encoder")
    began = load_latest(trained.run.checkpoints).model
    again = train(tmp_path / "run", init=str(source), objective={"name": "s-jepa"}, optim={"lr": 1e-9, "min_lr": 0.0})
    weights = load_latest(again.run.checkpoints).model
    for part in ("encoder", "teacher"):  # both start from them
        for name in ("embed.weight", "blocks.0.mlp.0.weight"):
            torch.testing.assert_close(weights[f"{part}.{name}"], began[f"encoder.{name}"], rtol=0, atol=1e-6)
    assert again.run.describe()["config"]["init"] == str(source)


def test_weights_that_do_not_fit_are_refused_before_a_folder_is_made(trained, tmp_path):
    with pytest.raises(DataError, match="init: weights do not fit this model"):
        train(tmp_path / "run", init=str(trained.run.path), encoder={"dim": 32})
    with pytest.raises(DataError, match=r"nothing at .*nothing: no such folder"):
        train(tmp_path / "run", init=str(tmp_path / "nothing"))
    (tmp_path / "odd").mkdir()
    for odd in (
        {"layout": []},
        {"layout": {"name": "ntu25"}, "augment": 3},
        {"layout": {"name": "none"}, "augment": {}, "encoder": {}},
    ):
        (tmp_path / "odd" / "config.json").write_text(json.dumps(odd))
        with pytest.raises(DataError, match=r"odd: it does not say what encoder it holds"):
            train(tmp_path / "run", init=str(tmp_path / "odd"))
    assert not (tmp_path / "run").exists()


def test_resuming_a_finished_run_trains_no_step(trained, caplog):
    caplog.set_level("INFO", "smae")
    again = train(trained.run.path, resume=True)
    assert (again.steps, again.loss) == (8, trained.loss)
    assert "resumed after step 8 of 8" in caplog.messages


def test_resuming_before_the_first_checkpoint_starts(tmp_path, caplog):
    caplog.set_level("INFO", "smae")
    assert train(tmp_path / "run", resume=True).steps == 8
    assert not any("no checkpoint was written yet" in line for line in caplog.messages)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert train(tmp_path / "run", resume=True).steps == 8
    assert any("no checkpoint was written yet" in line for line in caplog.messages)


@pytest.mark.parametrize(("subjects", "said"), [([-1] * 24, 1), ([2, 2] + [-1] * 22, 0), (None, 0)])
def test_batches_of_few_subjects_say_when_none_is_known(subjects, said, tmp_path, caplog):
    caplog.set_level("INFO", "smae")
    data = replace(STORE, subjects=subjects)
    train(tmp_path / "run", data=data, **{"train.batches": "subject", "protocol": "all", "train.max_steps": 1})
    assert sum("no clip's subject is known" in line for line in caplog.messages) == said


def test_resuming_under_other_settings_is_refused(trained):
    with pytest.raises(DataError, match=r"encoder\.depth: 1 there, 2 here"):
        train(trained.run.path, resume=True, encoder={"depth": 2})


def test_a_resumed_run_keeps_its_recipe(trained):
    with pytest.raises(ConfigError, match=r"was started with --recipe .*small\.toml: leave --recipe out"):
        pretrain(data=STORE, out=trained.run.path, recipe="demo", resume=True, device="cpu")


def test_a_run_is_not_overwritten(trained):
    with pytest.raises(ConfigError, match="a run is there already: add --resume"):
        train(trained.run.path)


def test_wrong_settings_leave_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"masking.name": "spatial-temporal", "masking.keep_frames": 1, "masking.keep_joints": 1}
    with pytest.raises(ConfigError, match="hide nothing"):
        pretrain(data=STORE, recipe="demo", settings=settings, device="cpu")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def config_of(tmp_path, monkeypatch):
    """Return a function that calls ``pretrain``, which trains no step, and returns the run's settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Loop, "train", lambda loop, log: None)
    store = FakeStore.toy(clips=12, classes=3, seed=0, frames=70)

    def get(**arguments):
        run = pretrain(data=store, protocol="all", device="cpu", **arguments).run
        return build_config(run.describe()["config"])

    return get


def test_epochs_are_not_cut_short_by_the_recipe(config_of):
    assert config_of().train.max_steps == 350
    train = config_of(epochs=7).train
    assert (train.epochs, train.max_steps) == (7, 0)
    train = config_of(epochs=7, settings={"train.max_steps": 3}).train
    assert (train.epochs, train.max_steps) == (7, 3)


def test_dedicated_options_win_over_settings(config_of):
    config = config_of(seed=4, epochs=2, settings={"seed": 3, "train": {"epochs": 5, "batch": 4}})
    assert (config.seed, config.train.epochs, config.train.batch) == (4, 2, 4)


def test_without_a_gpu_the_small_recipe_is_used_with_a_note(config_of, caplog):
    caplog.set_level("INFO", "smae")
    assert config_of().encoder.depth == 2
    assert "no GPU" in caplog.messages[0]
    assert "--recipe base" in caplog.messages[1]
    caplog.clear()
    assert config_of(recipe="base").encoder.depth == 8
    assert "--recipe cpu" in caplog.messages[0]


@pytest.mark.parametrize(
    ("dataset", "protocols", "protocol", "gpu", "cpu"),
    [
        ("ntu120", ["ntu60-xsub", "ntu60-xview", "ntu120-xsub"], "xsub", "skeletonmae-ntu120-xsub", "cpu"),
        ("ntu120", ["ntu60-xsub", "ntu60-xview", "ntu120-xsub"], "xview", "skeletonmae-ntu60-xview", "cpu"),
        ("ntu60", ["ntu60-xsub"], "ntu60-xsub", "skeletonmae-ntu60-xsub", "cpu"),
        ("nw-ucla", ["xview"], "xsub", "base", "nw-ucla"),
        ("lab", ["own"], "own", "base", "cpu"),
    ],
)
def test_the_recipe_is_that_of_the_data_set(dataset, protocols, protocol, gpu, cpu, caplog):
    caplog.set_level("INFO", "smae")
    store = SimpleNamespace(dataset=dataset, protocols=lambda: dict.fromkeys(protocols, (1, 1)))
    for device, wanted in (("cuda", gpu), ("cpu", cpu)):
        assert choose_recipe("auto", torch.device(device), store, protocol) == wanted
        assert wanted in " ".join(caplog.messages)
        caplog.clear()
        assert choose_recipe("demo", torch.device(device), store, protocol) == "demo"


def test_the_time_of_the_whole_is_said_after_a_measured_minute(monkeypatch, caplog):
    caplog.set_level("INFO", "smae")
    progress = _Progress(Task("pretrain", total=1000), 1)
    monkeypatch.setattr("smae.train.loop.time.monotonic", iter([0.0, 10.0, 40.0, 71.0, 140.0]).__next__)
    for step in (10, 20, 50, 81, 150):
        progress.add(4, 1.0)
        progress.report(Position(step, 0, 0), 0.1)
    assert caplog.messages == ["measured: 1 s a step on this device, so 15 min 19 s for what is left"]


def test_evaluation_writes_results_and_figures(trained, caplog):
    caplog.set_level("INFO")
    settings = {"knn": {"k": 3}, "augment": {"turn": 1}}
    _, result = evaluate(run=trained.run.path, data=STORE, probes=["knn"], settings=settings, device="cpu")
    (record,) = result.results[0].records
    saved, picture = record.content, trained.run.results / f"{record.name}.png"
    assert saved["settings"] == {"k": 3, "pool": "mean"}
    assert (saved["augment"]["turn"], saved["augment"]["frames"]) == (1, 12)
    assert saved["seen_in_training"] == 0
    assert json.loads(picture.with_suffix(".json").read_text()) == saved
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert any("after step 8 of 8" in line for line in caplog.messages)


def test_clips_seen_in_training_are_counted(trained):
    split = STORE.split("all")
    store = trained.run.describe()["store"]
    assert seen_in_training(store, "all", STORE, test=split.test) == 0
    assert seen_in_training(store, "all", STORE, test=split.train[:5]) == 5
    other = FakeStore(STORE.joints, STORE.labels, fingerprint="cd" * 32)
    assert seen_in_training(store, "all", other, test=split.train) == 0


def test_a_trained_objective_comes_back_with_its_weights(trained):
    config, objective = load_objective(trained.run, STORE)
    _, older = load_objective(trained.run, STORE, step=trained.run.checkpoints / "step-00000008")
    assert config.encoder.dim == 16
    assert not objective.training
    assert torch.equal(objective.encoder.embed.weight, older.encoder.embed.weight)
    with pytest.raises(DataError, match="weights do not fit this model"):
        load_objective(trained.run, STORE, settings={"encoder": {"dim": 8}})


def test_the_moving_average_is_evaluated(tmp_path, caplog):
    outcome = train(tmp_path / "run", train={"ema": 0.9})
    caplog.set_level("INFO")
    _, objective = load_objective(outcome.run, STORE)
    found = load_latest(outcome.run.checkpoints)
    for name, weight in objective.state_dict().items():
        assert torch.equal(weight, found.average[name]), name
    assert not torch.equal(found.average["encoder.embed.weight"], found.model["encoder.embed.weight"])
    assert any("moving average of its weights" in line for line in caplog.messages)


def test_slow_bfloat16_is_noted(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "smae")
    monkeypatch.setattr("smae.train.pretrain.has_native_bf16", lambda device: False)
    train(tmp_path / "run", train={"max_steps": 1, "precision": "bf16"})
    assert any("no bf16 arithmetic" in line for line in caplog.messages)


PROGRAM = """
import sys
from smae_cli.main import run
code = run(["pretrain", "--data", sys.argv[1], "--out", sys.argv[2], "--recipe", sys.argv[3], "--device", "cpu"])
print(code, *[name for name in sys.modules if name.startswith("smae")])
"""
ELSEWHERE = ("smae.data.raw", "smae.data.prepare", "smae.data.export", "smae.eval", "smae.viz", "smae.testing")


def test_few_modules_are_executed(tmp_path):
    recipe = tmp_path / "small.toml"
    recipe.write_text(as_toml(small_config(protocol="xsub", train={"max_steps": 1})))
    command = [sys.executable, "-c", PROGRAM, str(write_store(tmp_path)), str(tmp_path / "run"), str(recipe)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    code, *modules = printed[-1].split()
    assert code == "0"
    assert [name for name in modules if name.startswith(ELSEWHERE)] == []
    assert len(modules) <= 44


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("gpu", ConfigError, "--device gpu: expected auto, cpu, cuda or cuda:N"),
        ("mps", ConfigError, "--device mps: expected auto, cpu, cuda or cuda:N"),
        ("cuda:99", EnvironmentFault, "--device cuda:99: this torch .* sees .* CUDA devices"),
    ],
)
def test_a_device_that_is_not_there_is_refused(name, error, message):
    with pytest.raises(error, match=message):
        pick_device(name)


def test_the_processor_is_always_there():
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in ("cpu", "cuda")


def test_a_log_cut_short_by_a_crash_is_read_up_to_there(tmp_path, caplog):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "loss": 2.0, "seconds": 1}\n{"step": 2, "lo')
    assert [line["step"] for line in read_log(path)] == [1]
    assert caplog.messages == [f"{path}:2: not the line of a step, skipped"]
    with MetricsLog(path, from_step=1) as log:
        log.write({"step": 2, "epoch": 0, "loss": 1.5, "lr": 0.1, "clips": 4, "spread": 0.5}, {})
        assert log.last_loss == 1.5
    lines = read_log(path)
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[1]["spread"] == 0.5
    assert lines[1]["seconds"] >= 1


def test_a_missing_log_is_empty(tmp_path):
    assert read_log(tmp_path / "none") == []


def other_layout():
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=(1, 16, 20, 3)).astype(np.float32) for _ in range(12)]
    return FakeStore(clips, layout=KINECT20, path=Path("ucla.zarr"))


def test_a_store_of_another_layout_is_refused_with_what_differs(trained):
    with pytest.raises(DataError, match=r"was trained on layout ntu25, ucla\.zarr holds kinect20") as refused:
        load_objective(trained.run, other_layout())
    assert refused.value.exit_code == 4
    with pytest.raises(DataError, match="was trained on layout ntu25"):
        evaluate(run=trained.run.path, data=other_layout(), protocol="all", probes=["knn"], device="cpu")


def test_a_checkpoint_of_another_layout_is_refused_even_where_its_shapes_would_fit(trained, tmp_path):
    shutil.copytree(trained.run.path, tmp_path / "run")
    run = Run(tmp_path / "run")
    about = run.describe()
    about["store"]["layout"] = "kinect20"
    write_json(run.path / "run.json", about)
    alien = replace(NTU25, name="kinect20")
    with pytest.raises(DataError, match=r"step-00000008 was trained on layout ntu25, the run on kinect20"):
        load_objective(run, FakeStore(STORE.joints, layout=alien))


def test_the_mode_of_the_store_is_in_the_run_and_in_every_result(trained, caplog):
    assert trained.run.describe()["store"]["mode"] == "reference"
    caplog.set_level("INFO")
    exact = FakeStore(STORE.joints, STORE.labels, mode="exact", fingerprint="cd" * 32)
    how = {"run": trained.run.path, "probes": ["knn"], "device": "cpu"}
    _, result = evaluate(data=exact, **how)
    saved = result.results[0].records[0].content
    assert (saved["store_mode"], saved["layout"], result.store_mode) == ("exact", "ntu25", "exact")
    assert "careful: trained on a store in reference mode, evaluated on one in exact mode" in caplog.messages
    assert any(line.startswith("all, exact mode: ") for line in caplog.messages)
    assert evaluate(data=STORE, **how)[1].store_mode == "reference"
