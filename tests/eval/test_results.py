"""Intervals against closed forms, ensembles against a loop, the confusion figure."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from matplotlib import image as images
from safetensors.numpy import save_file

from smae.errors import ConfigError, DataError
from smae.eval.ensemble import ensemble
from smae.eval.results import bootstrap, bootstrap_difference, draw_confusion, std_over_seeds
from smae.train.run_folder import VERSION, Run
from tests.eval.evaluated import record_json

LABEL = [0, 1, 2, 1, 0, 2, 2, 1]


def write(folder, *, seed, **changes):
    run = Run(folder)
    run.results.mkdir(parents=True)
    logits = np.random.default_rng(seed).normal(size=(8, 3)).astype(np.float32) * 3
    about = {"version": VERSION, "config": {"protocol": "xsub"}, "store": {}, "versions": {}, "device": {}}
    (run.path / "run.json").write_text(json.dumps(about))
    content = record_json(label=LABEL, predicted=logits.argmax(1), seed=seed, **{"classes": ["A", "B", "C"]} | changes)
    name = f"ntu60-xsub-linear-{seed}"
    (run.results / f"{name}.json").write_text(json.dumps(content))
    save_file({"logits": logits, "test": np.array(content["test"])}, run.results / f"{name}.safetensors")
    return run.path, logits


def naive(logits_of_runs, weights):
    predicted = []
    for clip in range(8):
        total = [0.0, 0.0, 0.0]
        for logits, weight in zip(logits_of_runs, weights, strict=True):
            row = [math.exp(float(value)) for value in logits[clip]]
            for kind in range(3):
                total[kind] += weight * row[kind] / sum(row)
        predicted.append(max(range(3), key=total.__getitem__))
    return predicted


@pytest.mark.parametrize("weights", [(), (1.0, 1.0, 0.2), (1.0, 0.0, 0.0)])
def test_an_ensemble_is_the_mean_of_softmaxes(tmp_path, weights):
    runs, logits = zip(*(write(tmp_path / str(seed), seed=seed) for seed in range(3)), strict=True)
    found = ensemble(runs, probe="linear", weights=weights)
    assert found.predicted.tolist() == naive(logits, weights or (1, 1, 1))
    alone = [float((rows.argmax(1) == LABEL).mean()) for rows in logits]
    assert [row.top1 for row in found.rows] == [*alone, float((found.predicted == LABEL).mean())]


def test_an_ensemble_of_runs_that_were_evaluated_differently_says_so(tmp_path, caplog):
    runs = [write(tmp_path / str(seed), seed=seed, settings={"epochs": 5 + seed})[0] for seed in range(2)]
    ensemble(runs, probe="linear")
    assert "careful: the runs were not evaluated alike: linear.epochs 5 / linear.epochs 6" in caplog.messages
    caplog.clear()
    streams = [{"augment": {"frames": 12, "stream": stream}} for stream in ("joint", "bone")]
    runs = [write(tmp_path / f"s{seed}", seed=seed, **streams[seed])[0] for seed in range(2)]
    ensemble(runs, probe="linear")
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("changes", "message"), [({"store": "cd"}, "its store"), ({"classes": ["A", "B", "D"]}, "its classes")]
)
def test_results_on_other_clips_are_refused(tmp_path, changes, message):
    runs = [write(tmp_path / "a", seed=0)[0], write(tmp_path / "b", seed=1, **changes)[0]]
    with pytest.raises(DataError, match=message):
        ensemble(runs, protocol="xsub", probe="linear")


def test_messages_name_what_is_missing(tmp_path):
    run, _ = write(tmp_path / "a", seed=0)
    with pytest.raises(ConfigError, match="two runs or more"):
        ensemble([run], protocol="xsub", probe="linear")
    with pytest.raises(ConfigError, match="expected 2 numbers"):
        ensemble([run, run], protocol="xsub", probe="linear", weights=[1.0])
    with pytest.raises(DataError, match=r"smae eval --run .* --protocol xsub --probe finetune"):
        ensemble([run, run], protocol="xsub", probe="finetune")


def test_std_over_seeds_is_the_unbiased_standard_deviation():
    values = [0.5, 0.7, 0.9]
    mean = sum(values) / 3
    assert std_over_seeds(values) == pytest.approx((sum((value - mean) ** 2 for value in values) / 2) ** 0.5)
    assert std_over_seeds([0.5]) is None


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_interval_of_one_seed_is_binomial(share):
    right = np.arange(1000)[None] < 1000 * share
    low, high = bootstrap(right)
    width = 1.96 * (share * (1 - share) / 1000) ** 0.5
    assert low == pytest.approx(share - width, abs=0.004)
    assert high == pytest.approx(share + width, abs=0.004)


def test_seeds_that_differ_widen_the_interval_and_certainty_has_no_width():
    alike = np.tile(np.arange(200) < 100, (4, 1))
    apart = np.stack([np.arange(200) < 100 + shift for shift in (-60, -20, 20, 60)])
    assert np.subtract(*bootstrap(apart)[::-1]) > 1.3 * np.subtract(*bootstrap(alike)[::-1])
    assert bootstrap(np.ones((3, 20), bool)) == (1, 1)
    assert bootstrap(apart) == bootstrap(apart), "the same numbers every time"


def test_a_paired_difference_is_narrower_than_an_unpaired_one():
    rng = np.random.default_rng(0)
    clips, seeds = rng.uniform(size=400), rng.normal(size=(5, 1)) * 0.1
    first, second = clips + seeds < 0.5, clips + seeds < 0.55
    paired, unpaired = (bootstrap_difference(first, second, paired=paired) for paired in (True, False))
    assert 0 < paired[0] < second.mean() - first.mean() < paired[1]
    assert np.subtract(*unpaired[::-1]) > 2 * np.subtract(*paired[::-1])
    assert bootstrap_difference(first[:1], first[:1]) == (0, 0)
    assert bootstrap_difference(first[:2], second, paired=False)[0] < 0.1, "numbers of seeds may differ"


def test_a_confusion_figure_shows_shares_of_each_true_class(tmp_path):
    matrix = np.array([[3, 1], [0, 4]])
    draw_confusion(matrix, classes=["A001", "A002"], title="two of them", path=tmp_path / "a.png")
    picture = images.imread(tmp_path / "a.png")
    assert picture.shape[0] == picture.shape[1] == 480
    # Blues: the darkest is the share 1, of the lower right corner; white a share of 0.
    colours = {tuple(np.round(255 * pixel).astype(int)) for pixel in picture[::4, ::4, :3].reshape(-1, 3)}
    assert colours >= {(8, 48, 107), (247, 251, 255)}
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]
