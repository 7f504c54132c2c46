"""Weights & Biases: offline unless the user's environment says otherwise, one id a run, never on by itself."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from smae.errors import ConfigError
from smae.train.config import resolve
from smae.train.metrics_log import MetricsLog, WandbWriter
from smae.train.pretrain import pretrain
from tests.fakes import FakeStore
from tests.train.small import SETTINGS

STORE = FakeStore.toy(clips=12, classes=3, seed=0, frames=16)


class FakeWandb(ModuleType):
    """Notes what is asked of the real one, by its own names."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", loader=None)
        self.begun: list[dict[str, Any]] = []
        self.points: list[tuple[dict[str, float], int]] = []
        self.finished = 0

    def init(self, **options: Any) -> Any:
        self.begun.append(options)
        return SimpleNamespace(log=lambda values, step: self.points.append((values, step)), finish=self._finish)

    def _finish(self) -> None:
        self.finished += 1

    Settings = SimpleNamespace


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for name in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return fake


def test_it_is_off_unless_asked_for():
    assert not resolve("cpu").train.wandb


def test_wanted_and_not_installed_is_refused_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("smae.train.metrics_log.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'smae\[wandb\]'"):
        pretrain(data=STORE, settings=SETTINGS, wandb=True, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_curves_go_to_a_folder_offline(wandb, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with MetricsLog(folder / "log.jsonl", wandb=lambda: WandbWriter(folder, config={"seed": 7})) as log:
        log.write({"step": 1, "epoch": 0, "loss": 2.0, "lr": 1e-3, "clips": 8, "variance": 0.5}, {})
    (options,) = wandb.begun
    assert (options["mode"], options["dir"], options["name"]) == ("offline", str(folder), "run")
    assert options["config"] == {"seed": 7}
    assert wandb.points == [({"loss": 2.0}, 1), ({"lr": 1e-3}, 1), ({"variance": 0.5}, 1)]
    assert wandb.finished == 1


def test_a_resumed_run_goes_on_under_its_id_and_another_has_its_own(wandb, tmp_path):
    for name in ("one", "one", "two"):
        (tmp_path / name).mkdir(exist_ok=True)
        WandbWriter(tmp_path / name, config={}).close()
    first, again, other = (options["id"] for options in wandb.begun)
    assert first == again != other
    assert {options["resume"] for options in wandb.begun} == {"allow"}


def test_the_environment_may_say_online(wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    WandbWriter(tmp_path, config={})
    assert wandb.begun[0]["mode"] == "online"
