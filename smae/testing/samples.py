"""Inputs of the contract suites: a small batch of moving bodies; and their assertion."""

from __future__ import annotations

import math
from typing import Any

import torch

from smae.config import PluginConfig
from smae.data.loader.batch import Batch
from smae.skeleton import Layout


def check(condition: bool, message: str) -> None:
    """Raise ``AssertionError`` with the message unless the condition holds.

    Raises:
        AssertionError: it does not. (The ``assert`` statement would be silent under ``python -O``.)
    """
    if not condition:
        raise AssertionError(message)


def check_config(plugin: Any, what: str) -> None:
    """Raise ``AssertionError`` unless a plug-in's class, called ``what``, has settings of its own."""
    config = getattr(plugin, "Config", None)
    is_config = isinstance(config, type) and issubclass(config, PluginConfig)
    check(is_config, f"{what} class needs a Config, a subclass of smae.config.PluginConfig")


def bodies(layout: Layout, *, items: int, frames: int, seed: int = 0) -> torch.Tensor:
    """Return joints float32 [N, T, V, 3], metres: people who stand and swing each joint at its own pace."""
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
        view=torch.arange(views).repeat_interleave(len(clip)),
    )
