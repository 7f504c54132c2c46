"""The contracts of an encoder, a masking and an objective; small inputs for tests.

An encoder gives features of visible tokens, independent of all others. A masking gives exact
partitions, by noise alone, the same in any batch. An objective gives a finite, repeatable loss,
without labels, that trains its encoder.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from smae.config import PluginConfig
from smae.data.loader import Batch
from smae.models import Grid, gather, patchify
from smae.models.encoders import Encoder, decoders, encoders
from smae.models.masking import Mask, Masking, mask_from_scores, maskings
from smae.rng import Noise
from smae.skeleton import NTU25, Layout
from smae.train.objectives import ModelBuilder, Objective, StepOutput

ITEMS = 3
MASKED_ITEMS = 6
SEED = 5


def check(condition: bool, message: str) -> None:
    """Raise ``AssertionError`` unless the condition holds, also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def check_config(plugin: Any, what: str) -> None:
    """Raise ``AssertionError`` unless the plug-in's class ``what`` has settings of its own."""
    config = getattr(plugin, "Config", None)
    is_config = isinstance(config, type) and issubclass(config, PluginConfig)
    check(is_config, f"{what} class needs a Config, a subclass of smae.config.PluginConfig")


def bodies(layout: Layout, *, items: int, frames: int, seed: int = 0) -> torch.Tensor:
    """Return joints float32 [N, T, V, 3], metres: bodies whose joints swing, each at its pace."""
    generator = torch.Generator().manual_seed(seed)
    position, swing = (torch.randn(items, 1, len(layout), 3, generator=generator) for _ in range(2))
    pace = 1 + 3 * torch.rand(items, 1, len(layout), 1, generator=generator)
    time = torch.linspace(0, 2 * math.pi, frames)[None, :, None, None]
    return 0.5 * position + 0.1 * swing * torch.sin(pace * time)


