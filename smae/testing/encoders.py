"""The contract of an encoder: features of the visible tokens, which nothing hidden and no neighbour enters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from smae.config import PluginConfig
from smae.models.encoders import Encoder
from smae.models.mask import Mask, mask_from_scores
from smae.models.tokens import Grid
from smae.skeleton import NTU25, Layout
from smae.testing.samples import bodies, hold

ITEMS = 3
SEED = 5


def check_encoder(
    encoder: Any, *, settings: dict[str, Any] | None = None, layout: Layout = NTU25, frames: int = 24
) -> None:
    """Hold an encoder class against all that objectives, probes and the optimiser rely on.

    Args:
        encoder: the class that an entry point of ``smae.encoders`` names.
        settings: settings of its ``Config``; its defaults when left out.
        layout: arrangement of joints.
        frames: frames of the clips, a multiple of its patch.

    Raises:
        AssertionError: the first promise that is broken, in words.
    """
    hold(
        isinstance(getattr(encoder, "Config", None), type) and issubclass(encoder.Config, PluginConfig),
        "an encoder class needs a Config, a subclass of smae.config.PluginConfig",
    )
    made, again = (_build(encoder, settings or {}, frames, layout, seed=seed) for seed in (SEED, SEED + 1))
    _check_attributes(made)
    x = bodies(layout, items=ITEMS, frames=frames)
    tokens = made.grid.tokens
    scores = torch.rand(ITEMS, tokens, generator=torch.Generator().manual_seed(0))
    mask = mask_from_scores(scores, max(1, tokens // 3))
    before = x.clone()
    _check_shapes(made, x, mask)
    hold(torch.equal(x, before), "the joints given to an encoder were changed in place")
    _check_learning(made, x, mask)
    _check_leaks(made, x, mask)
    again.load_state_dict(made.state_dict())
    hold(
        torch.equal(again.eval()(x), made.eval()(x)),
        "a fresh encoder with this one's state_dict gives other features: keep all state in parameters and buffers",
    )


def _build(encoder: Any, settings: dict[str, Any], frames: int, layout: Layout, *, seed: int) -> Encoder:
    torch.manual_seed(seed)
    made: Encoder = encoder(encoder.Config(**settings), frames=frames, layout=layout)
    hold(isinstance(made, Encoder), "an encoder must be a smae.models.encoders.Encoder")
    return made


def _check_attributes(made: Encoder) -> None:
    hold(isinstance(getattr(made, "grid", None), Grid), "encoder.grid must be a smae.models.tokens.Grid")
    for name in ("dim", "depth"):
        hold(isinstance(getattr(made, name, None), int), f"encoder.{name} must be a whole number")
    for name, _ in made.named_parameters():
        layer = made.layer_of(name)
        hold(
            isinstance(layer, int) and 0 <= layer <= made.depth,
            f"layer_of('{name}') must be 0 to {made.depth}, the encoder's depth; found {layer!r}",
        )


def _check_shapes(made: Encoder, x: Tensor, mask: Mask) -> None:
    for what, features, count in (
        ("no mask", made(x), made.grid.tokens),
        ("a mask", made(x, mask), mask.keep.shape[1]),
    ):
        wanted = (ITEMS, count, made.dim)
        found = tuple(features.shape)
        hold(found == wanted, f"with {what}, features must be [N, K, D] = {list(wanted)}, found {list(found)}")
        hold(bool(features.isfinite().all()), f"with {what}, features are not finite")


def _check_learning(made: Encoder, x: Tensor, mask: Mask) -> None:
    """Take two steps, after which weights and statistics are no more what they began as: zeros hide leaks."""
    optimizer = torch.optim.Adam(made.train().parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        features = made(x, mask)
        (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
        for name, parameter in made.named_parameters():
            reached = parameter.grad is not None or not parameter.requires_grad
            hold(reached, f"no gradient reaches the parameter '{name}'")
        optimizer.step()


def _check_leaks(made: Encoder, x: Tensor, mask: Mask) -> None:
    grid = made.grid
    hidden = mask.hidden.reshape(ITEMS, grid.times, 1, grid.joints)
    hidden = hidden.expand(-1, -1, x.shape[1] // grid.times, -1).reshape(x.shape[:3])
    other = x.masked_fill(hidden[..., None], 1e6)
    for training in (True, False):
        made.train(training)
        seen, spoiled = (_seeded(made, joints, mask) for joints in (x, other))
        when = "while training" if training else "in evaluation"
        hold(torch.equal(seen, spoiled), f"what the mask hides changes the features of visible tokens {when}")
    whole = made(x, mask)
    some = Mask(mask.keep, mask.hide[:, ::2])
    hold(
        _close(made(x, some), whole),
        "a mask that names only some of the hidden tokens gives other features: what is not in keep is hidden",
    )
    for row in range(ITEMS):
        one = slice(row, row + 1)
        alone = made(x[one], Mask(mask.keep[one], mask.hide[one]))
        same = _close(alone, whole[one]) and _close(made(x[one]), made(x)[one])
        hold(same, "in evaluation, an item's features depend on the batch around it")


def _seeded(made: Encoder, x: Tensor, mask: Mask) -> Tensor:
    torch.manual_seed(SEED)  # for dropout
    features: Tensor = made(x, mask)
    return features


def _close(found: Tensor, expected: Tensor) -> bool:
    """Return whether features differ by no more than the rounding of sums taken in another order."""
    return bool((found - expected).abs().max() <= 1e-4 * expected.abs().max())
