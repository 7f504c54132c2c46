"""SLiM's encoder: features equal naive loops over tokens, heads and pairs of numbers, of clips of any length."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from smae.errors import ConfigError
from smae.models.encoders import encoders
from smae.models.masking import mask_from_scores
from smae.skeleton import NTU25, Layout
from smae.testing.models import bodies
from tests.oracles import models as oracle
from tests.oracles.models import Array, f64, layer_norm, linear

SMALL = Layout("small", ("a", "b", "c"), ((1, 0), (2, 1)), (), {"all": (0, 1, 2)}, 0)


def make(layout: Layout = SMALL, *, frames: int = 8, **settings: Any) -> Any:
    cls: Any = encoders.get("slim")
    torch.manual_seed(0)
    size = {"dim": 16, "depth": 2, "heads": 2, "patch": 2, "registers": 2}
    made = cls(cls.Config(**size | settings), frames=frames, layout=layout)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.2 * torch.randn(weight.shape))
    return made.eval()


def turn(vector: Array, time: int) -> Array:
    """Numbers i and i + size / 2 as a point of the plane, turned by time / 10000^(2i / size)."""
    half, out = len(vector) // 2, vector.copy()
    for i in range(half):
        angle = time / 10000 ** (2 * i / len(vector))
        a, b = vector[i], vector[i + half]
        out[i], out[i + half] = a * math.cos(angle) - b * math.sin(angle), b * math.cos(angle) + a * math.sin(angle)
    return out


def attend(layer: Any, tokens: list[Array], times: list[int]) -> list[Array]:
    heads, dim = layer.heads, len(tokens[0])
    size, pairs = dim // heads, [linear(layer.key_value, token) for token in tokens]
    out = []
    for token, time in zip(tokens, times, strict=True):
        query, mixed = linear(layer.query, token), np.zeros(dim)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = [
                math.exp(turn(query[part], time) @ turn(pair[:dim][part], other) / math.sqrt(size))
                for pair, other in zip(pairs, times, strict=True)
            ]
            for score, pair in zip(scores, pairs, strict=True):
                mixed[part] += score / sum(scores) * pair[dim:][part]
        out.append(linear(layer.proj, mixed))
    return out


def encode(encoder: Any, x: torch.Tensor, hidden: set[int]) -> list[Array]:
    """The class token, the registers, then all tokens of one item's joints [T, V, C]."""
    tokens = oracle.tokens_of(f64(x), patch=encoder.grid.patch)
    joints = encoder.grid.joints
    state = [f64(encoder.class_token), *f64(encoder.registers)]
    times = [0] * len(state)
    for number, values in enumerate(tokens):
        embedded = f64(encoder.mask_token) if number in hidden else linear(encoder.embed, values)
        state.append(embedded + f64(encoder.joint_embed[number % joints]))
        times.append(number // joints)
    for block in encoder.blocks:
        mixed = attend(block.attention, [layer_norm(block.norm_attention, one) for one in state], times)
        state = [one + more for one, more in zip(state, mixed, strict=True)]
        for place, one in enumerate(state):
            both = linear(block.mlp.gate_value, layer_norm(block.norm_mlp, one))
            gate, value = both[: len(both) // 2], both[len(both) // 2 :]
            state[place] = one + linear(block.mlp.proj, gate / (1 + np.exp(-gate)) * value)
    return [layer_norm(encoder.norm, one) for one in state]


@pytest.mark.parametrize("frames", [8, 4, 12])
def test_features_of_clips_of_any_length_are_the_naive_loop(frames: int) -> None:
    encoder, x = make().double(), bodies(SMALL, items=2, frames=frames).double()
    hidden = torch.rand(2, frames // 2 * 3, generator=torch.Generator().manual_seed(1)) < 0.4
    whole, tokens = encoder.encode(x, hidden)
    assert whole.shape == (2, 16)
    assert tokens.shape == (2, frames // 2 * 3, 16)
    for item in range(2):
        expected = encode(encoder, x[item], set(hidden[item].nonzero()[:, 0].tolist()))
        assert np.abs(f64(whole[item]) - expected[0]).max() < 1e-10
        assert np.abs(f64(tokens[item]) - np.stack(expected[3:])).max() < 1e-10


def test_a_mask_hides_what_it_does_not_keep() -> None:
    encoder, x = make(), bodies(SMALL, items=2, frames=8)
    mask = mask_from_scores(torch.rand(2, 12, generator=torch.Generator().manual_seed(2)), 5)
    tokens = encoder.encode(x, mask.hidden)[1]
    assert torch.equal(encoder(x, mask), tokens.gather(1, mask.keep[..., None].expand(-1, -1, 16)))
    assert torch.equal(encoder(x), encoder.encode(x)[1])


def test_the_published_size() -> None:
    cls: Any = encoders.get("slim")
    encoder = cls(cls.Config(), frames=64, layout=NTU25)
    assert (encoder.grid.times, encoder.grid.joints, encoder.grid.patch) == (8, 25, 8)
    assert encoder.blocks[0].mlp.gate_value.weight.shape == (2 * 688, 256)
    # Published: 6.37 M. There, the class token has a learned position beside it.
    assert sum(weight.numel() for weight in encoder.parameters()) + 256 == pytest.approx(6.37e6, rel=1e-3)


def test_an_odd_number_for_each_head_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"encoder\.dim=10: rotary positions turn pairs"):
        make(dim=10, heads=2)


def test_half_precision_keeps_the_angles_apart() -> None:
    encoder, x = make(patch=1, frames=400), bodies(SMALL, items=1, frames=400)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = encoder.encode(x)[0]
    assert float((rough.float() - encoder.encode(x)[0]).detach().abs().max()) < 0.1
