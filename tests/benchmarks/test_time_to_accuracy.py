"""Time to accuracy: every method trains and is evaluated alike, the plain loop through the same probes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import time_to_accuracy as bench
from smae.data.prepare.run import prepare
from smae.data.store import Store, open_store
from smae.data.synthetic.synth import synthesise

SMALL = {
    "encoder.dim": 16,
    "encoder.depth": 1,
    "encoder.heads": 2,
    "decoder.dim": 16,
    "decoder.heads": 2,
    "train.batch": 8,
    "linear.epochs": 2,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    work = tmp_path_factory.mktemp("time-to-accuracy")
    synthesise(work / "raw", seed=3, actions=3, subjects=4, cameras=1, replications=1)
    prepare(work / "raw", work / "ntu.zarr", executor="inline", missing_list=False)
    return open_store(work / "ntu.zarr")


@pytest.mark.parametrize("name", [*bench.METHODS, bench.PLAIN])
def test_each_method_takes_steps_that_change_the_evaluated_encoder(store: Store, name: str) -> None:
    trainer = bench.trainers(store, "xsub", settings=SMALL)[name](4)
    before = {key: value.clone() for key, value in trainer.encoder.state_dict().items()}
    for _ in range(2):
        next(trainer.steps)
    after = trainer.encoder.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert all(value.isfinite().all() for value in after.values())


def test_points_come_by_minute_and_fill_picture_and_page(store: Store, tmp_path: Path) -> None:
    makes = bench.trainers(store, "xsub", settings=SMALL)
    points = [bench.raw(store, "xsub", bench.resolve("nw-ucla", {**bench.PROBE, **SMALL}))]
    for name in ("SimCLR", bench.PLAIN):
        own = list(bench.train(name, makes[name], store, "xsub", minutes=0.02, every=0.01))
        assert len(own) == 2
        assert 0.01 <= own[0].minutes < own[1].minutes
        assert 0 < own[0].steps <= own[1].steps
        points += own
    assert all(0 <= point.linear <= 1 and 0 <= point.knn <= 1 for point in points)
    bench.draw(tmp_path / "picture.png", points, title="synthetic")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    text = bench.page(points, {"processor": "one"}, ["about"], "picture.png")
    assert f"| {bench.PLAIN} |" in text
    assert json.loads(json.dumps([bench.asdict(one) for one in points]))[0]["method"] == "raw coordinates"
