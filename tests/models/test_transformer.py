"""Blocks against naive loops over tokens, heads and keys; stochastic depth; positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import profile

from smae.errors import ConfigError
from smae.models import Attention, Block, DropPath, PositionEmbedding, attention
from tests.oracles import models as oracle


def rows(x):
    return list(oracle.f64(x))


@pytest.mark.parametrize(("dim", "heads"), [(8, 1), (12, 3), (16, 4)])
@pytest.mark.parametrize("cross", [False, True])
def test_a_block_is_the_naive_loop(dim, heads, cross):
    torch.manual_seed(0)
    layer = Block(dim, heads, mlp=2.0, cross=cross).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, source = torch.randn(2, 5, dim).double(), torch.randn(2, 7, dim).double()
    out = layer(x, source) if cross else layer(x)
    for item in range(2):
        expected = np.stack(oracle.block(layer, rows(x[item]), rows(source[item]) if cross else None))
        assert np.abs(oracle.f64(out[item]) - expected).max() < 1e-12


@pytest.mark.parametrize("cross", [False, True])
def test_tokens_that_are_only_read_change_nothing_for_the_others(cross):
    torch.manual_seed(0)
    layer, x, source = Block(12, 3, cross=cross), torch.randn(2, 7, 12), torch.randn(2, 5, 12)
    given = (x, source) if cross else (x,)
    assert torch.allclose(layer(*given, skip=4), layer(*given)[:, 4:], atol=1e-6)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_takes_the_fused_kernel_forwards_and_backwards(cross, dtype, monkeypatch):
    monkeypatch.setattr("smae.models.MAX_SCORES", 0)
    layer = Attention(16, 4).to(dtype)
    x = torch.randn(2, 50, 16, dtype=dtype)
    source = torch.randn(2, 9, 16, dtype=dtype) if cross else x
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), profile() as recorded:  # raises where it cannot be taken
        layer(x, source).sum().backward()
    names = {event.key for event in recorded.key_averages()}
    assert {name for name in names if "flash_attention" in name and "backward" in name}
    assert not {"aten::bmm", "aten::baddbmm", "aten::_softmax"} & names


@pytest.mark.parametrize("cross", [False, True])
def test_attention_in_bfloat16_is_that_in_float64_to_its_rounding(cross):
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 4, length, 8, requires_grad=True) for length in (11, *[7 if cross else 11] * 2))
    wanted = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
    with torch.autocast("cpu", torch.bfloat16), profile() as recorded:
        found = attention(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert not [event.key for event in recorded.key_averages() if "flash_attention" in event.key]
    assert found.dtype == torch.bfloat16
    assert (found - wanted).abs().max() < 0.02 * wanted.abs().max()
    weight = torch.randn(wanted.shape).double()
    for one, other in zip(
        *(torch.autograd.grad((out * weight).sum(), (q, k, v)) for out in (found, wanted)), strict=True
    ):
        assert (one - other).norm() < 0.02 * other.norm()


def test_a_width_that_the_heads_do_not_share_is_refused():
    with pytest.raises(ConfigError, match="width 10 cannot be shared by 3 heads"):
        Attention(10, 3)


def test_drop_path_drops_whole_items_and_keeps_the_mean():
    torch.manual_seed(0)
    layer = DropPath(0.25)
    out = layer(torch.ones(8000, 2, 3)).flatten(1)
    assert torch.equal(out.amin(1), out.amax(1))
    assert out[:, 0].unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(out.mean()) == pytest.approx(1, abs=0.03)


def test_drop_path_does_nothing_in_evaluation_or_at_rate_zero():
    x = torch.randn(4, 2, 3)
    assert DropPath(0.9).eval()(x) is x
    assert DropPath(0.0)(x) is x


def test_positions_are_time_plus_joint():
    layer = PositionEmbedding(3, 4, 8)
    table = layer()
    assert table.shape == (12, 8)
    for token in range(12):
        assert torch.equal(table[token], layer.time[token // 4] + layer.joint[token % 4])