def small_batch(layout: Layout, *, frames: int, clips: int = 4, seed: int = 0, label: int = 0, views: int = 1) -> Batch:
    """Return a batch of ``clips`` clips on the CPU; the first has two bodies, the others one."""
    clip = torch.tensor([0, *range(clips)])
    x = bodies(layout, items=clips + 1, frames=frames, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    changed = [x, *(x + 0.05 * torch.randn(x.shape, generator=generator) for _ in range(views - 1))]
    return Batch(
        x=torch.cat(changed),
        clip=clip.repeat(views),
        body=torch.tensor([0, 1, *[0] * (clips - 1)]).repeat(views),
        index=100 + 7 * torch.arange(clips),
        label=torch.full((clips,), label),
        epoch=3,
        views=views,
        view=None if views == 1 else torch.arange(views).repeat_interleave(len(clip)),
    )


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
    check_config(encoder, "an encoder")
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
    check(isinstance(getattr(made, "grid", None), Grid), "encoder.grid must be a smae.models.Grid")
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


def check_masking(
    masking: Any, *, settings: dict[str, Any] | None = None, layout: Layout = NTU25, frames: int = 40, patch: int = 4
) -> None:
    """Check a masking class for all that smae relies on.

    Args:
        masking: the class named by an entry point of ``smae.maskings``.
        settings: settings of its ``Config``; its defaults when left out.
        layout: arrangement of joints.
        frames: frames of the clips, a multiple of ``patch``.
        patch: frames in a token.

    Raises:
        AssertionError: the first rule that is broken, in words.
    """
    check_config(masking, "a masking")
    grid = Grid.cut(frames, joints=len(layout), patch=patch)
    made: Masking = masking(masking.Config(**(settings or {})), grid, layout)
    tokens = patchify(bodies(layout, items=MASKED_ITEMS, frames=frames), grid)
    clip, body = torch.tensor([3, 3, 8, 20, 21, 500]), torch.tensor([0, 1, 0, 0, 1, 0])
    before, mask = tokens.clone(), made(tokens, Noise(1, 0, clip, body))
    check(torch.equal(tokens, before), "the tokens given to a masking were changed in place")
    _check_partition(mask, grid)
    _check_noise(made, tokens, clip, body, mask)


def _check_partition(mask: Mask, grid: Grid) -> None:
    keep, hide = mask.keep, mask.hide
    check(keep.dtype == hide.dtype == torch.int64, f"keep and hide must be int64, found {keep.dtype} and {hide.dtype}")
    check(
        keep.ndim == hide.ndim == 2 and len(keep) == len(hide) == MASKED_ITEMS,
        "keep and hide must be [N, K] and [N, L - K]",
    )
    check(keep.shape[1] > 0 and hide.shape[1] > 0, "a mask must keep something and hide something")
    check(_ascending(keep) and _ascending(hide), "each row of keep and hide must ascend")
    every = torch.cat([keep, hide], 1).sort(1).values
    check(
        torch.equal(every, torch.arange(grid.tokens).expand(MASKED_ITEMS, -1)),
        f"each row of keep and hide together must hold each of the {grid.tokens} tokens once",
    )


def _ascending(index: Tensor) -> bool:
    return bool((index[:, 1:] > index[:, :-1]).all())


def _check_noise(made: Masking, tokens: Tensor, clip: Tensor, body: Tensor, mask: Mask) -> None:
    torch.manual_seed(99)
    check(_same(made(tokens, Noise(1, 0, clip, body)), mask), "the same tokens and noise gave another mask")
    for rows in (torch.tensor([2]), torch.tensor([5, 0, 3])):
        part = made(tokens[rows], Noise(1, 0, clip[rows], body[rows]))
        check(_same(part, Mask(mask.keep[rows], mask.hide[rows])), "an item's mask depends on the batch around it")
    others = (
        ("epoch", Noise(1, 1, clip, body)),
        ("seed", Noise(2, 0, clip, body)),
        ("clip", Noise(1, 0, clip + 1000, body)),
    )
    for what, noise in others:
        changed = made(tokens, noise)
        check(changed.keep.shape == mask.keep.shape, "the number of kept tokens must not depend on the noise")
        check(not _same(changed, mask), f"another {what} gave the same masks: is the noise used?")


def _same(one: Mask, other: Mask) -> bool:
    return torch.equal(one.keep, other.keep) and torch.equal(one.hide, other.hide)


def small_builder(layout: Layout = NTU25, *, frames: int = 24, masking: PluginConfig | None = None) -> ModelBuilder:
    """Return what objectives build from, at the smallest useful size: one block of width 16."""
    size = {"dim": 16, "depth": 1, "heads": 2}
    config = {
        "encoder": encoders.get("vit").Config(name="vit", patch=4, **size),  # type: ignore[attr-defined]
        "decoder": decoders.get("self").Config(name="self", **size),  # type: ignore[attr-defined]
        "masking": masking or maskings.get("random").Config(name="random", keep=0.3),  # type: ignore[attr-defined]
    }
    return ModelBuilder(layout, frames, config["encoder"], config["decoder"], config["masking"])


def check_objective(
    objective: Any, *, settings: dict[str, Any] | None = None, builder: ModelBuilder | None = None
) -> None:
    """Check an objective class for all that the loop, checkpoints and evaluation rely on.

    Args:
        objective: the class named by an entry point of ``smae.objectives``.
        settings: settings of its ``Config``; its defaults when left out.
        builder: what it builds its parts from; the smallest useful one when left out.

    Raises:
        AssertionError: the first rule that is broken, in words.
    """
    check_config(objective, "an objective")
    shop = builder or small_builder()
    made, again = (_objective(objective, settings or {}, shop, seed=seed) for seed in (SEED, SEED + 1))
    check(isinstance(made, Objective), "an objective must be a smae.train.objectives.Objective")
    check(
        isinstance(made.encoder, Encoder), "objective.encoder must be the smae.models.encoders.Encoder that it trains"
    )
    batch = small_batch(shop.layout, frames=shop.frames, views=made.views)
    _check_loss(made, batch)
    _check_training(made, batch)
    again.load_state_dict(made.state_dict())
    check(
        torch.equal(_loss(again, batch).loss, _loss(made, batch).loss),
        "a fresh objective with this one's state_dict gives another loss: keep all state in parameters and buffers",
    )
    _check_preview(made, batch)


def _objective(objective: Any, settings: dict[str, Any], shop: ModelBuilder, *, seed: int) -> Objective:
    torch.manual_seed(seed)
    made: Objective = objective(objective.Config(**settings), shop)
    made.train()
    return made


def _loss(made: Objective, batch: Batch) -> StepOutput:
    torch.manual_seed(SEED)
    output: StepOutput = made(batch, batch.noise(SEED))
    return output


def _check_loss(made: Objective, batch: Batch) -> None:
    before, output = batch.x.clone(), _loss(made, batch)
    check(isinstance(output, StepOutput), f"forward must return a StepOutput, found {type(output).__name__}")
    check(output.loss.shape == () and bool(output.loss.isfinite()), f"loss must be one finite number: {output.loss}")
    check(output.loss.requires_grad, "loss must be differentiable")
    for name, value in output.metrics.items():
        check(value.numel() == 1 and not value.requires_grad, f"metric {name} must be one number, detached")
    check(torch.equal(batch.x, before), "batch.x was changed in place")
    check(torch.equal(_loss(made, batch).loss, output.loss), "the same batch and noise gave another loss")
    other = replace(batch, label=batch.label + 1)
    check(
        torch.equal(_loss(made, other).loss, output.loss), "the loss depends on the labels: they are not for training"
    )


def _check_training(made: Objective, batch: Batch) -> None:
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-3)
    before = {name: value.detach().clone() for name, value in made.encoder.named_parameters()}
    for step in range(1, 3):
        optimizer.zero_grad()
        _loss(made, batch).loss.backward()  # type: ignore[no-untyped-call]
        for name, parameter in made.named_parameters():
            finite = parameter.grad is None or bool(parameter.grad.isfinite().all())
            check(finite, f"gradient of {name} is not finite")
        optimizer.step()
        made.after_step(step / 2)
    after = dict(made.encoder.named_parameters())
    moved = any(not torch.equal(after[name], value) for name, value in before.items())
    check(moved, "two optimiser steps left every weight of objective.encoder as it was")
    floats = [value for value in made.state_dict().values() if value.is_floating_point()]
    finite = all(bool(value.isfinite().all()) for value in floats)
    check(finite, "two optimiser steps made the weights non-finite")


def _check_preview(made: Objective, batch: Batch) -> None:
    preview = made.preview(batch, batch.noise(SEED))
    if preview is None:
        return
    hidden, rebuilt = preview.hidden, preview.rebuilt
    check(hidden.shape == batch.x.shape[:3], f"preview.hidden must be [N, T, V], found {hidden.shape}")
    check(hidden.dtype == torch.bool, f"preview.hidden must be bool, found {hidden.dtype}")
    if rebuilt is None:
        return
    check(rebuilt.shape == batch.x.shape, f"preview.rebuilt must be [N, T, V, 3], found {rebuilt.shape}")
    same = torch.allclose(rebuilt[~hidden], batch.x[~hidden], atol=1e-4)
    check(same, "preview.rebuilt must leave visible joints where they are")
