"""Probes and features of any module: the very figures of ``smae eval``, checks, and scikit-learn's interface."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import smae
from smae.config import as_settings
from smae.errors import ConfigError, DataError
from smae.eval.export import load_trained
from smae.eval.modules import Embedder, whole_clips
from smae.eval.records import CHANCE, MOST_FREQUENT, RAW
from smae.testing.models import small_batch
from smae.train.config import Linear, build_config
from tests.eval import evaluated

FAST = {"linear.epochs": 2, "augment.frames": 12, "augment.min_frames": 8}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return evaluated.train(tmp_path_factory.mktemp("modules") / "run")


@pytest.fixture(scope="module")
def trained(run):
    config, objective, _ = load_trained(run, evaluated.STORE.layout, settings={"linear.epochs": 2})
    return config, objective.encoder


class Wrapped(nn.Module):
    """An encoder of smae behind the interface of other people's: [B, C, T, V, M] to [B, D]."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        items = x.permute(0, 4, 2, 3, 1)
        there = items.flatten(2).any(-1)
        tokens = self.encoder(items[there]).mean(1)
        clip = torch.arange(len(x))[:, None].expand_as(there)[there]
        sums = torch.zeros(len(x), tokens.shape[1]).index_add_(0, clip, tokens)
        return sums / there.sum(1, keepdim=True)


def test_a_run_is_an_encoder_with_the_clips_it_was_trained_on(run, trained):
    config, encoder = trained
    wanted = smae.knn_probe(encoder, evaluated.STORE, "all", settings=config, baselines=False, device="cpu")
    found = smae.knn_probe(run.path, evaluated.STORE, "all", baselines=False, device="cpu")
    assert found.rows[0].what == str(run.path)
    assert found.scores.predicted.tolist() == wanted.scores.predicted.tolist()
    with pytest.raises(DataError, match="no run there"):
        smae.knn_probe("runs/nowhere", evaluated.STORE, "all")


@pytest.mark.parametrize("mode", ["linear", "knn"])
@pytest.mark.parametrize("outside", [False, True])
def test_our_own_encoder_gets_the_very_figures_of_smae_eval(run, trained, mode, outside):
    config, encoder = trained
    wanted = evaluated.check(run, mode)
    probe = {"linear": smae.linear_probe, "knn": smae.knn_probe}[mode]
    found = probe(Wrapped(encoder) if outside else encoder, evaluated.STORE, "all", settings=config, device="cpu")
    mine, theirs = found.rows, [row for row in wanted.rows if row.what != "random encoder"]
    assert [row.top1 for row in mine] == [row.top1 for row in theirs]
    assert [row.what for row in mine[1:]] == [row.what for row in theirs[1:]]
    assert found.scores.predicted.tolist() == wanted.results[0].records[0].predicted.tolist()


def test_a_function_is_probed_beside_its_baselines():
    found = smae.linear_probe(lambda x: x.mean((2, 4)).flatten(1), evaluated.STORE, "all", settings=FAST, device="cpu")
    assert [row.what for row in found.rows] == ["<lambda>", RAW, CHANCE, MOST_FREQUENT]
    assert found.top1 == found.rows[0].top1
    assert "raw coordinates" in str(found)
    assert "&lt;lambda&gt;" in found._repr_html_()


def test_a_module_is_given_back_as_it_was():
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 12 * 25 * 2, 8))
    module[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    first, again = (smae.knn_probe(module, evaluated.STORE, "all", settings=FAST, device="cpu") for _ in range(2))
    assert first.top1 == again.top1
    assert module.training
    assert not module[1].training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (lambda x: x.mean((2, 3)), r"features \[16, D\] are expected: found Tensor \[16, 3, 2\]"),
        (lambda x: x.flatten(1)[:3], r"found Tensor \[3, 1800\]"),
        (lambda x: None, "found NoneType"),
        (lambda x: x.flatten(1) / 0, "not finite"),
        (7, "expected a module or function as encoder, found int"),
    ],
)
def test_features_of_another_shape_are_refused(encoder, message):
    with pytest.raises(ConfigError, match=message):
        smae.knn_probe(encoder, evaluated.STORE, "all", settings=FAST, device="cpu")


def test_settings_that_no_probe_reads_are_refused():
    with pytest.raises(ConfigError, match=r"knn\.k: no effect"):
        smae.linear_probe(torch.flatten, evaluated.STORE, "all", settings={"knn.k": 5}, device="cpu")


def test_clips_are_given_with_both_bodies():
    batch = small_batch(evaluated.STORE.layout, frames=8)
    x = whole_clips(batch)
    assert x.shape == (4, 3, 8, 25, 2)
    assert torch.equal(x[0, :, 2, 5, 1], batch.x[1, 2, 5])
    assert not x[1, ..., 1].any()


def test_features_come_in_the_order_of_the_clips(run):
    embedder = Embedder(run.path, device="cpu")
    everything = embedder.fit(None).transform(evaluated.STORE)
    assert everything.shape == (len(evaluated.STORE), 16)
    some = embedder.transform([evaluated.STORE.clip(n) for n in (7, 2)])
    assert np.allclose(some, everything[[7, 2]], atol=1e-5)
    with pytest.raises(ConfigError, match=r"clips must be \[M, T, 25, 3\]"):
        embedder.transform([np.zeros((4, 25, 3))])
    with pytest.raises(ConfigError, match="found str"):
        embedder.transform("ntu.zarr")


def test_it_is_a_step_of_a_pipeline(run):
    sklearn = pytest.importorskip("sklearn.pipeline", reason="scikit-learn is not installed")
    from sklearn.base import clone
    from sklearn.neighbors import KNeighborsClassifier

    clips, labels = [evaluated.STORE.clip(n) for n in range(24)], evaluated.STORE.clips.label
    pipeline = sklearn.Pipeline([("features", Embedder(run.path, device="cpu")), ("knn", KNeighborsClassifier(1))])
    assert clone(pipeline).fit(clips, labels).score(clips, labels) == 1.0


def test_parameters_are_read_and_set_as_scikit_learn_does():
    embedder = Embedder("encoder").set_params(pool="tokens", device="cpu")
    assert embedder.get_params() == {"encoder": "encoder", "pool": "tokens", "settings": None, "device": "cpu"}
    with pytest.raises(ConfigError, match="Embedder has no 'poll'"):
        embedder.set_params(poll="mean")


def test_settings_may_be_config_objects(trained):
    config, _ = trained
    assert as_settings(config) == config.model_dump()
    assert build_config(as_settings(config)) == config
    assert as_settings({"linear": Linear(epochs=7), "optim.lr": 1})["linear"]["epochs"] == 7
