"""Settings as text are a recipe that gives the very same settings again, every one with what it is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from smae.train.config import recipes, resolve
from smae.viz.report.settings_text import as_toml


@pytest.mark.parametrize("name", recipes())
def test_the_text_is_a_recipe_of_the_same_settings(name: str, tmp_path: Path) -> None:
    config = resolve(name)
    path = tmp_path / "mine.toml"
    path.write_text(as_toml(config))
    assert resolve(str(path)) == config


def test_every_setting_is_there_with_its_description() -> None:
    text = as_toml(resolve("base", sets=['selection.also=["best_val"]']))
    told = tomllib.loads(text)
    assert told["selection"]["also"] == ["best_val"]
    assert {"seed", "protocol", "augment", "objective", "masking", "encoder", "decoder", "optim", "train"} <= set(told)
    assert told["train"].keys() == type(resolve("base").train).model_fields.keys()
    assert "lr = 0.001  # peak learning rate\n" in text
