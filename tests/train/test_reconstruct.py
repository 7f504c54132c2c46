"""Masked reconstruction: the loss is the loop of its definition; previews show what was seen; settings that clash."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from smae.errors import ConfigError
from smae.models import patchify
from smae.models.encoders import decoders
from smae.models.masking import maskings
from smae.skeleton import NTU25
from smae.testing import check_objective
from smae.testing.models import small_batch, small_builder
from smae.train.config import FAMILIES
from smae.train.objectives import Objective, objectives
from smae.train.objectives.reconstruct import motion
from tests.oracles import models, targets

BATCH = small_batch(NTU25, frames=24, clips=2)
BUILT_IN = ("skeletonmae", "mae", "mamp")


def make(name="skeletonmae", *, decoder="cross", masking=None, **settings):
    torch.manual_seed(0)
    shop = small_builder(masking=masking)
    config = decoders.get(decoder).Config(name=decoder, dim=16, depth=1, heads=2)
    cls = objectives.get(name)
    return cls(cls.Config(**settings), replace(shop, decoder_config=config))


def loss_of(objective, batch, *, epoch=0):
    with torch.no_grad():
        return float(objective(batch, replace(batch, epoch=epoch).noise(0)).loss)


@pytest.mark.parametrize("name", FAMILIES["objective"].names())
def test_every_objective_keeps_the_contract(name):
    check_objective(objectives.get(name))


@pytest.mark.parametrize("name", sorted({*maskings.names()} - {"none"}))
def test_every_masking_trains_the_default_objective(name):
    config = maskings.get(name).Config(name=name, **({"length": 2} if name in ("tube", "body-part") else {}))
    output = make(masking=config)(BATCH, BATCH.noise(0))
    assert bool(output.loss.isfinite())


@pytest.mark.parametrize("normalise", ["token", "clip", "movement", "body", "none"])
@pytest.mark.parametrize(("name", "decoder"), [("skeletonmae", "self"), ("mamp", "cross")])
def test_the_loss_is_the_loop_of_its_definition(name, decoder, normalise):
    objective = make(name, decoder=decoder, normalise=normalise).double()
    batch = replace(BATCH, x=BATCH.x[:2].double(), clip=BATCH.clip[:2], body=BATCH.body[:2])
    mask = objective.masking(patchify(batch.x, objective.grid), replace(batch, epoch=0).noise(0))
    wanted = motion(batch.x) if name == "mamp" else batch.x
    tokens = [targets.target(models.f64(x), patch=4, normalise=normalise) for x in wanted]
    predicted = models.f64(objective.reconstruct(batch.x, mask)[0])
    expected = targets.loss(predicted, tokens, mask.hide.tolist())
    # The error is squared in float32, in any precision of the model.
    assert loss_of(objective, batch) == pytest.approx(expected, rel=1e-6)


def test_mamp_is_motion_and_the_others_are_coordinates():
    assert [make(name).config.target for name in BUILT_IN] == ["coordinates", "coordinates", "motion"]


def test_part_of_the_hidden_tokens_costs_less_and_is_unbiased():
    whole, part = make(), make(predict=0.25)
    part.load_state_dict(whole.state_dict())
    asked = []
    part.decoder.register_forward_hook(lambda module, args, out: asked.append(out.shape[1]))
    losses = [loss_of(part, BATCH, epoch=epoch) for epoch in range(40)]
    exact = [loss_of(whole, BATCH, epoch=epoch) for epoch in range(40)]
    assert set(asked) == {round(0.25 * 105)}
    assert sum(losses) / 40 == pytest.approx(sum(exact) / 40, rel=0.03)


def test_a_part_of_the_hidden_tokens_needs_the_cross_decoder():
    with pytest.raises(ConfigError, match=r"objective\.predict=0\.5 needs decoder\.name=cross"):
        make(decoder="self", predict=0.5)


@pytest.mark.parametrize("normalise", ["token", "clip", "movement", "body", "none"])
def test_a_preview_replaces_hidden_joints_alone(normalise):
    objective = make(normalise=normalise)
    preview = objective.preview(BATCH, BATCH.noise(0))
    mask = objective.masking(patchify(BATCH.x, objective.grid), BATCH.noise(0))
    hidden = mask.hidden.reshape(3, 6, 1, 25).expand(3, 6, 4, 25).reshape(3, 24, 25)
    assert torch.equal(preview.hidden, hidden)
    assert torch.allclose(preview.rebuilt[~hidden], BATCH.x[~hidden], atol=1e-5)
    assert not torch.allclose(preview.rebuilt[hidden], BATCH.x[hidden], atol=1e-2)


def test_a_perfect_guess_rebuilds_the_clip():
    objective = make(normalise="token")
    target = objective._target(BATCH.x)
    objective.reconstruct = lambda x, mask: (target.tokens.gather(1, mask.hide[..., None].expand(-1, -1, 12)), x)
    assert loss_of(objective, BATCH) == 0
    assert torch.allclose(objective.preview(BATCH, BATCH.noise(0)).rebuilt, BATCH.x, atol=1e-5)


def test_of_motion_the_mask_alone_is_shown():
    objective = make("mamp")
    preview = objective.preview(BATCH, BATCH.noise(0))
    assert preview.rebuilt is None
    mask = objective.masking(patchify(BATCH.x, objective.grid), BATCH.noise(0))
    assert int(preview.hidden.sum()) == 4 * mask.hide.numel(), "a token is four frames of a joint"


def test_absent_bodies_are_not_counted():
    objective = make()
    alone = replace(BATCH, x=BATCH.x[2:], clip=torch.tensor([0]), body=BATCH.body[2:], index=BATCH.index[1:])
    pair = replace(BATCH, x=BATCH.x[:2], clip=BATCH.clip[:2], body=BATCH.body[:2], index=BATCH.index[:1])
    one, two, both = (loss_of(objective, batch) for batch in (alone, pair, BATCH))
    assert both == pytest.approx((one + 2 * two) / 3, rel=1e-5)


def test_an_objective_that_forgets_its_duty_says_so():
    with pytest.raises(TypeError, match="must define forward"):
        Objective()(BATCH, BATCH.noise(0))
