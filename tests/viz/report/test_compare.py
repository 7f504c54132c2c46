"""Differences between the settings of runs."""

from __future__ import annotations

from smae.viz.report.compare import draw_differences, flatten
from tests.viz.report.pages import NASTY, Checker


def test_only_settings_that_differ_are_compared():
    one = {"config": {"seed": 0, "optim": {"lr": 1e-3, "betas": [0.9, 0.95]}}, "versions": {}, "store": {"path": "a"}}
    two = {"config": {"seed": 1, "optim": {"lr": 1e-3}}, "versions": {}, "store": {"path": "b"}}
    assert flatten(one["config"]) == {"seed": "0", "optim.lr": "0.001", "optim.betas": "0.9, 0.95"}
    text = Checker(draw_differences(["one", NASTY], [one, two])).text
    assert "seed01" in text
    assert "optim.betas0.9, 0.95-" in text
    assert "optim.lr" not in text
    assert "same settings" in draw_differences(["one", "again"], [one, one])
