"""Optimisers and schedules, all torch's own: AdamW, decay on matrices only, linear warm-up and cosine by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

Groups = list[dict[str, Any]]


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]], *, lr: float, weight_decay: float, scale: Callable[[str], float]
) -> Groups:
    """Return AdamW's groups: no decay on 1-D parameters, learning rate times ``scale(name)``."""
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        decay = 0.0 if parameter.ndim <= 1 else weight_decay
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
    """Return the schedule, stepped once an optimiser step: linear from 0 over ``warmup``, cosine to ``floor`` x peak.

    A closed form of the step number (Loshchilov and Hutter, SGDR, 2017, equation 5), so that a resumed run has the very
    same learning rates.

    Args:
        optimizer: its groups' learning rates are the peaks.
        steps: optimiser steps in all.
        warmup: steps of them that warm up; cut to leave a step for the cosine.
        floor: last learning rate as a share of the peak.
    """
    warmup = min(warmup, steps - 1)

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

    return LambdaLR(optimizer, share)


def resume_schedule(schedule: LambdaLR, step: int) -> None:
    """Put a schedule and its optimiser's learning rates where ``step`` finished steps leave them."""
    # Not schedule.step(): torch takes one before the first optimiser step for a mistake and warns.
    schedule.last_epoch = step
    rates = [base * share(step) for base, share in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
