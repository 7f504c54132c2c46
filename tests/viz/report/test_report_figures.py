"""Line charts and training curves: bounded, finite, escaped, with values for the pointer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from smae.train.run_folder import Run
from smae.viz.report.page import Series, draw_curves, line_chart, read_curves
from tests.viz.report.pages import NASTY, Checker


def series(name: str, y: np.ndarray, slot: int = 0) -> Series:
    return Series(name, np.arange(float(len(y))), y, slot)


def test_a_long_curve_is_thinned_inside_its_frame():
    svg = line_chart("loss", [series("run", 2 * np.exp(-np.arange(50_000) / 5_000) + 0.01)], smooth=True)
    drawn = [tuple(map(float, pair.split(","))) for pair in re.findall(r"(?<=[ \"])[\d.]+,[\d.]+(?=[ \"])", svg)]
    assert len(drawn) == 2 * 300
    assert all(0 <= x <= 460 and 0 <= y <= 250 for x, y in drawn)
    assert drawn[0][1] < drawn[-1][1], "a falling loss goes down the picture"
    assert "(log)" in svg


@pytest.mark.parametrize("value", [0.0, 1.0, 3e-7])
def test_a_constant_curve_has_an_axis(value):
    svg = line_chart("lr", [series("run", np.full(5, value))])
    assert "nan" not in svg
    assert svg.count("<line ") >= 3


def test_non_finite_points_are_left_out():
    svg = line_chart("loss", [series("run", np.array([0.5, np.nan, 0.4]))], smooth=True)
    assert svg.count("<polyline") == 2
    assert not re.search(r'points="[^"]*(nan|inf)', svg)
    assert "<circle" in line_chart("loss", [series("run", np.array([0.5]))])
    assert line_chart("loss", [series("run", np.array([np.nan]))]) == ""


def test_lines_carry_their_names_and_values():
    svg = line_chart("loss", [series(NASTY, np.array([1.5, 0.25])), series("b", np.ones(2), 3)])
    checker = Checker(svg)
    values = [json.loads(value) for name, value in checker.attributes if name == "data-points"]
    assert values[0] == [[0.0, 1.5], [1.0, 0.25]]
    assert [value for name, value in checker.attributes if name == "data-name"] == [NASTY, "b"]
    assert 'class="s3"' in svg
    assert "img" not in checker.tags


def write_log(path: Path, lines: list[dict]) -> Run:
    path.mkdir()
    (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Run(path)


def test_throughput_leaves_out_pauses_and_memory_is_in_gigabytes(tmp_path):
    lines = [{"step": n, "epoch": 0, "loss": 1 / n, "lr": 1e-3, "clips": 32, "seconds": n * 0.5} for n in range(1, 41)]
    for line in lines[20:]:
        line["seconds"] += 3600  # interrupted, and resumed an hour later
    lines[9]["host_bytes"] = lines[19]["host_bytes"] = 1_500_000_000
    curves = read_curves(write_log(tmp_path / "run", lines))
    np.testing.assert_allclose(curves.throughput[1], 64, rtol=1e-6)
    np.testing.assert_array_equal(curves.memory["host"], [[10, 20], [1.5, 1.5]])
    assert draw_curves([("run", curves)]).count("<svg") == 4


def test_a_run_without_steps_shows_the_command(tmp_path):
    assert read_curves(write_log(tmp_path / "run", [])) is None
    html = draw_curves([("run", None)], command="smae pretrain --resume")
    assert "smae pretrain --resume" in Checker(html).text
    assert "<span>--resume</span>" in html, "a line does not end inside it"
