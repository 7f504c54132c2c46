"""The moving average of a model's weights, kept beside it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """Follows a model's weights: average = decay x average + (1 - decay) x weights, from the first step's weights on.

    torch's formula, without its ``AveragedModel``, which makes the host wait for a GPU at every update.

    Attributes:
        module: a copy of the model that holds the average; its buffers are the model's own.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        self._follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def update(self, model: nn.Module, *, first: bool) -> None:
        """Take in the weights after a step; the ``first`` ones are taken as they are."""
        mine: list[Any] = list(self.module.parameters())
        theirs: list[Any] = list(model.parameters())
        if first:
            torch._foreach_copy_(mine, theirs)
        else:
            self._follow(mine, theirs, None)
        for held, now in zip(self.module.buffers(), model.buffers(), strict=True):
            held.copy_(now)
