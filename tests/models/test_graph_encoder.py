"""The variant of CTR-GCN: features equal naive loops, graphs begin as the bones have it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smae.errors import ConfigError
from smae.models import graph
from smae.models.encoders import encoders
from smae.models.masking import mask_from_kept
from smae.skeleton import KINECT20, NTU25, Layout
from smae.testing.models import bodies
from tests.oracles import graph as oracle

SMALL = Layout("small", ("a", "b", "c", "d"), ((1, 0), (2, 1), (3, 1)), ((2, 3),), {"all": (0, 1, 2, 3)}, 0)
VISIBLE = torch.tensor([[0, 1, 3, 5], [0, 2, 6, 7]])
"""Of 2 patches of 4 joints."""


def make(layout=SMALL, *, frames=8, **settings):
    cls = encoders.get("graph")
    torch.manual_seed(0)
    encoder = cls(cls.Config(**{"dim": 16, "depth": 1, "share": 2} | settings), frames=frames, layout=layout)
    generator = torch.Generator().manual_seed(1)
    for module in encoder.modules():  # running statistics and graphs as training would leave them, not as they begin
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(generator=generator).mul_(0.1)
            module.running_var.uniform_(0.5, 2, generator=generator)
        if isinstance(module, graph.GraphBlock):
            module.graph.data += 0.3 * torch.randn(module.graph.shape, generator=generator)
            module.alpha.data.fill_(0.7)
    return encoder.eval()


def visible_mask(encoder):
    return mask_from_kept(VISIBLE, encoder.grid)


def worst(features, expected):
    return max(np.abs(oracle.f64(one) - expected[token]).max() for token, one in features.items())


@pytest.mark.parametrize("settings", [{}, {"share": 1}, {"patch": 1}, {"patch": 2}, {"depth": 2}], ids=str)
def test_without_a_mask_features_are_the_naive_loop(settings):
    encoder, x = make(**settings).double(), bodies(SMALL, items=2, frames=8).double()
    features = encoder(x)
    assert features.shape == (2, encoder.grid.tokens, 16)
    for item in range(2):
        expected = oracle.encode(encoder, x[item], visible=None)
        assert worst(dict(enumerate(features[item])), expected) < 1e-6


def test_features_of_kept_tokens_are_the_naive_loop():
    encoder, x = make().double(), bodies(SMALL, items=2, frames=8).double()
    features = encoder(x, visible_mask(encoder))
    assert features.shape == (2, 4, 16)
    for item in range(2):
        seen = VISIBLE[item].tolist()
        expected = oracle.encode(encoder, x[item], visible=seen)
        assert worst(dict(zip(seen, features[item], strict=True)), expected) < 1e-6


@pytest.mark.parametrize("layout", [SMALL, NTU25, KINECT20], ids=lambda layout: layout.name)
def test_graphs_begin_as_the_bones_have_it(layout):
    graphs = graph.bone_graphs(layout)
    graphs = graphs / graphs.sum(2, keepdim=True).clamp(min=1)
    assert np.array_equal(oracle.f64(graphs), oracle.f64(torch.from_numpy(oracle.bones(layout)).float()))
    cls = encoders.get("graph")
    encoder = cls(cls.Config(dim=16), frames=8, layout=layout)
    assert all(torch.equal(block.graph, graphs) and block.alpha == 0 for block in encoder.blocks)
    assert graphs[1].sum() == len(layout) - 1


def test_gradients_reach_all_parameters_and_every_parameter_has_a_layer():
    encoder = make(depth=2).train()
    encoder(bodies(SMALL, items=2, frames=8), visible_mask(encoder)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        # A bias before BatchNorm has no effect while training: its gradient is rounding, or 0.
        if not name.endswith("bias"):
            assert bool((parameter.grad != 0).any()), name
    layers = {name: encoder.layer_of(name) for name, _ in encoder.named_parameters()}
    assert set(layers.values()) == set(range(7))
    assert (layers["mask_token"], layers["embed.0.weight"], layers["blocks.5.alpha"]) == (0, 0, 6)


@pytest.mark.parametrize(("patch", "strides"), [(1, [1, 1, 1]), (2, [1, 1, 2]), (4, [1, 2, 2])])
def test_time_is_halved_until_a_frame_is_a_token(patch, strides):
    encoder = make(patch=patch, depth=2)
    assert [block.stride for block in encoder.blocks] == [strides[0], 1, strides[1], 1, strides[2], 1]
    assert [block.value.in_features for block in encoder.blocks] == [4, 4, 4, 8, 8, 16]
    assert (encoder.grid.times, encoder.dim, encoder.depth) == (8 // patch, 16, 6)


def test_drop_path_rises_from_zero():
    assert [block.drop_path.rate for block in make(drop_path=0.6).blocks] == pytest.approx([0, 0.3, 0.6])


def test_channels_that_cannot_share_a_graph_are_refused():
    with pytest.raises(ConfigError, match=r"encoder\.share=8 does not divide the first stage's width, 4"):
        make(share=8)
