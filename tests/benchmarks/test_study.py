"""Studies: rows that resolve, results that are kept and not made twice, pages that say what is in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import smae
from benchmarks.study.__main__ import main
from benchmarks.study.page import BEGIN, END, cell, tables, write_page
from benchmarks.study.results import ProbeResults, Result, Score, keep, path_of, read
from benchmarks.study.rows import Evaluation, Line, Row, Study, Table
from benchmarks.study.runner import carry_out
from benchmarks.study.studies import STUDIES
from smae.eval.records import PRETRAINED, RANDOM

TINY = Study(
    "tiny",
    "skeletonmae-cpu",
    ("train.max_steps=2", "train.batch=4", "augment.frames=12", "encoder.dim=16", "encoder.depth=1", "linear.epochs=3"),
    rows=(
        Row(
            "plain",
            (),
            (Evaluation(("linear",), baselines=2), Evaluation(("linear",), ("linear.pool=tokens",), "tokens")),
        ),
        Row("other", ("masking.name=random", "masking.keep=0.3"), (Evaluation(("knn",)),)),
    ),
    tables=(
        Table(
            "All", "Tiny.", ("linear", "linear, tokens", "knn"), (Line("plain", "plain"), Line("r", "plain", RANDOM))
        ),
    ),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    smae.synthesise(folder / "raw", actions=2, subjects=3, cameras=1, replications=1, hard=False)
    return smae.prepare(folder / "raw", folder / "tiny.zarr", executor="inline", missing_list=False).store


@pytest.fixture(scope="module")
def run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Result, list[str]]]:
    """Return what carries a row out in one folder, and gives the result and what was said."""
    folder = tmp_path_factory.mktemp("runs")

    def call(study: Study, name: str) -> tuple[Result, list[str]]:
        said: list[str] = []
        result = carry_out(
            study, study.row(name), seed=1, data=store, work=folder / "work", results=folder, say=said.append
        )
        assert read(path_of(study.name, name, 1, folder=folder)) == result
        return result, said

    return call


def test_a_row_is_trained_and_evaluated_once(run: Callable[..., tuple[Result, list[str]]]) -> None:
    first, said = run(TINY, "plain")
    assert (first.seed, first.steps, first.config["seed"]) == (1, 2, 1)
    assert None not in (first.top1("linear", PRETRAINED), first.top1("linear, tokens", PRETRAINED))
    assert first.top1("linear", RANDOM) is not None, "baselines of seeds 0 and 1"
    assert first.top1("linear, tokens", RANDOM) is None, "none are asked for"
    assert said[0].startswith("tiny plain, seed 1: linear pre-trained encoder")
    again, said = run(TINY, "plain")
    assert again == first
    assert said == ["tiny plain, seed 1: done before"]


def test_other_settings_are_another_result(run: Callable[..., tuple[Result, list[str]]]) -> None:
    run(TINY, "other")
    changed = replace(TINY, sets=(*TINY.sets, "optim.lr=2e-3"))
    result, said = run(changed, "other")
    assert "done before" not in said[-1]
    assert result.config["optim"]["lr"] == 2e-3


def test_settings_that_were_added_since_are_their_defaults(store: Path, tmp_path: Path) -> None:
    row = TINY.row("other")
    where = {"data": store, "work": tmp_path / "work", "results": tmp_path}
    first = carry_out(TINY, row, seed=0, **where, say=lambda line: None)
    path = path_of(TINY.name, row.name, 0, folder=tmp_path)
    said: list[str] = []
    del first.config["train"]["ema"], first.config["augment"]["noise"]
    keep(first, path)
    assert carry_out(TINY, row, seed=0, **where, say=said.append) == first
    assert said == ["tiny other, seed 0: done before"]
    keep(replace(first, config={**first.config, "gone": 1}), path)
    assert carry_out(TINY, row, seed=0, **where, say=said.append).config != first.config
    assert "done before" not in said[-1]


def test_another_evaluation_needs_no_training(run: Callable[..., tuple[Result, list[str]]]) -> None:
    first, _ = run(TINY, "other")
    asked = replace(
        TINY, rows=(replace(TINY.rows[1], evaluations=(Evaluation(("knn",)), Evaluation(("knn",), ("knn.k=3",), "3"))),)
    )
    result, said = run(asked, "other")
    assert not any(line.startswith("run ") for line in said), "not trained again"
    assert [one.sets for one in result.evaluated] == [(), ("knn.k=3",)]
    assert result.evaluated[0] == first.evaluated[0]


def result(row: str, seed: int, **top1: float) -> Result:
    scores = tuple(Score(mode, PRETRAINED, value) for mode, value in top1.items())
    evaluated = (ProbeResults(("linear",), (), 5.0, scores),)
    return Result(row, seed, 2, 0.5, 10.2, evaluated, {}, "ab", "c0ffee", {"cpu": "x"})


def test_a_page_shows_each_seed_and_the_command_and_keeps_what_people_wrote(tmp_path: Path) -> None:
    page = tmp_path / "tiny.md"
    page.write_text(f"# Tiny\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n")
    for seed, top1 in enumerate((0.5, 0.7)):
        keep(result("plain", seed, linear=top1), path_of("tiny", "plain", seed, folder=tmp_path))
    text = write_page(TINY, folder=tmp_path).read_text()
    assert text.startswith("# Tiny\n\nBefore.\n\n")
    assert text.endswith(f"{END}\n\nAfter.\n")
    assert "old" not in text
    assert "| plain | 2 | **60.0** ± 14.1<br>50.0 70.0 |  |  |" in text
    assert "| 10, 5 | `python -m benchmarks.study tiny --data tiny.zarr --row plain --seed 0 --seed 1` |" in text
    assert write_page(TINY, folder=tmp_path).read_text() == text


def test_a_page_without_results_says_so(tmp_path: Path) -> None:
    assert tables(TINY, folder=tmp_path).startswith("No results yet.")


@pytest.mark.parametrize(
    ("figures", "options"),
    [([], ""), ([None, None], ""), ([0.5], "50.0"), ([0.5, None, 0.6], "**55.0** ± 7.1<br>50.0 60.0")],
)
def test_a_cell_is_mean_and_spread_and_each_seed(figures: list[float | None], options: str) -> None:
    assert cell(figures) == options


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_rows_resolve_and_tables_know_their_rows(study: Study) -> None:
    names = [row.name for row in study.rows]
    assert len(set(names)) == len(names)
    configs = [study.config(row, seed=0) for row in study.rows]
    assert len({config.model_dump_json() for config in configs}) == len(configs), "each row differs from the others"
    for row in study.rows:
        for evaluation in row.evaluations:
            study.config(replace(row, sets=(*row.sets, *evaluation.sets)), seed=0)
    evaluated = {
        row.name: {evaluation.label(mode) for evaluation in row.evaluations for mode in evaluation.modes}
        for row in study.rows
    }
    for table in study.tables:
        for line in table.lines:
            assert evaluated[line.row] & {*table.modes, *(mode for _, (mode, _) in line.instead)}


def test_the_command_line_lists_rows_and_refuses_unknown_ones(tmp_path: Path) -> None:
    listed = CliRunner().invoke(main, ["nw-ucla", "--list"])
    assert [line.split()[0] for line in listed.output.splitlines()] == [row.name for row in STUDIES["nw-ucla"].rows]
    wrong = CliRunner().invoke(main, ["nw-ucla", "--row", "skeletonmea"])
    assert wrong.exit_code == 2
    assert "no such row: skeletonmea" in wrong.output
    written = CliRunner().invoke(main, ["nw-ucla", "--results", str(tmp_path)])
    assert written.exit_code == 0
    assert "No results yet." in (tmp_path / "nw-ucla.md").read_text()
