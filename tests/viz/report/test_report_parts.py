"""The parts of a report: true to the numbers, safe against the text put in, small however much there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from smae.errors import DataError
from smae.eval.results import read_results
from smae.skeleton import NTU25
from smae.train.run_folder import Run
from smae.viz.report.charts import Series, line_chart
from smae.viz.report.confusion import confusion_chart, draw_confusion
from smae.viz.report.curves import draw_curves, read_curves
from smae.viz.report.feature_map import choose
from smae.viz.report.reconstruction_error import mean_errors, skeleton_chart
from smae.viz.report.results import draw_results, headline
from smae.viz.report.settings import draw_differences, flat
from tests.viz.report.pages import NASTY, Checker, rebuilt, result, written


def series(name: str, y: np.ndarray, slot: int = 0) -> Series:
    return Series(name, np.arange(float(len(y))), y, slot)


def test_a_long_curve_is_thinned_and_stays_inside_its_frame():
    svg = line_chart("loss", [series("run", 2 * np.exp(-np.arange(50_000) / 5_000) + 0.01)], smooth=True)
    drawn = [tuple(map(float, pair.split(","))) for pair in re.findall(r"(?<=[ \"])[\d.]+,[\d.]+(?=[ \"])", svg)]
    assert len(drawn) == 2 * 300
    assert all(0 <= x <= 460 and 0 <= y <= 250 for x, y in drawn)
    assert drawn[0][1] < drawn[-1][1], "a falling loss goes down the picture"
    assert "(log)" in svg


@pytest.mark.parametrize("value", [0.0, 1.0, 3e-7])
def test_a_level_curve_has_an_axis(value):
    svg = line_chart("lr", [series("run", np.full(5, value))])
    assert "nan" not in svg
    assert svg.count("<line ") >= 3


def test_points_that_are_not_finite_leave_a_curve_and_no_nan():
    svg = line_chart("loss", [series("run", np.array([0.5, np.nan, 0.4]))], smooth=True)
    assert svg.count("<polyline") == 2
    assert not re.search(r'points="[^"]*(nan|inf)', svg)
    assert "<circle" in line_chart("loss", [series("run", np.array([0.5]))])
    assert line_chart("loss", [series("run", np.array([np.nan]))]) == ""


def test_lines_tell_their_values_and_whose_they_are():
    svg = line_chart("loss", [series(NASTY, np.array([1.5, 0.25])), series("b", np.ones(2), 3)])
    checker = Checker(svg)
    told = [json.loads(value) for name, value in checker.attributes if name == "data-points"]
    assert told[0] == [[0.0, 1.5], [1.0, 0.25]]
    assert [value for name, value in checker.attributes if name == "data-name"] == [NASTY, "b"]
    assert 'class="s3"' in svg
    assert "img" not in checker.tags


def log(path: Path, lines: list[dict]) -> Run:
    path.mkdir()
    (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Run(path)


def test_throughput_leaves_pauses_out_and_memory_is_in_gigabytes(tmp_path):
    lines = [{"step": n, "epoch": 0, "loss": 1 / n, "lr": 1e-3, "clips": 32, "seconds": n * 0.5} for n in range(1, 41)]
    for line in lines[20:]:
        line["seconds"] += 3600  # interrupted, and resumed an hour later
    lines[9]["host_bytes"] = lines[19]["host_bytes"] = 1_500_000_000
    curves = read_curves(log(tmp_path / "run", lines), say=print)
    np.testing.assert_allclose(curves.pace[1], 64, rtol=1e-6)
    np.testing.assert_array_equal(curves.memory["host"], [[10, 20], [1.5, 1.5]])
    assert draw_curves([("run", curves)]).count("<svg") == 4


def test_a_run_without_a_step_says_how_to_get_one(tmp_path):
    assert read_curves(log(tmp_path / "run", []), say=print) is None
    assert "smae pretrain --resume" in draw_curves([("run", None)], command="smae pretrain --resume")


def test_every_number_stands_in_picture_and_table():
    results = [result("linear"), result("knn", right=0.5)]
    html = headline(results) + draw_results(results, run="runs/a", protocol="xsub")
    text = Checker(html).text
    for words in ("75.0 %", "75.0 ± 1.3", "65.0 to 85.0", "99.0", "25.0 %", "ntu60-xsub · linear, 3 seeds"):
        assert words in text
    assert "left:65.0%;width:20.0%" in html, "the interval, on a scale to 100 %"
    assert "smae eval --checkpoint runs/a --protocol xsub --mode finetune --mode semi --mode scratch" in text


def test_without_results_the_page_says_how_to_get_them():
    html = draw_results([], run="runs/a", protocol="xsub")
    assert "smae eval --checkpoint runs/a --protocol xsub --mode linear --mode knn" in html
    assert headline([]) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [{"what": "chance", "top1": 8.3}]}, r"expected a share in \[0, 1\], found 8.3"),
        ({"rows": [{"what": "chance", "top1": 0.3, "interval": [-1, 0.5]}]}, "expected a share"),
        ({"rows": []}, "found 0 rows"),
        ({"confusion": [[1]]}, r"confusion matrix of shape \(4, 4\)"),
        ({"predicted": [1]}, "are not as many"),
        ({"rows": [{"top1": 0.3}]}, "no result of smae eval"),
        ({"classes": None}, "no result of smae eval"),
    ],
)
def test_a_file_that_is_no_result_is_refused_by_name(tmp_path, change, message):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "a.json").write_text(json.dumps(written(result()) | change))
    with pytest.raises(DataError, match=message):
        read_results(Run(tmp_path), mode="reference")


def test_the_leading_result_is_the_fine_tuned_one(tmp_path):
    (tmp_path / "eval").mkdir()
    for mode in ("knn", "linear", "finetune", "strange"):
        (tmp_path / "eval" / f"{mode}.json").write_text(json.dumps(written(result(mode))))
    found = read_results(Run(tmp_path), mode="exact")
    assert [one.mode for one in found] == ["finetune", "linear", "knn", "strange"]
    assert found[0].lead.note == "on a store in reference mode"


def test_confusions_name_the_pair_and_sort_the_classes():
    matrix = np.array([[1, 3, 0], [0, 4, 0], [2, 0, 2]])
    html = draw_confusion(["A001 sit", "A002 stand", NASTY], matrix)
    checker = Checker(html)
    assert "img" not in checker.tags
    assert "A001 sit" in checker.text
    assert "3 of 4" in checker.text
    assert checker.text.index("100 %  4/4") < checker.text.index("50 %  2/4") < checker.text.index("25 %  1/4")
    told = next(json.loads(value) for name, value in checker.attributes if name == "data-matrix")
    assert told["cells"] == [[0, 0, 1], [0, 1, 3], [1, 1, 4], [2, 0, 2], [2, 2, 2]]


def test_a_confusion_of_120_classes_stays_small():
    rng = np.random.default_rng(0)
    matrix = rng.poisson(0.6, (120, 120)) + np.eye(120, dtype=np.int64) * 300
    svg = confusion_chart([f"A{n:03d} some action in words" for n in range(120)], matrix)
    assert len(svg) < 400_000
    assert svg.count("<path") <= 2 * 12


def test_errors_are_means_over_hidden_joints_alone():
    made = [rebuilt(seed=1, off=0.03), rebuilt(seed=2, off=0.05, bodies=2)]
    errors = mean_errors(made, NTU25)
    first, second = (one.hidden.sum(0) for one in made)
    total, count = 30 * first + 50 * second, first + second
    np.testing.assert_allclose(errors.joint, total.sum(0) / count.sum(0), rtol=1e-4)
    np.testing.assert_allclose(errors.frame, total.sum(1) / count.sum(1), rtol=1e-4)
    assert errors.all == pytest.approx(total.sum() / count.sum(), rel=1e-4)


def test_a_joint_that_was_never_hidden_is_drawn_and_said_so():
    made = rebuilt()
    made.hidden[:, :, 3] = False
    errors = mean_errors([made], NTU25)
    assert np.isnan(errors.joint[3])
    svg = skeleton_chart(errors, NTU25)
    assert "nan" not in svg
    assert f"{NTU25.joints[3]}: never hidden" in svg


def test_the_pose_faces_us_with_its_left_side_on_the_right():
    pose = mean_errors([rebuilt()], NTU25).pose
    left, right = np.array(NTU25.mirror).T
    across = (pose[left] - pose[right]).mean(0)
    assert across[0] > 0
    assert across[2] == pytest.approx(0, abs=1e-9)


def test_the_same_few_clips_are_chosen_every_time():
    clips = np.arange(100, 5000, 3)
    chosen = choose(clips, 1000)
    assert len(chosen) == len(set(chosen.tolist())) == 1000
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, choose(clips, 1000))
    np.testing.assert_array_equal(choose(clips[:7], 1000), clips[:7])


def test_settings_are_flat_and_only_differences_are_compared():
    one = {"config": {"seed": 0, "optim": {"lr": 1e-3, "betas": [0.9, 0.95]}}, "versions": {}, "store": {"path": "a"}}
    two = {"config": {"seed": 1, "optim": {"lr": 1e-3}}, "versions": {}, "store": {"path": "b"}}
    assert flat(one["config"]) == {"seed": "0", "optim.lr": "0.001", "optim.betas": "0.9, 0.95"}
    text = Checker(draw_differences([("one", one), (NASTY, two)])).text
    assert "seed01" in text
    assert "optim.betas0.9, 0.95-" in text
    assert "optim.lr" not in text
    assert "same settings" in draw_differences([("one", one), ("again", one)])
