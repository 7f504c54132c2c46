"""S-JEPA: the loss is the loop of its definition, the teacher follows in closed form, and collapse can be seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from smae.models import patchify
from smae.models.encoders import encoders
from smae.skeleton import NTU25
from smae.testing import check_objective
from smae.testing.models import small_batch, small_builder
from smae.train.objectives import objectives
from tests.oracles import models

BATCH = small_batch(NTU25, frames=24, clips=2)


def make(builder=None, **settings):
    torch.manual_seed(0)
    cls = objectives.get("s-jepa")
    return cls(cls.Config(**settings), builder or small_builder())


def stt_builder():
    config = encoders.get("sttformer").Config(name="sttformer", dim=16, heads=2, patch=6)
    return replace(small_builder(), encoder_config=config)


def naive(guess, wanted, *, normalise, beta):
    """Mean over tokens and numbers of the smooth L1 distance, one number after another."""
    total, count = 0.0, 0
    for said, target in zip(guess, wanted, strict=True):
        mean = sum(target) / len(target)
        spread = math.sqrt(sum((value - mean) ** 2 for value in target) / len(target) + 1e-5)
        for number, value in enumerate(target):
            apart = abs(said[number] - ((value - mean) / spread if normalise == "token" else value))
            total += 0.5 * apart**2 / beta if apart < beta else apart - 0.5 * beta
            count += 1
    return total / count


@pytest.mark.parametrize("beta", [1.0, 0.1])
@pytest.mark.parametrize("normalise", ["token", "none"])
def test_the_loss_is_the_loop_of_its_definition(normalise, beta):
    objective = make(normalise=normalise, beta=beta)
    objective.teacher.load_state_dict(encoder_like(objective))
    batch = replace(BATCH, x=BATCH.x[:2], clip=BATCH.clip[:2], body=BATCH.body[:2], index=BATCH.index[:1])
    mask = objective.masking(patchify(batch.x, objective.grid), batch.noise(0))
    guess = models.f64(objective.decoder(objective.encoder(batch.x, mask), mask))
    taught = [models.encode(objective.teacher, x, list(range(150))) for x in batch.x]
    wanted = [rows[hide] for rows, hide in zip(taught, mask.hide, strict=True)]
    expected = naive(np.concatenate(guess).tolist(), np.concatenate(wanted).tolist(), normalise=normalise, beta=beta)
    output = objective(batch, batch.noise(0))
    assert float(output.loss.detach()) == pytest.approx(expected, rel=1e-4)
    assert guess.shape[2] == objective.encoder.dim


def encoder_like(objective):
    """Weights of the teacher's shape that differ from the encoder's."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: value + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in objective.teacher.state_dict().items()
    }


def test_the_teacher_is_the_moving_average_of_the_encoder():
    objective, share = make(momentum=0.9), [0.25, 0.5, 1.0]
    held = {name: value.clone().double() for name, value in objective.teacher.named_parameters()}
    for step, progress in enumerate(share):
        for parameter in objective.encoder.parameters():
            parameter.data.add_(0.1 * (step + 1))
        objective.after_step(progress)
        stays = 0.9 + 0.1 * progress
        for name, value in objective.encoder.named_parameters():
            held[name] = stays * held[name] + (1 - stays) * value.detach().double()
    for name, value in objective.teacher.named_parameters():
        assert torch.allclose(value.double(), held[name], atol=1e-6)
        assert not value.requires_grad


def test_no_gradient_flows_into_the_teacher_and_training_leaves_it_in_evaluation():
    objective = make().train()
    objective(BATCH, BATCH.noise(0)).loss.backward()
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())
    assert all(parameter.grad is not None for parameter in objective.encoder.parameters())
    assert not objective.teacher.training


def test_it_keeps_the_contract_with_both_encoders():
    check_objective(objectives.get("s-jepa"), builder=stt_builder())
    objective = make(stt_builder()).train()
    objective(BATCH, BATCH.noise(0))
    objective.after_step(0.5)
    for held, now in zip(objective.teacher.buffers(), objective.encoder.buffers(), strict=True):
        assert torch.equal(held, now), "running statistics are the encoder's own"


def test_a_collapsed_teacher_shows_in_its_spread():
    objective = make(normalise="none")
    healthy = float(objective(BATCH, BATCH.noise(0)).metrics["teacher-spread"])
    for parameter in objective.teacher.norm.parameters():
        parameter.data.zero_()
    assert float(objective(BATCH, BATCH.noise(0)).metrics["teacher-spread"]) == 0 < healthy


def test_the_mask_alone_is_shown():
    preview = make().preview(BATCH, BATCH.noise(0))
    assert preview.rebuilt is None
    assert preview.hidden.shape == BATCH.x.shape[:3]
    assert 0 < preview.hidden.float().mean() < 1
