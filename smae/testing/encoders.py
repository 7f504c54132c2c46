"""The contract of an encoder: features of visible tokens, independent of all others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from smae.config import PluginConfig
from smae.models.encoders import Encoder
from smae.models.masking import Mask, mask_from_scores
from smae.models.tokens import Grid, gather, patchify
from smae.skeleton import NTU25, Layout
from smae.testing.samples import bodies, check

ITEMS = 3
SEED = 5


def check_encoder(
    encoder: Any, *, settings: dict[str, Any] | None = None, layout: Layout = NTU25, frames: int = 24
) -> None:
    """Check an encoder class for all that objectives, probes and the optimiser rely on.

    Args:
        encoder: the class named by an entry point of ``smae.encoders``.
        settings: settings of its ``Config``; its defaults when left out.
        layout: arrangement of joints.
        frames: frames of the clips, a multiple of its patch.

    Raises:
        AssertionError: the first rule that is broken, in words.
    """
    check(
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
    _check_features(made, x, mask)
    check(torch.equal(x, before), "the joints given to an encoder were changed in place")
    _check_learning(made, x, mask)
    _check_leaks(made, x, mask)
    _check_visible_tokens(made, x, mask)
    again.load_state_dict(made.state_dict())
    check(
        torch.equal(again.eval()(x), made.eval()(x)),
        "a fresh encoder with this one's state_dict gives other features: keep all state in parameters and buffers",
    )


def _build(encoder: Any, settings: dict[str, Any], frames: int, layout: Layout, *, seed: int) -> Encoder:
    torch.manual_seed(seed)
    made: Encoder = encoder(encoder.Config(**settings), frames=frames, layout=layout)
    check(isinstance(made, Encoder), "an encoder must be a smae.models.encoders.Encoder")
    return made


def _check_attributes(made: Encoder) -> None:
    check(isinstance(getattr(made, "grid", None), Grid), "encoder.grid must be a smae.models.tokens.Grid")
    for name in ("dim", "depth"):
        check(isinstance(getattr(made, name, None), int), f"encoder.{name} must be a whole number")
    for name, _ in made.named_parameters():
        layer = made.layer_of(name)
        check(
            isinstance(layer, int) and 0 <= layer <= made.depth,
            f"layer_of('{name}') must be 0 to {made.depth}, the encoder's depth; found {layer!r}",
        )


def _check_features(made: Encoder, x: Tensor, mask: Mask) -> None:
    for what, features, count in (
        ("no mask", made(x), made.grid.tokens),
        ("a mask", made(x, mask), mask.keep.shape[1]),
    ):
        expected, found = [ITEMS, count, made.dim], list(features.shape)
        check(found == expected, f"with {what}, features must be [N, K, D] = {expected}, found {found}")
        check(bool(features.isfinite().all()), f"with {what}, features are not finite")


def _check_learning(made: Encoder, x: Tensor, mask: Mask) -> None:
    # Two steps, so that later checks see trained weights and statistics: initial zeros would hide
    # leaks.
    optimizer = torch.optim.Adam(made.train().parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        features = made(x, mask)
        weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
        (features * weights).sum().backward()
        for name, parameter in made.named_parameters():
            trained = parameter.grad is not None or not parameter.requires_grad
            check(trained, f"no gradient reaches the parameter '{name}'")
        optimizer.step()


def _check_leaks(made: Encoder, x: Tensor, mask: Mask) -> None:
    grid = made.grid
    hidden = mask.hidden.reshape(ITEMS, grid.times, 1, grid.joints)
    hidden = hidden.expand(-1, -1, x.shape[1] // grid.times, -1).reshape(x.shape[:3])
    changed = x.masked_fill(hidden[..., None], 1e6)
    for when, training in (("while training", True), ("in evaluation", False)):
        made.train(training)
        same = torch.equal(_seeded(made, x, mask), _seeded(made, changed, mask))
        check(same, f"what the mask hides changes the features of visible tokens {when}")
    whole = made(x, mask)
    some = Mask(mask.keep, mask.hide[:, ::2])
    check(
        _close(made(x, some), whole),
        "a mask that names only some of the hidden tokens gives other features: what is not in keep is hidden",
    )
    for row in range(ITEMS):
        one = slice(row, row + 1)
        alone = made(x[one], Mask(mask.keep[one], mask.hide[one]))
        same = _close(alone, whole[one]) and _close(made(x[one]), made(x)[one])
        check(same, "in evaluation, an item's features depend on the batch around it")


def _check_visible_tokens(made: Encoder, x: Tensor, mask: Mask) -> None:
    visible = gather(patchify(x, made.grid), mask.keep)
    check(
        torch.equal(made(visible, mask), made(x, mask)),
        "given the visible tokens [N, K, P], features differ from those of joints [N, T, V, C]: "
        "take tokens from self.visible_tokens(x, mask)",
    )


def _seeded(made: Encoder, x: Tensor, mask: Mask) -> Tensor:
    torch.manual_seed(SEED)  # for dropout
    features: Tensor = made(x, mask)
    return features


def _close(found: Tensor, expected: Tensor) -> bool:
    """Return whether features are equal up to the rounding of sums in another order."""
    return bool((found - expected).abs().max() <= 1e-4 * expected.abs().max())
