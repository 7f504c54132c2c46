"""STTFormer: features equal naive loops, tuples without a visible joint can be left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smae.models import sttformer
from smae.models.encoders import encoders
from smae.models.masking import mask_from_kept
from smae.skeleton import KINECT20, NTU25, Layout
from smae.testing.models import bodies
from tests.oracles import sttformer as oracle

SMALL = Layout("small", ("a", "b", "c", "d"), ((1, 0), (2, 1), (3, 1)), ((2, 3),), {"all": (0, 1, 2, 3)}, 0)
VISIBLE = torch.tensor([[0, 1, 3, 9], [0, 4, 5, 11]])
"""Of 4 tuples of 4 joints; the first item sees two tuples, the second three."""


def make(layout=SMALL, *, frames=8, **settings):
    cls = encoders.get("sttformer")
    torch.manual_seed(0)
    encoder = cls(cls.Config(**{"dim": 16, "heads": 2, "patch": 2} | settings), frames=frames, layout=layout)
    generator = torch.Generator().manual_seed(1)
    for module in encoder.modules():  # running statistics and biases as training would leave them, not as they begin
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator).mul_(0.1)
            module.running_var.uniform_(0.5, 2, generator=generator)
        if isinstance(module, sttformer.TupleBlock):
            module.attention_bias.data.normal_(generator=generator).mul_(0.3)
            module.alpha.data.normal_(generator=generator)
    return encoder.eval()


def visible_mask(encoder):
    return mask_from_kept(VISIBLE, encoder.grid)


def test_without_a_mask_features_are_the_naive_loop():
    encoder, x = make().double(), bodies(SMALL, items=2, frames=8).double()
    features = encoder(x)
    assert features.shape == (2, 16, 16)
    for item in range(2):
        expected = oracle.encode(encoder, x[item], visible=None, tuples=[0, 1, 2, 3])
        for token in range(16):
            assert np.abs(oracle.f64(features[item, token]) - expected[token]).max() < 1e-6


@pytest.mark.parametrize(
    ("leave_out", "tuples"), [(True, [[0, 1, 2], [0, 1, 2]]), (False, [[0, 1, 2, 3], [0, 1, 2, 3]])]
)
def test_features_of_kept_tokens_are_the_naive_loop(leave_out, tuples):
    encoder, x = make(leave_out=leave_out).double(), bodies(SMALL, items=2, frames=8).double()
    features = encoder(x, visible_mask(encoder))
    assert features.shape == (2, 4, 16)
    for item in range(2):
        seen = VISIBLE[item].tolist()
        expected = oracle.encode(encoder, x[item], visible=seen, tuples=tuples[item])
        for place, token in enumerate(seen):
            assert np.abs(oracle.f64(features[item, place]) - expected[token]).max() < 1e-6


def test_tuples_left_out_are_those_of_which_nothing_is_visible():
    encoder, widths = make(), []
    encoder.blocks[0].register_forward_pre_hook(lambda module, args: widths.append(args[0].shape[2]))
    x = bodies(SMALL, items=2, frames=8)
    encoder(x, mask_from_kept(torch.tensor([[0, 1, 12], [4, 5, 6]]), encoder.grid))
    encoder(x, mask_from_kept(torch.tensor([[0, 4, 8, 12], [4, 5, 6, 7]]), encoder.grid))
    encoder(x)
    assert widths == [2, 4, 4]


def test_gradients_reach_all_parameters_and_every_parameter_has_a_layer():
    encoder = make().train()
    encoder(bodies(SMALL, items=2, frames=8), visible_mask(encoder)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        # A bias before BatchNorm has no effect while training: its gradient is rounding.
        assert bool((parameter.grad != 0).any()), name
    layers = {name: encoder.layer_of(name) for name, _ in encoder.named_parameters()}
    assert set(layers.values()) == set(range(9))
    assert (layers["mask_token"], layers["embed.0.weight"], layers["blocks.7.alpha"]) == (0, 0, 8)


def test_last_shortcuts_are_mapped_where_the_width_changes():
    names = {name.split(".")[1] for name in oracle.published(make()) if ".rest." in name}
    assert names == {name.split(".")[1] for name in oracle.published(make()) if ".ress." in name} == {"2", "4"}


@pytest.mark.parametrize("layout", [NTU25, KINECT20], ids=lambda layout: layout.name)
def test_the_published_size(layout):
    cls = encoders.get("sttformer")
    encoder = cls(cls.Config(), frames=120, layout=layout)
    shapes = [(block.query_key.in_channels, block.proj[0].out_channels, block.numbers) for block in encoder.blocks]
    assert shapes == [
        (64, 64, 16), (64, 64, 16), (64, 128, 32), (128, 128, 32), (128, 256, 64), *[(256, 256, 64)] * 3,
    ]  # fmt: skip
    assert encoder.blocks[0].attention_bias.shape == (3, 6 * len(layout), 6 * len(layout))
    assert (encoder.grid.times, encoder.dim, encoder.depth) == (20, 256, 8)


def test_drop_path_rises_from_zero():
    assert [block.drop_path.rate for block in make(drop_path=0.7).blocks] == pytest.approx([n / 10 for n in range(8)])
