"""What scripts call: how the arguments of ``pretrain`` become settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from smae import api
from smae.errors import ConfigError
from smae.train import pretrain as training
from smae.train.config import RunConfig
from tests.fakes import FakeStore


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that calls ``pretrain`` and returns the settings that training would get."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "smae.api.training.open_store", lambda path=None: FakeStore.toy(clips=12, classes=3, seed=0, frames=70)
    )

    def get(**arguments: object) -> RunConfig:
        taken: list[RunConfig] = []
        monkeypatch.setattr(training, "pretrain", lambda objective, config, *rest, **more: taken.append(config))
        api.pretrain(device="cpu", **arguments)
        return taken[0]

    return get


def test_epochs_asked_for_are_not_cut_short_by_the_recipe(settings):
    assert settings().train.max_steps == 1200
    asked = settings(epochs=7).train
    assert (asked.epochs, asked.max_steps) == (7, 0)
    both = settings(epochs=7, sets=["train.max_steps=3"]).train
    assert (both.epochs, both.max_steps) == (7, 3)


def test_the_small_recipe_is_taken_without_a_gpu_and_said(settings):
    said: list[str] = []
    assert settings(say=said.append).encoder.model_dump()["dim"] == 128
    assert "no GPU" in said[0]
    assert "--recipe base" in said[0]
    said.clear()
    assert settings(recipe="base", say=said.append).encoder.model_dump()["dim"] == 256
    assert "--recipe cpu" in said[0]


def test_wrong_settings_leave_no_folder(settings, tmp_path):
    with pytest.raises(ConfigError, match="hide nothing"):
        settings(sets=["masking.keep_frames=1", "masking.keep_joints=1"])
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_not_overwritten(settings, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match="--resume"):
        settings(out="mine")
