"""``smae bench``: it finds the checkout's benchmarks, passes their options on, and says where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import smae
from smae_cli.main import run


def test_help_lists_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--help"]) == 0
    output = capsys.readouterr().out
    assert all(word in output for word in ("loader", "masking", "step", "prepare", "all"))


def test_a_benchmark_is_run_with_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(["bench", "masking", "--bodies", "2", "--repeats", "1", "--rounds", "1", "--device", "cpu", "--json"]) == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert report["name"] == "masking"
    assert {row["items"] for row in report["rows"]} == {0, 2}


def test_an_unknown_benchmark_is_a_mistake_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "stpe"]) == 2
    assert "stpe" in capsys.readouterr().err


def test_without_a_checkout_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(smae, "__file__", str(tmp_path / "smae" / "__init__.py"))
    assert run(["bench", "step"]) == 5
    assert "no benchmarks/ there" in capsys.readouterr().err
