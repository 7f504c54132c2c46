"""Optimiser, schedule and weight averaging: AdamW, linear warm-up and cosine by step, EMA."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

ParameterGroups = list[dict[str, Any]]


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]], *, lr: float, weight_decay: float, scale: Callable[[str], float]
) -> ParameterGroups:
    """Return AdamW's groups: no decay on 1-D parameters, learning rate times ``scale(name)``."""
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        decay = weight_decay
        if parameter.ndim <= 1:
            decay = 0.0
        key = (lr * scale(name), decay)
        groups.setdefault(key, {"params": [], "lr": key[0], "weight_decay": decay})["params"].append(parameter)
    return list(groups.values())


def adamw(
    module: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    scale: Callable[[str], float] = lambda name: 1.0,
) -> torch.optim.AdamW:
    """Return AdamW over a module's trainable parameters (Loshchilov and Hutter, 2019)."""
    groups = parameter_groups(module.named_parameters(), lr=lr, weight_decay=weight_decay, scale=scale)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)


def warmup_cosine(optimizer: torch.optim.Optimizer, *, steps: int, warmup: int, floor: float) -> LambdaLR:
    """Return a schedule by step: linear from 0 over ``warmup``, then cosine to ``floor`` x peak.

    A closed form of the step number (Loshchilov and Hutter, SGDR, 2017, equation 5), so a resumed
    run has exactly the same learning rates.

    Args:
        optimizer: its groups' learning rates are the peaks.
        steps: optimiser steps in all.
        warmup: steps of them that warm up; reduced so that one step is left for the cosine.
        floor: last learning rate as a fraction of the peak.
    """
    warmup = min(warmup, steps - 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

    return LambdaLR(optimizer, factor)


def resume_schedule(schedule: LambdaLR, step: int) -> None:
    """Set a schedule and its optimiser's learning rates to their state after ``step`` steps."""
    # Not schedule.step(), because torch warns when it is called before the first optimiser step.
    schedule.last_epoch = step
    rates = [base * factor(step) for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


class EMA:
    """Exponential moving average: average = decay x average + (1 - decay) x weights.

    It starts from the weights after the first step. torch's ``AveragedModel`` has the same formula,
    but makes the host wait for a GPU at every update.

    Attributes:
        module: a copy of the model that holds the average; its buffers are copies of the model's.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def update(self, model: nn.Module, *, first: bool) -> None:
        """Average in the weights after a step; after the ``first`` one they are copied."""
        averages: list[Any] = list(self.module.parameters())
        weights: list[Any] = list(model.parameters())
        if first:
            torch._foreach_copy_(averages, weights)
        else:
            self._average(averages, weights, None)
        for own, current in zip(self.module.buffers(), model.buffers(), strict=True):
            own.copy_(current)
