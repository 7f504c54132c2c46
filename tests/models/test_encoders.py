"""Encoders: features of kept tokens equal naive loops, no token leaks into another's mask, all weights learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from smae.errors import ConfigError
from smae.models.encoders import Encoder, encoders
from smae.models.masking import mask_from_scores
from smae.models.tokens import gather, patchify
from smae.skeleton import NTU25
from smae.testing.samples import bodies
from tests.oracles import models as oracle

SIZE = {"dim": 16, "depth": 2, "heads": 4, "patch": 4}


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    cls = encoders.get("vit")
    return cls(cls.Config(**SIZE), frames=12, layout=NTU25)


def mask_of(items, *, tokens=75, keep=20):
    return mask_from_scores(torch.rand(items, tokens, generator=torch.Generator().manual_seed(0)), keep)


def test_features_of_kept_tokens_are_the_naive_loop(encoder):
    x, mask = bodies(NTU25, items=2, frames=12).double(), mask_of(2)
    features = encoder.double()(x, mask)
    assert features.shape == (2, 20, 16)
    for item in range(2):
        expected = oracle.encode(encoder, x[item], mask.keep[item].tolist())
        assert np.abs(oracle.f64(features[item]) - expected).max() < 1e-12


def test_tokens_that_a_mask_took_along_are_seen_only_for_the_joints_that_they_are_of(encoder):
    x = bodies(NTU25, items=2, frames=12)
    mask = mask_from_scores(torch.rand(2, encoder.grid.tokens, generator=torch.Generator().manual_seed(1)), 9)
    taken = replace(mask, visible=gather(patchify(x, encoder.grid), mask.keep) + 1, source=x)
    assert not torch.allclose(encoder(x, taken), encoder(x, mask))
    assert torch.equal(encoder(x.clone(), taken), encoder(x, mask))


def test_without_a_mask_all_tokens_are_seen(encoder):
    x = bodies(NTU25, items=1, frames=12)
    features = encoder(x)
    assert features.shape == (1, 75, 16)
    assert np.abs(oracle.f64(features[0]) - oracle.encode(encoder, x[0], list(range(75)))).max() < 1e-4


def test_hidden_tokens_change_nothing(encoder):
    x, mask = bodies(NTU25, items=2, frames=12), mask_of(2)
    other = x.clone()
    hidden = mask.hidden.reshape(2, 3, 1, 25).expand(2, 3, 4, 25).reshape(2, 12, 25)
    other[hidden] = 1e6
    assert torch.equal(encoder(x, mask), encoder(other, mask))


def test_an_items_features_do_not_depend_on_its_neighbours(encoder):
    x, mask = bodies(NTU25, items=4, frames=12), mask_of(4)
    alone = encoder(x[2:3], type(mask)(mask.keep[2:3], mask.hide[2:3]))
    assert torch.allclose(alone, encoder(x, mask)[2:3], atol=1e-5)


def test_gradients_reach_all_parameters(encoder):
    encoder(bodies(NTU25, items=2, frames=12), mask_of(2)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


def test_every_parameter_has_a_layer(encoder):
    layers = {name: encoder.layer_of(name) for name, _ in encoder.named_parameters()}
    assert set(layers.values()) == {0, 1, 2}
    assert layers["embed.weight"] == layers["places.time"] == 0
    assert layers["blocks.0.mlp.0.weight"] == 1
    assert layers["blocks.1.attention.out.bias"] == layers["norm.weight"] == 2


def test_drop_path_rises_from_zero():
    cls = encoders.get("vit")
    encoder = cls(cls.Config(**SIZE | {"depth": 3}, drop_path=0.3), frames=12, layout=NTU25)
    assert [block.drop_path.rate for block in encoder.blocks] == pytest.approx([0, 0.15, 0.3])


def test_frames_that_do_not_fit_are_refused():
    cls = encoders.get("vit")
    with pytest.raises(ConfigError, match=r"augment\.frames=13"):
        cls(cls.Config(**SIZE), frames=13, layout=NTU25)


def test_an_encoder_that_forgets_its_duties_says_so():
    with pytest.raises(TypeError, match="must define forward"):
        Encoder()(torch.zeros(1))
    with pytest.raises(TypeError, match="must define layer_of"):
        Encoder().layer_of("x")
