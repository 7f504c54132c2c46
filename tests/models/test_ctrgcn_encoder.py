"""CTR-GCN: with weights mapped by name it equals the published network, written as naive loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smae.models.ctrgcn import JointNorm, RefinedGraphBlock
from smae.models.encoders import encoders
from smae.models.masking import mask_from_kept
from smae.skeleton import KINECT20, NTU25, Layout
from smae.testing.models import bodies
from tests.oracles import ctrgcn as oracle
from tests.oracles.models import f64

SMALL = Layout("small", ("a", "b", "c", "d"), ((1, 0), (2, 1), (3, 1)), ((2, 3),), {"all": (0, 1, 2, 3)}, 0)
VISIBLE = torch.tensor([[0, 1, 3, 5], [0, 2, 6, 7]])
"""Of 2 patches of 4 joints."""


def make(layout=SMALL, *, frames=8, **settings):
    cls = encoders.get("ctrgcn")
    torch.manual_seed(0)
    return cls(cls.Config(**{"dim": 32} | settings), frames=frames, layout=layout)


def trained():
    """An encoder whose statistics, graphs and scales are as training would leave them, not as they begin."""
    encoder, generator = make().double().eval(), torch.Generator().manual_seed(1)
    for module in encoder.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(generator=generator).mul_(0.1)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(generator=generator).mul_(0.1)
        if isinstance(module, RefinedGraphBlock):
            module.graph.data += 0.3 * torch.randn(module.graph.shape, generator=generator)
            module.alpha.data.fill_(0.7)
    return encoder


def published(encoder):
    """Its weights under their published names."""
    return {oracle.published_name(name): f64(value) for name, value in encoder.state_dict().items()}


def test_without_a_mask_features_are_the_published_network():
    encoder, x = trained(), bodies(SMALL, items=2, frames=8).double()
    features, weights = encoder(x), published(encoder)
    assert features.shape == (2, 8, 32)
    for item in range(2):
        expected = oracle.encode(weights, f64(x[item])).reshape(8, 32)
        assert np.abs(expected).max() > 0.1
        assert np.abs(f64(features[item]) - expected).max() < 1e-6


def test_features_of_kept_tokens_are_the_published_network_with_hidden_joints_replaced():
    encoder, x = trained(), bodies(SMALL, items=2, frames=8).double()
    features = encoder(x, mask_from_kept(VISIBLE, encoder.grid))
    for item in range(2):
        seen = np.isin(np.arange(8), VISIBLE[item]).reshape(2, 4).repeat(4, 0)
        expected = oracle.encode(published(encoder), f64(x[item]), visible=seen, unknown=f64(encoder.mask_token))
        assert np.abs(f64(features[item]) - expected.reshape(8, 32)[VISIBLE[item]]).max() < 1e-6


def test_weights_have_the_published_names_and_shapes():
    shapes = {name: value.shape for name, value in published(make(NTU25, dim=256)).items()}
    assert len(shapes) == len(make().state_dict())
    for name, shape in {
        "data_bn.running_var": (75,),
        "l1.gcn1.PA": (3, 25, 25),
        "l1.gcn1.convs.0.conv1.weight": (8, 3, 1, 1),
        "l2.gcn1.convs.2.conv2.weight": (8, 64, 1, 1),
        "l10.gcn1.convs.1.conv4.weight": (256, 32, 1, 1),
        "l1.gcn1.down.0.weight": (64, 3, 1, 1),
        "l4.tcn1.branches.1.3.conv.weight": (16, 16, 5, 1),
        "l5.tcn1.branches.0.0.weight": (32, 128, 1, 1),
        "l5.tcn1.branches.2.4.running_mean": (32,),
        "l8.tcn1.branches.3.1.weight": (64,),
        "l8.gcn1.down.1.bias": (256,),
        "l8.residual.conv.weight": (256, 128, 1, 1),
        "l8.residual.bn.weight": (256,),
        "l10.gcn1.alpha": (1,),
    }.items():
        assert shapes[name] == shape, name
    assert {name.split(".")[0] for name in shapes if ".residual." in name} == {"l5", "l8"}
    assert {name.split(".")[0] for name in shapes if ".down." in name} == {"l1", "l5", "l8"}


@pytest.mark.parametrize("layout", [SMALL, NTU25, KINECT20], ids=lambda layout: layout.name)
def test_graphs_and_scales_begin_as_published(layout):
    expected = torch.from_numpy(oracle.adjacency(layout)).float()
    for block in make(layout).blocks:
        assert torch.equal(block.graph, expected)
        assert (block.alpha == 0).all()
        assert (block.norm_graph.weight == torch.tensor(1e-6)).all()


def test_gradients_reach_all_parameters_and_every_parameter_has_a_layer():
    encoder = trained().float().train()
    encoder(bodies(SMALL, items=2, frames=8), mask_from_kept(VISIBLE, encoder.grid)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        # A bias before BatchNorm has no effect while training: its gradient is rounding, on some processors 0.
        assert name.endswith(".bias") or bool((parameter.grad != 0).any()), name
    layers = {name: encoder.layer_of(name) for name, _ in encoder.named_parameters()}
    assert set(layers.values()) == set(range(11))
    assert (layers["mask_token"], layers["norm.weight"], layers["blocks.9.alpha"]) == (0, 0, 10)


def test_statistics_of_the_input_are_those_of_visible_joints():
    norm, plain = JointNorm(12).train(), torch.nn.BatchNorm1d(12).train()
    x = bodies(SMALL, items=2, frames=8)
    assert torch.allclose(norm(x, torch.ones_like(x)), plain(x.reshape(16, 12)).view_as(x), atol=1e-5)
    assert torch.allclose(norm.running_var, plain.running_var)
    assert torch.allclose(norm.running_mean, plain.running_mean)
    visible = torch.zeros_like(x)
    visible[0, :5, 1] = 1
    norm = JointNorm(12).train()
    seen = x[0, :5, 1]
    assert torch.allclose(norm(x, visible)[0, :5, 1], torch.nn.BatchNorm1d(3).train()(seen), atol=1e-5)
    assert torch.allclose(norm.running_mean[3:6], 0.1 * seen.mean(0))
    assert torch.allclose(norm.running_var[3:6], 0.9 + 0.1 * seen.var(0))
    assert (norm.running_mean[:3] == 0).all()
    assert (norm.running_var[6:] == 1).all()


def test_drop_path_rises_from_zero():
    assert [block.drop_path.rate for block in make(drop_path=0.9).blocks] == pytest.approx([n / 10 for n in range(10)])
