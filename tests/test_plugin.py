"""A package from outside: its masking and objective are found by name and trained by the loop as it is."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from smae.errors import ConfigError, Interrupted
from smae.models.masking import maskings
from smae.testing import check_masking, check_objective
from smae.train.checkpoint import load_latest
from smae.train.objectives import objectives
from smae.train.run_folder import Run
from tests.fakes import FakeStore
from tests.train.small import log_of, run_through, small_config, small_loop

EXAMPLE = Path(__file__).parent / "plugin_example"
MODULE = "side_and_teacher"
CHOSEN = {"masking": {"name": "one-side"}, "objective": {"name": "teacher"}, "encoder": {"drop_path": 0.2}}
STORE = FakeStore.toy(clips=18, classes=3, seed=0)


@pytest.fixture(autouse=True)
def installed(tmp_path, monkeypatch):
    """Put the example on the path as an installer would: the module, and its entry points in a dist-info folder."""
    site = tmp_path / "site"
    about = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = site / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
    groups = about["entry-points"].items()
    (info / "entry_points.txt").write_text(
        "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups)
    )
    shutil.copy(EXAMPLE / f"{MODULE}.py", site)
    monkeypatch.syspath_prepend(str(site))
    for registry in (maskings, objectives):
        monkeypatch.setattr(registry, "_members", dict(registry._members))
    yield
    sys.modules.pop(MODULE, None)


def test_its_names_are_listed_before_it_is_imported():
    assert "one-side" in maskings.names()
    assert "teacher" in objectives.names()
    assert MODULE not in sys.modules


def test_it_keeps_the_contracts():
    check_masking(maskings.get("one-side"))
    check_objective(objectives.get("teacher"))


def test_its_settings_are_checked_like_any_others():
    with pytest.raises(ConfigError, match=r"objective\.momentun: no such setting.*did you mean 'momentum'"):
        small_config(**{**CHOSEN, "objective": {"name": "teacher", "momentun": 0.9}})
    with pytest.raises(ConfigError, match=r"masking\.left: input should be less than or equal to 1; found 2"):
        small_config(masking={"name": "one-side", "left": 2})


def test_the_loop_trains_it_and_resumes_it_bit_for_bit(tmp_path):
    config = small_config(**CHOSEN)
    whole = small_loop(STORE, Run(tmp_path / "whole"), config)
    run_through(whole)
    cut = Run(tmp_path / "cut")
    with pytest.raises(Interrupted):
        run_through(small_loop(STORE, cut, config), stop_at=4)
    resumed = small_loop(STORE, cut, config)
    resumed.resume(load_latest(cut.checkpoints))
    run_through(resumed)
    assert log_of(cut) == log_of(whole.run)
    assert all(line["spread"] > 0 for line in log_of(cut))
    for name, tensor in whole.objective.state_dict().items():
        assert torch.equal(tensor, resumed.objective.state_dict()[name]), name


def test_its_teacher_follows(tmp_path):
    loop = small_loop(STORE, Run(tmp_path), small_config(**CHOSEN, train={"max_steps": 1}))
    before = loop.objective.teacher.embed.weight.clone()
    run_through(loop)
    after, mine = loop.objective.teacher.embed.weight, loop.objective.encoder.embed.weight
    assert torch.allclose(after, 0.99 * before + 0.01 * mine, atol=1e-7)
    assert not torch.equal(after, before)


class Broken:
    """Draws its mask from torch's generator, as a plug-in must not."""

    Config = maskings.get("random").Config

    def __init__(self, config, grid, layout):
        self.tokens = grid.tokens

    def __call__(self, tokens, noise):
        order = torch.rand(len(tokens), self.tokens).argsort(1)
        return type("Mask", (), {"keep": order[:, :9].sort(1).values, "hide": order[:, 9:].sort(1).values})


def test_the_contract_finds_a_masking_that_draws_on_its_own():
    with pytest.raises(AssertionError, match="the same tokens and noise gave another mask"):
        check_masking(Broken)


def test_the_contract_finds_an_objective_that_peeks_at_labels():
    teacher = objectives.get("teacher")

    class Peeking(teacher):
        def forward(self, batch, noise):
            output = super().forward(batch, noise)
            return type(output)(output.loss + batch.label.float().mean())

    with pytest.raises(AssertionError, match="depends on the labels"):
        check_objective(Peeking)


def test_the_contract_finds_state_that_no_checkpoint_holds():
    teacher = objectives.get("teacher")

    class Forgetful(teacher):
        weight = 1.0

        def forward(self, batch, noise):
            output = super().forward(batch, noise)
            return type(output)(output.loss * self.weight)

        def after_step(self, progress):
            super().after_step(progress)
            self.weight = 1 + progress

    with pytest.raises(AssertionError, match="keep all state in parameters and buffers"):
        check_objective(Forgetful)


def test_settings_of_a_plug_in_are_written_to_the_checkpoint(tmp_path):
    loop = small_loop(STORE, Run(tmp_path), small_config(**CHOSEN, train={"max_steps": 1}))
    run_through(loop)
    identity = json.loads((tmp_path / "checkpoints" / "step-00000001" / "state.json").read_text())["identity"]
    assert identity["objective.momentum"] == 0.99
    assert identity["masking.name"] == "one-side"
