"""Methods from parts: every combination that makes sense is reached by settings, one that does not is refused."""

from __future__ import annotations

import itertools

import pytest
import torch

from smae.config import merge
from smae.errors import EXIT_USAGE, ConfigError, Interrupted
from smae.skeleton import NTU25
from smae.testing.models import small_batch
from smae.train.checkpoint import load_latest
from smae.train.config import FAMILIES, build_config, build_objective
from smae.train.run_folder import Run
from tests.fakes import FakeStore
from tests.train.small import SETTINGS, run_through, small_config, small_loop

BATCH = small_batch(NTU25, frames=12)
ENCODERS = {
    "vit": SETTINGS["encoder"],
    "sttformer": {"name": "sttformer", "dim": 16, "heads": 2, "patch": 4},
    "ctrgcn": {"name": "ctrgcn", "dim": 32},
    "graph": {"name": "graph", "dim": 16, "depth": 1, "patch": 4},
    "slim": {"name": "slim", "dim": 16, "depth": 1, "heads": 2, "patch": 4},
}


def build(**sections):
    return build_objective(build_config(merge(SETTINGS, sections)), NTU25)


def test_all_built_in_encoders_are_tried():
    assert set(ENCODERS) == set(FAMILIES["encoder"].names())


@pytest.mark.parametrize(
    ("objective", "encoder", "decoder"),
    list(itertools.product(FAMILIES["objective"].names(), ENCODERS, FAMILIES["decoder"].names())),
)
def test_objectives_encoders_and_decoders_go_together(objective, encoder, decoder):
    made = build(
        objective={"name": objective}, encoder=ENCODERS[encoder], decoder={**SETTINGS["decoder"], "name": decoder}
    )
    batch = small_batch(NTU25, frames=12, views=made.views)
    loss = made(batch, batch.noise(0)).loss
    loss.backward()
    assert bool(loss.isfinite())


@pytest.mark.parametrize("encoder", ENCODERS)
def test_part_of_the_hidden_tokens_can_be_predicted_with_every_encoder(encoder):
    made = build(objective={"predict": 0.4}, encoder=ENCODERS[encoder])
    with torch.no_grad():
        assert bool(made(BATCH, BATCH.noise(0)).loss.isfinite())


@pytest.mark.parametrize("masking", sorted({*FAMILIES["masking"].names()} - {"none"}))
def test_maskings_go_with_tuples(masking):
    settings = {"name": masking} | ({"length": 3} if masking in ("tube", "body-part") else {})
    made = build(masking=settings, encoder=ENCODERS["sttformer"])
    assert bool(made(BATCH, BATCH.noise(0)).loss.isfinite())


@pytest.mark.parametrize("normalise", ["token", "clip", "none"])
@pytest.mark.parametrize("target", ["coordinates", "motion"])
def test_targets_and_their_scales_go_together(target, normalise):
    made = build(objective={"target": target, "normalise": normalise})
    with torch.no_grad():
        assert bool(made(BATCH, BATCH.noise(0)).loss.isfinite())


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"objective": {"target": "motion"}, "augment": {"stream": "motion"}}, "gives the encoder already"),
        ({"objective": {"name": "mamp"}, "augment": {"stream": "motion"}}, "gives the encoder already"),
        ({"objective": {"name": "mamp", "target": "coordinates"}}, "mamp is the prediction of motion"),
        ({"objective": {"predict": 0.5}, "decoder": {"name": "self"}}, r"needs decoder\.name=cross"),
        (
            {"objective": {"normalise": "clip"}, "augment": {"frames": 1, "min_frames": 1}, "encoder": {"patch": 1}},
            r"augment\.frames=1 leaves none",
        ),
        ({"masking": {"name": "motion-aware"}, "encoder": {"patch": 12}}, "needs two time patches"),
        ({"masking": {"name": "spatial-temporal", "keep_frames": 1, "keep_joints": 1}}, "would hide nothing"),
        ({"encoder": {"name": "sttformer", "dim": 24}}, r"encoder\.dim: input should be a multiple of 16"),
        ({"encoder": {"name": "sttformer", "dim": 16, "patch": 5}}, r"encoder\.patch=5"),
        ({"encoder": {"name": "graph", "patch": 3}}, r"encoder\.patch: input should be 1, 2 or 4"),
        ({"encoder": {"name": "graph", "dim": 32, "patch": 4, "share": 3}}, r"encoder\.share=3 does not divide"),
        ({"objective": {"name": "s-jepa", "normalise": "clip"}}, r"objective\.normalise: input should be 'token'"),
        ({"encoder": {"dim": 18, "heads": 4}}, "choose a multiple of 4"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(sections, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        build(**sections)
    assert caught.value.exit_code == EXIT_USAGE == 2


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_teacher_and_running_statistics_resume_exactly(tmp_path, encoder):
    config = small_config(objective={"name": "s-jepa"}, encoder=ENCODERS[encoder], train={"epochs": 2, "batch": 4})
    store = FakeStore.toy(clips=18, classes=3, seed=0)
    whole = small_loop(store, Run(tmp_path / "whole"), config)
    run_through(whole)
    first = small_loop(store, Run(tmp_path / "parts"), config)
    with pytest.raises(Interrupted):
        run_through(first, stop_at=2)
    second = small_loop(store, first.run, config)
    second.resume(load_latest(first.run.checkpoints))
    run_through(second)
    for name, value in whole.objective.state_dict().items():
        assert torch.equal(value, second.objective.state_dict()[name]), name
