"""Optimiser groups and the schedule, at its corners and wherever it is resumed."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from smae.train.optim import adamw, parameter_groups, resume_schedule, warmup_cosine


@pytest.fixture
def module():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    net[2].bias.requires_grad_(False)
    return net


def scheduled(*, steps=100, warmup=10, floor=0.5, lr=0.2):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    return optimizer, warmup_cosine(optimizer, steps=steps, warmup=warmup, floor=floor)


def rates(count, **settings):
    optimizer, schedule = scheduled(**settings)
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_matrices_decay_and_vectors_do_not(module):
    optimizer = adamw(module, lr=1e-3, weight_decay=0.05)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    expected = {id(p): 0.05 if p.ndim > 1 else 0.0 for p in module.parameters() if p.requires_grad}
    assert decay == expected
    assert len(optimizer.param_groups) == 2


def test_frozen_parameters_are_left_out(module):
    groups = parameter_groups(module.named_parameters(), lr=1, weight_decay=0, scale=lambda name: 1.0)
    assert all(p.requires_grad for group in groups for p in group["params"])
    assert sum(len(group["params"]) for group in groups) == 5


def test_learning_rates_are_scaled_by_name(module):
    groups = parameter_groups(
        module.named_parameters(), lr=2.0, weight_decay=0.1, scale=lambda name: 0.5 if name.startswith("0.") else 1.0
    )
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert [rate[id(p)] for p in module[0].parameters()] == [1.0, 1.0]
    assert [rate[id(p)] for p in module[1].parameters()] == [2.0, 2.0]


def test_the_schedule_warms_up_and_falls_as_a_cosine():
    found = rates(101)
    assert found[0] == pytest.approx(0.2 / 11)
    assert found[9] == pytest.approx(0.2 * 10 / 11)
    assert found[10] == pytest.approx(0.2)
    assert found[55] == pytest.approx(0.2 * 0.75)
    assert found[100] == pytest.approx(0.1)
    assert all(a < b for a, b in pairwise(found[:11]))
    assert all(a > b for a, b in pairwise(found[10:]))
    assert found[33] == pytest.approx(0.2 * (0.5 + 0.25 * (1 + math.cos(math.pi * 23 / 90))))


@pytest.mark.parametrize(("steps", "warmup"), [(1, 20), (2, 20), (3, 0), (1, 0)])
def test_short_runs_have_a_schedule_too(steps, warmup):
    found = rates(steps, steps=steps, warmup=warmup)
    assert all(0 < rate <= 0.2 for rate in found)
    assert found[-1] == pytest.approx(0.2) if warmup or steps == 1 else found[0] == pytest.approx(0.2)


@pytest.mark.parametrize("step", [0, 1, 9, 10, 11, 57, 99, 100])
def test_a_resumed_schedule_goes_on_with_the_very_same_rates(step):
    expected = rates(103)
    optimizer, schedule = scheduled()
    resume_schedule(schedule, step)
    found = []
    for _ in range(3):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert found == expected[step : step + 3]
