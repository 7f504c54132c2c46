"""Which tokens the encoder sees: every masking turns noise into kept and hidden token indices.

Polarity: ``keep`` holds what is visible, ``hide`` what must be reconstructed. Ratios in settings are of what is *kept*.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch
from pydantic import Field
from torch import Tensor

from smae.config import PluginConfig
from smae.errors import ConfigError
from smae.kernels import Choice, wanted
from smae.models.mask import Mask, kept_count, mask_from_kept, mask_from_scores
from smae.models.tokens import Grid, patchify
from smae.registry import Registry
from smae.rng import Noise
from smae.skeleton import Layout

__all__ = ["Mask", "Masking", "kept_count", "mask_from_kept", "mask_from_scores", "mask_of", "maskings"]


class Masking(Protocol):
    """What a masking plug-in is: built once per run, called once per batch."""

    def __call__(self, tokens: Tensor, noise: Noise) -> Mask:
        """Return the mask of tokens [N, L, P], using nothing random but ``noise``."""
        ...


MOST = 8192
"""Tokens of a clip that one program of a Triton kernel can hold."""

maskings: Registry[Callable[[Any, Grid, Layout], Masking]] = Registry(
    "masking",
    {
        "spatial-temporal": "smae.models.masking:SpatialTemporal",
        "random": "smae.models.masking:Uniform",
        "tube": "smae.models.masking:Tube",
        "body-part": "smae.models.masking:BodyPart",
        "motion-aware": "smae.models.masking:MotionAware",
    },
)
"""Name -> class with a ``Config`` (a ``PluginConfig``), built as ``cls(config, grid, layout)``."""


class _Config(PluginConfig):
    """What all built-in maskings share."""

    kernel: Choice = Field(
        "torch",
        description="auto: a fused kernel on a GPU that has Triton; the same masks, and not yet measured to be faster",
    )


class _Built(ABC):
    """Base of the built-in maskings: the same mask from torch, or from one kernel."""

    kernel: Choice

    def __call__(self, tokens: Tensor, noise: Noise) -> Mask:
        """Return the mask of tokens [N, L, P]."""
        fits = tokens.shape[1] <= MOST
        if wanted(self.kernel, on_gpu=tokens.is_cuda, setting="masking.kernel", fits=fits):
            return Mask(*self.fused(tokens, noise))
        return self.plain(tokens, noise)

    @abstractmethod
    def plain(self, tokens: Tensor, noise: Noise) -> Mask:
        """Return the mask, by torch."""

    @abstractmethod
    def fused(self, tokens: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``keep``, ``hide``, ``restore`` and the visible tokens, by a kernel."""


def mask_of(x: Tensor, noise: Noise, *, masking: Masking, grid: Grid) -> Mask:
    """Return the mask of joints x [N, T, V, C], which remembers that it is theirs."""
    return replace(masking(patchify(x, grid), noise), source=x)


def _stretches(length: int, grid: Grid) -> int:
    if grid.times % length:
        raise ConfigError(f"masking.length={length} must divide the clip's {grid.times} time patches")
    return grid.times // length


def _some_hidden(keep: int, total: int, what: str) -> int:
    if keep >= total:
        raise ConfigError(f"{what} would hide nothing: all {total} tokens are kept; lower the kept share")
    return keep


