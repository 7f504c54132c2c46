"""Targets against naive loops in double precision, and the way back to metres."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smae.models import Grid, patchify
from smae.skeleton import NTU25
from smae.testing.models import bodies
from smae.train.objectives.reconstruct import make_target, motion
from tests.oracles import targets as oracle

GRID = Grid.cut(12, joints=25, patch=4)
SCALES = ("token", "clip", "movement", "body", "none")


@pytest.fixture
def x():
    return bodies(NTU25, items=2, frames=12).double() + 3


def test_motion_is_the_next_frame_minus_this_one(x):
    for item in range(2):
        assert np.array_equal(motion(x)[item].numpy(), oracle.motion(x[item].numpy()))


@pytest.mark.parametrize("of", ["coordinates", "motion"])
@pytest.mark.parametrize("normalise", SCALES)
def test_targets_are_the_naive_loop(x, normalise, of):
    wanted = motion(x) if of == "motion" else x
    target = make_target(wanted, GRID, normalise=normalise)
    for item in range(2):
        expected = oracle.target(wanted[item].numpy(), patch=4, normalise=normalise)
        assert np.abs(target.tokens[item].numpy() - expected).max() < 1e-9


@pytest.mark.parametrize("normalise", SCALES)
def test_mean_and_scale_lead_back(x, normalise):
    target = make_target(x, GRID, normalise=normalise)
    assert torch.allclose(target.tokens * target.scale + target.mean, patchify(x, GRID), atol=1e-12)


@pytest.mark.parametrize("normalise", SCALES)
def test_a_body_that_does_not_move_has_a_finite_target(normalise):
    target = make_target(torch.ones(1, 12, 25, 3), GRID, normalise=normalise)
    assert bool(target.tokens.isfinite().all())
    assert bool((target.tokens == (1 if normalise == "none" else 0)).all())
