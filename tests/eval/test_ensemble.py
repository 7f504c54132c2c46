"""Ensembles: the weighted mean of softmaxes, by a loop, and runs that cannot be joined."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from safetensors.numpy import save_file

from smae.errors import ConfigError, DataError
from smae.eval.ensemble import ensemble
from smae.train.run_folder import Run

LABEL = [0, 1, 2, 1, 0, 2, 2, 1]


def write(folder, *, seed, **changes):
    run = Run(folder)
    run.results.mkdir(parents=True)
    test = np.arange(10, 18)
    logits = np.random.default_rng(seed).normal(size=(8, 3)).astype(np.float32) * 3
    result = {
        "protocol": "ntu60-xsub",
        "store": "ab",
        "classes": ["A", "B", "C"],
        "test": test.tolist(),
        "label": LABEL,
    }
    (run.results / "ntu60-xsub-linear.json").write_text(json.dumps(result | changes))
    save_file({"logits": logits, "test": test}, run.results / "ntu60-xsub-linear.safetensors")
    return run, logits


def naive(several, weights):
    predicted = []
    for clip in range(8):
        total = [0.0, 0.0, 0.0]
        for logits, weight in zip(several, weights, strict=True):
            row = [math.exp(float(value)) for value in logits[clip]]
            for kind in range(3):
                total[kind] += weight * row[kind] / sum(row)
        predicted.append(max(range(3), key=total.__getitem__))
    return predicted


@pytest.mark.parametrize("weights", [(), (1.0, 1.0, 0.2), (1.0, 0.0, 0.0)])
def test_it_is_the_mean_of_softmaxes(tmp_path, weights):
    runs, logits = zip(*(write(tmp_path / str(seed), seed=seed) for seed in range(3)), strict=True)
    found = ensemble(runs, protocol="xsub", mode="linear", weights=weights)
    assert found.predicted.tolist() == naive(logits, weights or (1, 1, 1))
    alone = [float((rows.argmax(1) == LABEL).mean()) for rows in logits]
    assert [row.top1 for row in found.rows] == [*alone, float((found.predicted == LABEL).mean())]


@pytest.mark.parametrize(
    ("changes", "told"), [({"store": "cd"}, "its store"), ({"classes": ["A", "B", "D"]}, "its classes")]
)
def test_runs_that_were_judged_on_other_clips_are_refused(tmp_path, changes, told):
    runs = [write(tmp_path / "a", seed=0)[0], write(tmp_path / "b", seed=1, **changes)[0]]
    with pytest.raises(DataError, match=told):
        ensemble(runs, protocol="xsub", mode="linear")


def test_what_is_missing_is_told(tmp_path):
    run, _ = write(tmp_path / "a", seed=0)
    with pytest.raises(ConfigError, match="two runs or more"):
        ensemble([run], protocol="xsub", mode="linear")
    with pytest.raises(ConfigError, match="expected 2 numbers"):
        ensemble([run, run], protocol="xsub", mode="linear", weights=[1.0])
    with pytest.raises(DataError, match=r"smae eval --checkpoint .* --protocol xsub --mode finetune"):
        ensemble([run, run], protocol="xsub", mode="finetune")
