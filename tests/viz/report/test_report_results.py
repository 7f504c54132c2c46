"""Results and confusion matrices on the page: all numbers, the commands for missing ones, size."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from smae.atomic_io import write_json
from smae.eval.results import Result, read_results
from smae.train.run_folder import Run
from smae.viz.report.page import PageSection, is_tables, render, table, write_tables
from smae.viz.report.results import (
    confusion_chart,
    draw_confusion,
    draw_results,
    headline,
    provenance,
    results_table,
)
from tests.eval.evaluated import record_json
from tests.viz.report.pages import NASTY, Checker, result


def test_every_number_is_in_chart_and_table():
    results = [result("linear", seeds=3), result("knn", right=0.5)]
    html = headline(results) + draw_results(results, Path("runs/a"), "xsub")
    text = Checker(html).text
    for words in ("75.0 %", "75.0 ± 0.0", "99.0", "25.0 %", "ntu60-xsub · linear, 3 seeds", "most frequent class"):
        assert words in text
    assert html.count("<table") == 1, "no number is in two tables"
    assert "smae eval --run runs/a --protocol xsub --probe finetune --probe semi --probe scratch" in text


def test_each_result_has_the_settings_and_the_origin_of_its_own_record():
    one, two = result(settings={"epochs": 5}), result(settings={"epochs": 9}, commit="def+", warnings=["not clean"])
    text = Checker(draw_results([one, two], Path("runs/a"), "xsub")).text
    for words in (
        "ntu60-xsub · linear · linear.epochs 5",
        "ntu60-xsub · linear · linear.epochs 9",
        "augmentation: frames 12, stream joint",
        "checkpoint step 8, 34343434, store abababab",
        "2026-01-02 03:04 UTC · commit def+ · smae 0.1.0 · cpu · smae eval --probe linear",
        "ntu60-xsub: not clean",
        "the first one counts: the run's own store first",
    ):
        assert words in text
    mixed = Result((one.records[0], result(seed=1, commit="def").records[0]))
    assert [line.split(" · ")[1] for line in provenance(mixed)[2:]] == ["commit abc", "commit def"]
    assert len(provenance(result(seeds=3))) == 3, "one command, one line"
    assert "linear.epochs 5" not in Checker(results_table([one], ["x"])).text.split("selection")[1]


def test_without_results_the_command_is_shown():
    html = draw_results([], Path("runs/a"), "xsub")
    assert "smae eval --run runs/a --protocol xsub --probe linear --probe knn" in Checker(html).text
    assert headline([]) == ""


def test_the_fine_tuned_result_comes_first(tmp_path):
    plain = {"version": 1, "config": {}, "store": {"fingerprint": "cd" * 32}, "versions": {}, "device": {}}
    write_json(tmp_path / "run.json", plain)
    for mode in ("knn", "linear", "finetune", "strange"):
        write_json(tmp_path / "eval" / f"{mode}.json", record_json(mode=mode, seen_in_training=3))
    found = read_results(Run(tmp_path))
    assert [one.mode for one in found] == ["finetune", "linear", "knn", "strange"]
    assert found[0].notes == (
        "on another store, abababab, in reference mode", "3 test clips were seen in pre-training"
    )  # fmt: skip


def test_every_table_of_a_page_is_written_as_csv_and_latex(tmp_path):
    results = [result("linear", seeds=2), result("knn", right=0.5, settings={"k": 1})]
    body = draw_results(results, Path("runs/a"), "xsub") + table(("a_b", "50 %"), [('x, "y"', "1 & 2")])
    write_tables(render("x", head="", sections=[PageSection("results", "Results", body)]), tmp_path / "tables")
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == [
        f"results-{number}.{kind}" for number in (1, 2) for kind in ("csv", "tex")
    ]
    read = [
        list(csv.reader((tmp_path / "tables" / f"results-{number}.csv").read_text().splitlines())) for number in (1, 2)
    ]
    assert read[0][0] == ["", "in per cent", "top-1", "95 %", "mean class", "top-5"]
    assert read[0][1][:3] == ["ntu60-xsub · linear, 2 seeds", "pre-trained encoder", "75.0 ± 0.0"]
    assert read[1] == [["a_b", "50 %"], ['x, "y"', "1 & 2"]]
    tex = (tmp_path / "tables" / "results-2.tex").read_text().splitlines()
    assert tex[0] == r"\begin{tabular}{ll}"
    assert tex[2] == r"a\_b & 50 \% \\"
    assert tex[4] == r'x, "y" & 1 \& 2 \\'
    assert is_tables(tmp_path / "tables")
    (tmp_path / "tables" / "mine.txt").write_text("")
    assert not is_tables(tmp_path / "tables")


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
