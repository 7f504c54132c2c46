"""Pre-training on several stores of different layouts: the same bits, resumed or not; evaluation on any of them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import smae
from smae.data.store.joined import join_stores
from smae.errors import ConfigError, DataError
from smae.eval.results import read_results
from smae.eval.run_probes import seen_in_training
from smae.skeleton import KINECT20, NTU25
from smae.train.checkpoint import load_latest
from smae.train.config import build_config, build_objective
from smae.train.objectives import Objective
from smae.train.pretrain import _check_stores, pretrain
from smae.train.run_folder import Run
from smae_cli.main import run as command
from tests.data.store.test_joined import write
from tests.train.small import SETTINGS, log_of, small_config

SMALL = {**{name: SETTINGS[name] for name in SETTINGS if name != "protocol"}, "linear": {"epochs": 3, "views": 1}}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("stores")
    write(folder / "full.zarr", NTU25, clips=12, seed=1, source="ntu")
    write(folder / "poor.zarr", KINECT20, clips=8, seed=2, source="nw-ucla")
    return [folder / "full.zarr", folder / "poor.zarr"]


def train(paths: Any, out: Path, *, resume: bool = False, layout: str | None = None, **train: Any) -> Run:
    settings = {**SMALL, "protocol": "mine", "train": {**SMALL["train"], "shares": (0.5, 0.5), **train}}
    made = pretrain(
        paths, out=out, recipe="skeletonmae-cpu", settings=settings, resume=resume, device="cpu", layout=layout
    )
    return made.run


@pytest.fixture(scope="module")
def whole(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(paths, tmp_path_factory.mktemp("runs") / "whole")


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_latest(run.checkpoints).model


@pytest.mark.parametrize("changes", [{"workers": 3}, {"rows": "streaming"}])
def test_workers_and_ways_of_loading_change_no_bit(
    whole: Run, paths: list[Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    again = train([str(path) for path in paths], tmp_path / "again", **changes)
    assert log_of(again) == log_of(whole)
    assert all(torch.equal(value, weights(whole)[key]) for key, value in weights(again).items())


@pytest.mark.parametrize("named", [True, False])
def test_a_run_is_resumed_to_the_bit(whole: Run, paths: list[Path], tmp_path: Path, named: bool) -> None:
    # The half of poor.zarr's six clips decides: twelve of fifteen an epoch.
    assert [line["clips"] for line in log_of(whole)] == [4] * 9
    shutil.copytree(whole.path, tmp_path / "part")
    part = Run(tmp_path / "part")
    steps = sorted(part.checkpoints.glob("step-*"))
    for step in steps[1:]:
        shutil.rmtree(step)
    resumed = train(paths if named else None, part.path, resume=True, workers=2)
    assert log_of(resumed) == log_of(whole)
    assert all(torch.equal(value, weights(whole)[key]) for key, value in weights(resumed).items())


def test_the_run_says_what_each_store_gave(whole: Run, paths: list[Path]) -> None:
    about = whole.describe()["store"]
    assert "path" not in about
    assert (about["layout"], about["clips"], about["dataset"]) == ("ntu25", 20, "full+poor")
    full, poor = about["stores"]
    assert (full["name"], full["path"], full["protocol"], full["masked"]) == ("full", str(paths[0]), "mine", [])
    assert poor["fingerprint"] == smae.open_store(paths[1]).fingerprint
    assert poor["masked"] == ["neck", "left hand tip", "left thumb", "right hand tip", "right thumb"]
    assert poor["frames_per_second"] == 30


def test_a_store_that_changed_is_refused_by_name(whole: Run, paths: list[Path], tmp_path: Path) -> None:
    shutil.copytree(whole.path, tmp_path / "run")
    write(tmp_path / "poor.zarr", KINECT20, clips=8, seed=9, source="nw-ucla")
    with pytest.raises(DataError, match=r"poor\.zarr is not what it was when .*run was started: fingerprint"):
        train([paths[0], tmp_path / "poor.zarr"], tmp_path / "run", resume=True)
    with pytest.raises(DataError, match=r"full\.zarr is not what it was|poor\.zarr is not what it was"):
        train(paths[::-1], tmp_path / "run", resume=True)
    with pytest.raises(DataError, match="was trained on 2 stores, found 1: leave --data out"):
        train(paths[0], tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match="was started with layout ntu25: leave --layout out"):
        train(None, tmp_path / "run", resume=True, layout="kinect20")
    with pytest.raises(DataError, match=r"cannot resume under other settings:\s+train.shares"):
        train(None, tmp_path / "run", resume=True, shares=(0.4, 0.6))
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    about["store"]["stores"][1]["path"] = str(tmp_path / "moved.zarr")
    (tmp_path / "run" / "run.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=r"expected a store at .*moved\.zarr, found nothing"):
        train(None, tmp_path / "run", resume=True)


def test_a_run_that_lies_about_its_stores_is_refused_in_a_line(whole: Run, tmp_path: Path) -> None:
    for lie in ([3], [{"name": "a"}], [{"name": "a", "path": 1, "fingerprint": "b", "protocol": "c"}]):
        about = json.loads((whole.path / "run.json").read_text())
        about["store"]["stores"] = lie
        (tmp_path / "run.json").write_text(json.dumps(about))
        with pytest.raises(DataError, match=r"run\.json lacks store\.stores\."):
            Run(tmp_path).describe()


def test_wrong_settings_leave_no_folder(paths: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected 2 shares"):
        train(paths, tmp_path / "run", shares=(1.0,))
    with pytest.raises(ConfigError, match="are of several stores, and one is given"):
        train(paths[0], tmp_path / "run")
    with pytest.raises(ConfigError, match="name each once"):
        train([*paths, paths[0]], tmp_path / "run")
    assert not (tmp_path / "run").exists()

    class Naive(Objective):
        pass

    joined = join_stores(paths)
    with pytest.raises(ConfigError, match="does not say that it leaves out joints"):
        _check_stores(joined, small_config(), Naive())
    _check_stores(joined, small_config(), build_objective(small_config(), NTU25))


def test_one_store_may_be_mapped_too(paths: list[Path], tmp_path: Path) -> None:
    made = pretrain(paths[1], out=tmp_path / "run", recipe="skeletonmae-cpu", settings=SMALL, layout="ntu25")
    assert made.run.open_store().layout == NTU25
    exported = json.loads((smae.export_encoder(made.run.path, tmp_path / "encoder") / "config.json").read_text())
    lacking = ["neck", "left hand tip", "right hand tip", "left thumb", "right thumb"]
    assert sorted(exported["layout"]["missing"]) == sorted(lacking)
    with pytest.raises(ConfigError, match="expected 1 shares"):
        train(paths[1], tmp_path / "other", layout="ntu25")


def test_it_is_evaluated_on_any_of_them(whole: Run, paths: list[Path], tmp_path: Path) -> None:
    shutil.copytree(whole.path, tmp_path / "run")
    run = Run(tmp_path / "run")
    with pytest.raises(DataError, match=rf"several stores: say which one with --data: {paths[0]} or {paths[1]}"):
        smae.evaluate(run=run.path, probes=["knn"])
    for path in paths:
        made = smae.evaluate(run=run.path, data=path, probes=["linear", "knn"], device="cpu")
        assert made.evaluation.protocol == "mine"
    results = read_results(run)
    assert all(one.current and not one.notes for one in results)
    assert {one.first["store"] for one in results} == {smae.open_store(path).fingerprint for path in paths}
    assert {one.first["layout"] for one in results} == {"ntu25"}
    with pytest.raises(ConfigError, match="the store that the run was pre-trained on"):
        smae.evaluate(run=run.path, data=paths[1], probes=["transfer"])
    heads = [json.loads(path.read_text())["layout"]["missing"] for path in run.heads.glob("*/config.json")]
    assert sorted(map(len, heads)) == [0, 4]  # the neck follows from shoulders and head
    about = run.describe()
    poor = smae.open_store(paths[1])
    assert seen_in_training(about["store"], "mine", poor, test=poor.split("mine").test) == 0
    about["store"]["stores"][1]["protocol"] = "all"
    assert seen_in_training(about["store"], "mine", poor, test=poor.split("mine").test) == 2
    other = write(tmp_path / "other.zarr", KINECT20, seed=5)
    smae.evaluate(run=run.path, data=other, probes=["knn"], device="cpu")
    (found,) = [one for one in read_results(run) if one.first["store"] == other.fingerprint]
    assert not found.current
    features = smae.embed(other, run=run.path, to=tmp_path / "features.npz")
    assert features is not None
    exported = smae.export_encoder(run.path, tmp_path / "encoder")
    assert str(paths[0].parent) not in (exported / "config.json").read_text()
    card = (exported / "README.md").read_text()
    assert "data set `full+poor`, train part of `mine+mine`" in card
    page = smae.report(run.path, data=paths[1], out=tmp_path / "report.html").read_text()
    assert "full mine, poor mine" in page
    assert str(paths[0].parent) not in page
    bare = smae.report(run.path, out=tmp_path / "other.html").read_text()
    assert "trained on several stores, and none of them was named" in bare
    assert "smae report --data full.zarr" in re.sub("</?span>", "", bare)


def test_the_command_takes_several_stores(
    paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [
        f"--set={section}.{key}={json.dumps(value) if isinstance(value, bool) else value}"
        for section, values in SMALL.items()
        for key, value in values.items()
    ]
    both = [argument for path in paths for argument in ("--data", str(path))]
    rest = ["--recipe", "skeletonmae-cpu", "--device", "cpu", *sets, "--epochs", "1"]
    out = ["--out", str(tmp_path / "run")]
    assert command(["pretrain", *both, "--share", "0.25", "--share", "0.75", *out, *rest]) == 0
    said = capsys.readouterr()
    assert f"next: smae eval --run {tmp_path / 'run'} --data {paths[0]}" in said.out
    assert "an epoch takes 8, by share, drawn anew each time" in said.err
    config = build_config(Run(tmp_path / "run").describe()["config"])
    assert config.train.shares == (0.25, 0.75)
    assert command(["pretrain", *map(str, paths), "--out", str(tmp_path / "second"), *rest]) == 0
    assert command(["pretrain", str(paths[0]), "--data", str(paths[1]), *rest]) == 2
    assert "name one" in capsys.readouterr().err
