"""``smae new``: what it writes is installed by pip's own machinery, found by name, and passes its own test."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smae.errors import ConfigError
from smae.registry import _entry_points
from smae.testing import FAMILIES, new
from smae_cli.main import run

BUILD = "import setuptools.build_meta as b; print(b.prepare_metadata_for_build_editable('.'))"


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    """One package of each family, with the metadata that ``pip install -e`` would write beside it."""
    home = tmp_path_factory.mktemp("new")
    for family in FAMILIES:
        made = new(family, f"my-{family}", home / family)
        subprocess.run([sys.executable, "-c", BUILD], cwd=made.path, check=True, capture_output=True, timeout=60)
    return home


@pytest.mark.usefixtures("fresh_registries")
@pytest.mark.parametrize("family", FAMILIES)
def test_its_own_tests_pass_and_its_name_is_known(packages, family, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(packages / family))
    _entry_points.cache_clear()
    tests = importlib.import_module(f"test_smae_my_{family}")
    tests.test_entry_point()
    if family != "source":
        tests.test_contract()
        return
    contract = tests.TestMySource()
    for number, name in enumerate(name for name in dir(contract) if name.startswith("test_")):
        (tmp_path / str(number)).mkdir()
        getattr(contract, name)(tmp_path / str(number))


def test_the_command_says_what_to_do_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["new", "masking", "mine"]) == 0
    assert "next: pip install -e mine" in capsys.readouterr().out
    assert sorted(os.listdir("mine")) == ["pyproject.toml", "smae_mine.py", "test_smae_mine.py"]
    assert run(["new", "masking", "mine"]) == 2
    assert "mine is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("family", "name", "message"),
    [
        ("masking", "random", "masking 'random' is there already"),
        ("source", "ntu", "source 'ntu' is there already"),
        ("encoder", "My Net", "expected a name such as my-encoder"),
        ("masking", "../up", "expected a name such as my-masking"),
        ("probe", "mine", "expected one of masking, objective, encoder, source"),
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path, monkeypatch, family, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        new(family, name)
    assert not any(tmp_path.iterdir())
