"""Which results are compared, means over pre-training seeds, and differences between the settings of runs."""

from __future__ import annotations

import re

import pytest

from smae.atomic_io import write_json
from smae.errors import ConfigError
from smae.eval.results import flatten
from smae.train.run_folder import Run
from smae.viz.report.compare import (
    alike,
    comparison_page,
    differing_data,
    draw_comparable,
    draw_differences,
    methods,
)
from tests.viz.report.pages import NASTY, Checker, result


def test_only_settings_that_differ_are_compared():
    one = {"config": {"seed": 0, "optim": {"lr": 1e-3, "betas": [0.9, 0.95]}}, "versions": {}, "store": {"path": "a"}}
    two = {"config": {"seed": 1, "optim": {"lr": 1e-3}}, "versions": {}, "store": {"path": "b"}}
    assert flatten(one["config"]) == {"seed": "0", "optim.lr": "0.001", "optim.betas": "0.9, 0.95"}
    text = Checker(draw_differences(["one", NASTY], [one, two])).text
    assert "seed01" in text
    assert "optim.betas0.9, 0.95-" in text
    assert "optim.lr" not in text
    assert "same settings" in draw_differences(["one", "again"], [one, one])


def about(seed=0, **config):
    config = {"seed": seed, "protocol": "xsub", "linear": {"epochs": seed}, **config}
    return {"config": config, "store": {"fingerprint": "ab" * 32}, "versions": {}}


def of_weights(name, **changes):
    return result(checkpoint={"step": 8, "sha256": name * 32}, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"store": "cd" * 32}, "store abababab"),
        ({"parts": {"train": 80, "test": 40, "sha256": "99" * 32}}, "parts 80 / 40, 12121212"),
        ({"settings": {"epochs": 9, "lr": 0.1}}, "linear.epochs 5"),
        ({"augment": {"frames": 12, "stream": "bone"}}, "augment.stream joint"),
        ({"selection": {"also": ["best_val"], "val_subjects": 0.1}}, "selection.also –, selection.val_subjects –"),
    ],
)
def test_results_that_were_evaluated_differently_are_shown_apart_with_what_differs(changes, words):
    groups = alike([[of_weights("01")], [of_weights("02", **changes)]])
    assert [len(group) for group in groups.values()] == [1, 1]
    (warning,) = differing_data(["one", "two"], [about(), about()], groups)
    assert warning.startswith(f"evaluated in different ways, and shown apart: ntu60-xsub · linear ({words} / ")
    text = Checker(draw_comparable(["one", "two"], groups, [0, 0], [0, 1])).text
    assert f"ntu60-xsub · linear · {words}" in text
    assert not re.search(r"[+-]\d+\.\d \(", text), "no difference is given"


def test_checkpoints_and_seeds_do_not_keep_results_apart():
    groups = alike([[of_weights("01")], [of_weights("02", seed=3)]])
    assert [len(group) for group in groups.values()] == [2]
    assert differing_data(["one", "two"], [about(), about(3)], groups) == []


def test_of_a_run_the_first_of_results_evaluated_alike_counts():
    newest, older = of_weights("02"), of_weights("01", right=0.5)
    ((_, group),) = alike([[newest, older]]).items()
    assert group == [(0, newest)]


def test_seeds_of_pre_training_are_grouped_with_mean_deviation_and_paired_interval():
    runs = [about(0), about(1), about(0, mask=2), about(1, mask=2)]
    assert methods(runs) == [0, 0, 2, 2]
    results = [
        [of_weights(f"{n}{n}", right=right, seed=n % 2)] for n, right in enumerate((0.5, 0.6, 0.7, 0.8))
    ]  # fmt: skip
    text = Checker(draw_comparable(list("abcd"), alike(results), methods(runs), range(4))).text
    assert "a, pre-training seeds 0, 1255.0 ± 7.1" in text
    found = re.search(r"c, pre-training seeds 0, 1275\.0 ± 7\.1.*?\+20\.0 \(\+(\d+\.\d) to \+(\d+\.\d)\)", text)
    low, high = map(float, found.groups())
    assert 5 < low < 20 < high < 35
    assert ", pre-training seed" not in Checker(draw_comparable(list("abcd"), alike(results), range(4), range(4))).text


@pytest.mark.parametrize(("count", "masks", "slots"), [(8, 8, 8), (12, 4, 4), (24, 8, 8), (9, 9, 0)])
def test_more_runs_than_colours_are_shown_if_they_are_seeds_of_few_methods(tmp_path, count, masks, slots):
    runs = [Run(tmp_path / f"run-{number}") for number in range(count)]
    for number, run in enumerate(runs):
        write_json(run.path / "run.json", {"version": 1, "device": {}, **about(number // masks, mask=number % masks)})
    if not slots:
        with pytest.raises(ConfigError, match="9 runs of 9 methods: expected 8 runs at most"):
            comparison_page(runs)
        return
    listed = re.findall(r'<li class="s(\d+)">', comparison_page(runs))
    assert (len(listed), len(set(listed))) == (2 * count, slots)
