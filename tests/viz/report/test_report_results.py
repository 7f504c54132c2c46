"""Results and confusion matrices on the page: all numbers, the commands for missing ones, size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from smae.errors import DataError
from smae.eval.results import read_results
from smae.train.run_folder import Run
from smae.viz.report.results import confusion_chart, draw_confusion, draw_results, headline
from tests.viz.report.pages import NASTY, Checker, result, result_json


def test_every_number_is_in_chart_and_table():
    results = [result("linear"), result("knn", right=0.5)]
    html = headline(results) + draw_results(results, Path("runs/a"), "xsub")
    text = Checker(html).text
    for words in ("75.0 %", "75.0 ± 1.3", "65.0 to 85.0", "99.0", "25.0 %", "ntu60-xsub · linear, 3 seeds"):
        assert words in text
    assert "left:65.0%;width:20.0%" in html, "the interval, on a scale to 100 %"
    assert "smae eval --checkpoint runs/a --protocol xsub --mode finetune --mode semi --mode scratch" in text


def test_without_results_the_command_is_shown():
    html = draw_results([], Path("runs/a"), "xsub")
    assert "smae eval --checkpoint runs/a --protocol xsub --mode linear --mode knn" in html
    assert headline([]) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [{"what": "chance", "top1": 8.3}]}, r"expected a share in \[0, 1\], found 8.3"),
        ({"rows": [{"what": "chance", "top1": 0.3, "interval": [-1, 0.5]}]}, "expected a share"),
        ({"rows": []}, "found 0 rows"),
        ({"confusion": [[1]]}, r"confusion matrix of shape \(4, 4\)"),
        ({"predicted": [1]}, "different numbers of clips"),
        ({"rows": [{"top1": 0.3}]}, "no result of smae eval"),
        ({"classes": None}, "no result of smae eval"),
    ],
)
def test_an_invalid_result_file_is_refused(tmp_path, change, message):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "a.json").write_text(json.dumps(result_json(result()) | change))
    with pytest.raises(DataError, match=message):
        read_results(Run(tmp_path), mode="reference")


def test_the_fine_tuned_result_comes_first(tmp_path):
    (tmp_path / "eval").mkdir()
    for mode in ("knn", "linear", "finetune", "strange"):
        (tmp_path / "eval" / f"{mode}.json").write_text(json.dumps(result_json(result(mode))))
    found = read_results(Run(tmp_path), mode="exact")
    assert [one.mode for one in found] == ["finetune", "linear", "knn", "strange"]
    assert found[0].lead.note == "on a store in reference mode"


def test_confusions_name_pairs_and_sort_classes():
    matrix = np.array([[1, 3, 0], [0, 4, 0], [2, 0, 2]])
    html = draw_confusion(["A001 sit", "A002 stand", NASTY], matrix)
    checker = Checker(html)
    assert "img" not in checker.tags
    assert "A001 sit" in checker.text
    assert "3 of 4" in checker.text
    assert checker.text.index("100 %  4/4") < checker.text.index("50 %  2/4") < checker.text.index("25 %  1/4")
    data = next(json.loads(value) for name, value in checker.attributes if name == "data-matrix")
    assert data["cells"] == [[0, 0, 1], [0, 1, 3], [1, 1, 4], [2, 0, 2], [2, 2, 2]]


def test_a_confusion_matrix_of_120_classes_is_small():
    rng = np.random.default_rng(0)
    matrix = rng.poisson(0.6, (120, 120)) + np.eye(120, dtype=np.int64) * 300
    svg = confusion_chart([f"A{n:03d} some action in words" for n in range(120)], matrix)
    assert len(svg) < 400_000
    assert svg.count("<path") <= 2 * 12