class SpatialTemporal(_Built):
    """Joint-level and frame-level masking at once: visible = kept time patches x kept joints, drawn per body.

    SkeletonMAE (arXiv 2209.02399) names the two levels; the product form and the shares are this project's choice.
    ``keep_frames = 1`` is joint-level masking alone, ``keep_joints = 1`` frame-level masking alone.
    """

    class Config(_Config):
        """Shares that stay visible."""

        keep_frames: float = Field(1 / 3, gt=0, le=1, description="share of time patches kept (10 of 30)")
        keep_joints: float = Field(0.32, gt=0, le=1, description="share of joints kept (8 of 25)")

    def __init__(self, config: Config, grid: Grid, layout: Layout) -> None:
        self.grid, self.kernel = grid, config.kernel
        self.times = kept_count(config.keep_frames, grid.times, setting="masking.keep_frames")
        self.joints = kept_count(config.keep_joints, grid.joints, setting="masking.keep_joints")
        _some_hidden(self.times * self.joints, grid.tokens, "masking spatial-temporal")

    def plain(self, tokens: Tensor, noise: Noise) -> Mask:
        """Return the mask, by torch."""
        times = mask_from_scores(noise.uniform("mask-frames", self.grid.times), self.times).keep
        joints = mask_from_scores(noise.uniform("mask-joints", self.grid.joints), self.joints).keep
        keep = (times[:, :, None] * self.grid.joints + joints[:, None, :]).flatten(1)
        return mask_from_kept(keep, self.grid)

    def fused(self, tokens: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``keep``, ``hide``, ``restore`` and the visible tokens, by a kernel."""
        from smae.models import masking_kernels as kernels

        return kernels.product(
            noise,
            ("mask-frames", "mask-joints"),
            tokens,
            times=self.grid.times,
            joints=self.grid.joints,
            keep_times=self.times,
            keep_joints=self.joints,
        )


class Uniform(_Built):
    """Every token alike: the lowest noise is kept (MAE, arXiv 2111.06377, section 3)."""

    class Config(_Config):
        """Share that stays visible."""

        keep: float = Field(0.1, gt=0, lt=1, description="share of tokens kept")

    def __init__(self, config: Config, grid: Grid, layout: Layout) -> None:
        self.tokens, self.kernel = grid.tokens, config.kernel
        self.keep = _some_hidden(kept_count(config.keep, grid.tokens, setting="masking.keep"), grid.tokens, "random")

    def plain(self, tokens: Tensor, noise: Noise) -> Mask:
        """Return the mask, by torch."""
        return mask_from_scores(noise.uniform("mask", self.tokens), self.keep)

    def fused(self, tokens: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``keep``, ``hide``, ``restore`` and the visible tokens, by a kernel."""
        from smae.models import masking_kernels as kernels

        return kernels.lowest(noise, "mask", tokens, keep=self.keep)


class Tube(_Built):
    """Whole stretches of a joint: each joint's time is cut into tubes, kept or hidden in one piece."""

    class Config(_Config):
        """Share that stays visible and the tubes' length."""

        keep: float = Field(0.1, gt=0, lt=1, description="share of tubes kept")
        length: int = Field(5, ge=1, description="time patches in a tube; must divide the clip's")

    def __init__(self, config: Config, grid: Grid, layout: Layout) -> None:
        self.grid, self.length, self.kernel = grid, config.length, config.kernel
        self.tubes = _stretches(config.length, grid) * grid.joints
        self.keep = _some_hidden(kept_count(config.keep, self.tubes, setting="masking.keep"), self.tubes, "tube")

    def plain(self, tokens: Tensor, noise: Noise) -> Mask:
        """Return the mask, by torch."""
        tubes = noise.uniform("mask", self.tubes).reshape(-1, self.grid.times // self.length, self.grid.joints)
        # Every token of a tube bears the tube's score, so a stable sort keeps or hides tubes whole.
        scores = tubes.repeat_interleave(self.length, 1).flatten(1)
        return mask_from_scores(scores, self.keep * self.length)

    def fused(self, tokens: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``keep``, ``hide``, ``restore`` and the visible tokens, by a kernel."""
        from smae.models import masking_kernels as kernels

        return kernels.tubes(
            noise, "mask", tokens, joints=self.grid.joints, length=self.length, keep=self.keep * self.length
        )


class BodyPart(_Built):
    """Whole body parts over stretches of time: arms, legs and torso stay or go in one piece.

    Parts differ in size, but every clip must keep equally many tokens: the last part kept may be cut.
    """

    class Config(_Config):
        """How many joints stay visible and for how long."""

        keep: float = Field(0.2, gt=0, lt=1, description="share of joints kept in each stretch")
        length: int = Field(5, ge=1, description="time patches in a stretch; must divide the clip's")

    def __init__(self, config: Config, grid: Grid, layout: Layout) -> None:
        self.stretches = _stretches(config.length, grid)
        self.grid, self.length, self.kernel = grid, config.length, config.kernel
        self.keep = _some_hidden(kept_count(config.keep, grid.joints, setting="masking.keep"), grid.joints, "body-part")
        part_of = {joint: number for number, joints in enumerate(layout.parts.values()) for joint in joints}
        self.part_of = torch.tensor([part_of[joint] for joint in range(grid.joints)], dtype=torch.int32)
        self.parts = max(part_of.values()) + 1

    def plain(self, tokens: Tensor, noise: Noise) -> Mask:
        """Return the mask, by torch."""
        joints = self.grid.joints
        rank = noise.uniform("mask-parts", self.stretches * self.parts).reshape(-1, self.stretches, self.parts)
        within = noise.uniform("mask", self.stretches * joints).reshape(-1, self.stretches, joints)
        # Two 24-bit numbers in one: the joint's rank only breaks ties within the part.
        scores = (rank.index_select(2, self._part_on(rank.device)) * 2.0**24).long() * 2**24 + (within * 2.0**24).long()
        kept = scores.argsort(dim=2, stable=True)[:, :, : self.keep].sort(2).values
        time = torch.arange(self.grid.times, device=kept.device)
        return mask_from_kept((time[:, None] * joints + kept.repeat_interleave(self.length, 1)).flatten(1), self.grid)

    def fused(self, tokens: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``keep``, ``hide``, ``restore`` and the visible tokens, by a kernel."""
        from smae.models import masking_kernels as kernels

        return kernels.body_parts(
            noise,
            ("mask-parts", "mask"),
            tokens,
            part_of=self._part_on(tokens.device),
            parts=self.parts,
            times=self.grid.times,
            length=self.length,
            keep=self.keep,
        )

    def _part_on(self, device: torch.device) -> Tensor:
        # Sent once, not at every step.
        self.part_of = self.part_of.to(device)
        return self.part_of


class MotionAware(_Built):
    """Moving tokens are hidden more often (MAMP, ICCV 2023, section 3.3).

    m = |patch_t - patch_(t-1)| averaged over a token's numbers (the first copies the second);
    p = softmax(m / (max over the clip * tau)); Gumbel noise is added to log p and the lowest are kept.
    """

    class Config(_Config):
        """Share that stays visible and the temperature."""

        keep: float = Field(0.1, gt=0, lt=1, description="share of tokens kept")
        tau: float = Field(0.8, gt=0, description="temperature: 0.80 for NTU-60 and PKU-MMD, 0.75 for NTU-120")

    def __init__(self, config: Config, grid: Grid, layout: Layout) -> None:
        if grid.times < 2:
            raise ConfigError("masking motion-aware needs two time patches or more: lower encoder.patch")
        self.grid, self.tau, self.kernel = grid, config.tau, config.kernel
        self.keep = _some_hidden(kept_count(config.keep, grid.tokens, setting="masking.keep"), grid.tokens, "motion")

    def plain(self, tokens: Tensor, noise: Noise) -> Mask:
        """Return the mask, by torch."""
        uniform = noise.uniform("mask", self.grid.tokens).double().clamp_min(2.0**-25)
        # Softmax subtracts one number from all of a clip's rates, which changes no order. In double precision and
        # rounded at the end, so that two devices' logarithms give one score.
        return mask_from_scores((self.rate(tokens) - torch.log(-torch.log(uniform))).float(), self.keep)

    def fused(self, tokens: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``keep``, ``hide``, ``restore`` and the visible tokens, by a kernel."""
        from smae.models import masking_kernels as kernels

        return kernels.motion_aware(noise, "mask", tokens, joints=self.grid.joints, tau=self.tau, keep=self.keep)

    def rate(self, tokens: Tensor) -> Tensor:
        """Return m / (max over the clip * tau), float64 [N, L]; its softmax is p, of being hidden first."""
        cut = tokens.float().reshape(-1, self.grid.times, self.grid.joints, self.grid.values)
        motion = (cut[:, 1:] - cut[:, :-1]).abs().double().mean(-1)
        motion = torch.cat([motion[:, :1], motion], 1).flatten(1)
        return motion / (motion.amax(1, keepdim=True).clamp_min(0.5**40) * self.tau)
