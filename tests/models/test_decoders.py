"""Decoders: predictions equal naive loops; cross-attention answers each hidden token by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smae.models import Grid
from smae.models.encoders import decoders
from smae.models.masking import Mask, mask_from_scores
from tests.oracles import models as oracle

GRID = Grid.cut(12, joints=25, patch=4)
BUILT_IN = ("self", "cross")


@pytest.fixture
def mask():
    return mask_from_scores(torch.rand(2, GRID.tokens, generator=torch.Generator().manual_seed(0)), 15)


@pytest.fixture
def features():
    return torch.randn(2, 15, 24, generator=torch.Generator().manual_seed(1))


def make(name):
    torch.manual_seed(0)
    cls = decoders.get(name)
    return cls(cls.Config(dim=16, depth=2, heads=2), grid=GRID, width=24)


@pytest.mark.parametrize("name", BUILT_IN)
def test_predictions_are_the_naive_loop(name, mask, features):
    decoder, features = make(name).double(), features.double()
    out = decoder(features, mask)
    assert out.shape == (2, 60, GRID.values)
    for item in range(2):
        keep, hide = mask.keep[item].tolist(), mask.hide[item].tolist()
        expected = oracle.decode(decoder, features[item], keep, hide, cross=name == "cross")
        assert np.abs(oracle.f64(out[item]) - expected).max() < 1e-12


@pytest.mark.parametrize("name", BUILT_IN)
def test_gradients_reach_all_parameters_and_the_features(name, mask, features):
    decoder = make(name)
    features.requires_grad_()
    decoder(features, mask).square().sum().backward()
    assert bool((features.grad != 0).any(2).all())
    for key, parameter in decoder.named_parameters():
        assert parameter.grad is not None, key
        assert bool((parameter.grad != 0).any()), key


def test_cross_predictions_do_not_depend_on_which_other_tokens_are_asked(mask, features):
    decoder = make("cross")
    whole = decoder(features, mask)
    few = decoder(features, Mask(mask.keep, mask.hide[:, 5:9]))
    assert torch.allclose(few, whole[:, 5:9], atol=1e-6)


def test_self_predictions_do_depend_on_them(mask, features):
    decoder = make("self")
    few = decoder(features, Mask(mask.keep, mask.hide[:, 5:9]))
    assert not torch.allclose(few, decoder(features, mask)[:, 5:9], atol=1e-4)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_order_of_visible_tokens_does_not_matter(name, mask, features):
    decoder, other = make(name), torch.randperm(15, generator=torch.Generator().manual_seed(2))
    turned = decoder(features[:, other], Mask(mask.keep[:, other], mask.hide))
    assert torch.allclose(turned, decoder(features, mask), atol=1e-5)


def test_a_subsample_has_the_hidden_tokens_of_lowest_scores(mask):
    scores = torch.rand(2, 60, generator=torch.Generator().manual_seed(3))
    few = mask.subsample_hidden(scores, 7)
    assert torch.equal(few.keep, mask.keep)
    for item in range(2):
        expected = sorted(mask.hide[item][scores[item].argsort()[:7]].tolist())
        assert few.hide[item].tolist() == expected
