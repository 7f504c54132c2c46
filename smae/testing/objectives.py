"""The contract of an objective: a finite, repeatable loss, without labels, for the encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from smae.config import PluginConfig
from smae.data.loader.batch import Batch
from smae.models.decoders import decoders
from smae.models.encoders import Encoder, encoders
from smae.models.masking import maskings
from smae.skeleton import NTU25, Layout
from smae.testing.models import check, check_config, small_batch
from smae.train.objectives import ModelBuilder, Objective, StepOutput

SEED = 5


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
    made, again = (_build(objective, settings or {}, shop, seed=seed) for seed in (SEED, SEED + 1))
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


def _build(objective: Any, settings: dict[str, Any], shop: ModelBuilder, *, seed: int) -> Objective:
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
