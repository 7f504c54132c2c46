"""Encoders: each keeps the contract, a broken one does not; the ViT's features equal naive loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smae.errors import ConfigError
from smae.models import ctrgcn, gather, graph, patchify, slim, sttformer  # noqa: F401
from smae.models.encoders import Encoder, encoders
from smae.models.masking import mask_from_scores
from smae.skeleton import KINECT20, NTU25
from smae.testing import check_encoder
from smae.testing.models import bodies
from tests.oracles import models as oracle

SIZE = {"dim": 16, "depth": 2, "heads": 4, "patch": 4}


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    cls = encoders.get("vit")
    return cls(cls.Config(**SIZE), frames=12, layout=NTU25)


def random_mask(items, *, tokens=75, keep=20):
    return mask_from_scores(torch.rand(items, tokens, generator=torch.Generator().manual_seed(0)), keep)


def test_features_of_kept_tokens_are_the_naive_loop(encoder):
    x, mask = bodies(NTU25, items=2, frames=12).double(), random_mask(2)
    features = encoder.double()(x, mask)
    assert features.shape == (2, 20, 16)
    for item in range(2):
        expected = oracle.encode(encoder, x[item], mask.keep[item].tolist())
        assert np.abs(oracle.f64(features[item]) - expected).max() < 1e-12


@pytest.mark.parametrize("masked", [True, False])
def test_movement_stands_beside_the_coordinates_of_a_token(masked):
    cls = encoders.get("vit")
    encoder = cls(cls.Config(**SIZE, movement=3), frames=12, layout=NTU25).double()
    x, mask = bodies(NTU25, items=2, frames=12).double(), random_mask(2)
    features = encoder(x, mask if masked else None)
    for item in range(2):
        expected = oracle.encode(encoder, x[item], mask.keep[item].tolist() if masked else list(range(75)))
        assert np.abs(oracle.f64(features[item]) - expected).max() < 1e-12


def test_movement_of_tokens_of_one_frame_is_refused():
    cls = encoders.get("vit")
    with pytest.raises(ConfigError, match=r"encoder\.movement needs encoder\.patch=2"):
        cls(cls.Config(**SIZE | {"patch": 1}, movement=3), frames=12, layout=NTU25)


def test_visible_tokens_give_the_features_of_the_joints_that_they_are_of(encoder):
    x, mask = bodies(NTU25, items=2, frames=12), random_mask(2)
    visible = gather(patchify(x, encoder.grid), mask.keep)
    assert torch.equal(encoder(visible, mask), encoder(x, mask))


def test_without_a_mask_all_tokens_are_seen(encoder):
    x = bodies(NTU25, items=1, frames=12)
    features = encoder(x)
    assert features.shape == (1, 75, 16)
    assert np.abs(oracle.f64(features[0]) - oracle.encode(encoder, x[0], list(range(75)))).max() < 1e-4


def test_gradients_reach_all_parameters(encoder):
    encoder(bodies(NTU25, items=2, frames=12), random_mask(2)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


def test_every_parameter_has_a_layer(encoder):
    layers = {name: encoder.layer_of(name) for name, _ in encoder.named_parameters()}
    assert set(layers.values()) == {0, 1, 2}
    assert layers["embed.weight"] == layers["pos_embed.time"] == 0
    assert layers["blocks.0.mlp.0.weight"] == 1
    assert layers["blocks.1.attention.proj.bias"] == layers["norm.weight"] == 2


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
    with pytest.raises(TypeError, match="Encoder has no class token"):
        Encoder().encode(torch.zeros(1))


SMALL = {
    "vit": SIZE,
    "sttformer": {"dim": 32, "heads": 2},
    "ctrgcn": {"dim": 32, "drop_path": 0.2},
    "graph": {"dim": 32, "share": 2, "drop_path": 0.2},
    "slim": {"dim": 32, "depth": 2, "heads": 4, "patch": 4, "drop_path": 0.2},
}


@pytest.mark.parametrize("layout", [NTU25, KINECT20], ids=lambda layout: layout.name)
@pytest.mark.parametrize("name", SMALL)
def test_each_keeps_the_contract(name, layout):
    check_encoder(encoders.get(name), settings=SMALL[name], layout=layout)


def test_the_contract_is_held_against_every_encoder():
    assert set(encoders.names()) == set(SMALL)


Vit = encoders.get("vit")


class Leaking(Vit):
    """Adds what the mean of all joints is, hidden ones among them."""

    def forward(self, x, mask=None):
        return super().forward(x, mask) + x.flatten(1).mean(1)[:, None, None]


class Crowded(Vit):
    """Normalises by the batch also in evaluation."""

    def forward(self, x, mask=None):
        features = super().forward(x, mask)
        return features - features.mean((0, 1))


class Counting(Vit):
    """Takes for hidden only what a mask names as hidden."""

    def forward(self, x, mask=None):
        features = super().forward(x, mask)
        return features if mask is None else features + mask.hide.shape[1]


class Changing(Vit):
    """Centres the joints that it was given."""

    def forward(self, x, mask=None):
        return super().forward(x.sub_(x.mean()), mask)


class Idle(Vit):
    """Has a weight that it does not use."""

    def __init__(self, config, **size):
        super().__init__(config, **size)
        self.idle = torch.nn.Linear(2, 2)


class Forgetful(Vit):
    """Has a number that no checkpoint holds."""

    def __init__(self, config, **size):
        super().__init__(config, **size)
        self.number = torch.randn(1)

    def forward(self, x, mask=None):
        return super().forward(x, mask) + self.number


class Deep(Vit):
    """Names a layer that it does not have."""

    def layer_of(self, parameter):
        return super().layer_of(parameter) + 1


class JointsOnly(Vit):
    """Takes visible tokens for joints, and shifts them."""

    def forward(self, x, mask=None):
        return super().forward(x, mask) + (x.ndim == 3)


class Whole(Vit):
    """Gives the features of hidden tokens too."""

    def forward(self, x, mask=None):
        return super().forward(x)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Leaking, "what the mask hides changes the features of visible tokens while training"),
        (Crowded, "an item's features depend on the batch around it"),
        (Counting, "names only some of the hidden tokens"),
        (Changing, "changed in place"),
        (Idle, "no gradient reaches the parameter 'idle.weight'"),
        (Forgetful, "state_dict gives other features"),
        (Deep, r"layer_of\('blocks.1.*'\) must be 0 to 2, the encoder's depth; found 3"),
        (JointsOnly, "given the visible tokens"),
        (Whole, r"with a mask, features must be \[N, K, D\] = \[3, 50, 16\], found \[3, 150, 16\]"),
        (torch.nn.Linear, "needs a Config"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_contract_finds_a_broken_encoder(encoder, message):
    with pytest.raises(AssertionError, match=message):
        check_encoder(encoder, settings=SIZE)
