"""Masking: which tokens the encoder sees, drawn from counter-based noise.

``keep`` holds the visible tokens, ``hide`` those to be predicted. Settings give the share *kept*.

Joints that a recording lacks, as its layout has none of that name, are never seen and never
predicted: they were not measured. A batch of several stores says which: ``missing``, bool [N, V].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch
from pydantic import Field, model_validator
from torch import Tensor

from smae.config import PluginConfig
from smae.errors import ConfigError
from smae.jit import KernelChoice, use_triton
from smae.models import Grid, gather
from smae.registry import Registry
from smae.rng import Noise
from smae.skeleton import Layout

MAX_KERNEL_TOKENS = 8192
"""Tokens of a clip that one program of a Triton kernel can hold."""

_STEPS = 2**24
"""Random numbers are multiples of 1 / this: as integers their sums do not round."""


class Mask:
    """Token indices of a batch; each row of ``keep`` and ``hide`` ascends.

    Attributes:
        keep: int64 [N, K], visible tokens.
        hide: int64 [N, L - K], hidden tokens; fewer where only some of them are to be predicted.
        restore: int64 [N, L], index of each token in ``cat(keep, hide)``: MAE's ``ids_restore``.
        missing: bool [N, L], hidden tokens that are no targets, see ``mask_measured``; None: none.
    """

    def __init__(
        self, keep: Tensor, hide: Tensor, restore: Tensor | None = None, missing: Tensor | None = None
    ) -> None:
        if restore is None:
            restore = torch.cat([keep, hide], 1).argsort(1)
        self.keep, self.hide, self.restore, self.missing = keep, hide, restore, missing

    @property
    def hidden(self) -> Tensor:
        """Bool [N, L], true where a token is hidden."""
        return torch.ones_like(self.restore, dtype=torch.bool).scatter_(1, self.keep, False)

    def subsample_hidden(self, scores: Tensor, count: int) -> Mask:
        """Return the mask with only the ``count`` hidden tokens of lowest scores [N, L - K]."""
        picked = scores.argsort(dim=1, stable=True)[:, :count].sort(1).values
        return Mask(self.keep, self.hide.gather(1, picked), self.restore, self.missing)


class Masking(Protocol):
    """What a masking plug-in is: built once per run, called once per batch."""

    def __call__(self, tokens: Tensor, noise: Noise) -> Mask:
        """Return the mask of tokens [N, L, P]; all randomness comes from ``noise``."""


maskings: Registry[Callable[[Any, Grid, Layout], Masking]] = Registry(
    "masking",
    {
        "spatial-temporal": "smae.models.masking:SpatialTemporalMasking",
        "random": "smae.models.masking:RandomMasking",
        "tube": "smae.models.masking:TubeMasking",
        "body-part": "smae.models.masking:BodyPartMasking",
        "motion-aware": "smae.models.masking:MotionAwareMasking",
        "joints-in-frames": "smae.models.masking:JointsInFramesMasking",
        "none": "smae.models.masking:NoMasking",
    },
)
"""Name -> class with a ``Config`` (a ``PluginConfig``), built as ``cls(config, grid, layout)``."""


def mask_tokens(masking: Masking, tokens: Tensor, noise: Noise) -> tuple[Mask, Tensor]:
    """Return the mask of tokens [N, L, P] and the visible ones [N, K, P]."""
    if isinstance(masking, _BuiltIn) and masking.uses_kernel(tokens):
        # The kernel has the kept tokens at hand and writes them in the same pass.
        return masking.fused(tokens, noise)
    mask = masking(tokens, noise)
    return mask, gather(tokens, mask.keep)


def missing_tokens(missing: Tensor, times: int) -> Tensor:
    """Return bool [N, L], the tokens of missing joints, bool [N, V], in ``times`` time patches."""
    return missing.repeat(1, times)


def mask_measured(
    masking: Masking, tokens: Tensor, noise: Noise, *, missing: Tensor | None, least_joints: int
) -> tuple[Mask, Tensor]:
    """Return the mask of tokens [N, L, P] and the visible ones, none of a missing joint.

    In a time patch, other joints take the place of missing ones that the masking would show: the
    same ones wherever it would show the same joints, so that whole joints stay whole. All items
    show equally many tokens, so at most those of a clip with ``least_joints``.

    Args:
        masking: draws the mask as if all joints were there.
        tokens: [N, L, P].
        noise: of the N items.
        missing: bool [N, V]; None: none is, and the mask is the masking's.
        least_joints: smallest number of joints that a clip has.
    """
    if missing is None:
        return mask_tokens(masking, tokens, noise)
    drawn, joints = masking(tokens, noise), missing.shape[1]
    lost = missing_tokens(missing, tokens.shape[1] // joints)
    shown = drawn.hidden.logical_not().view(len(tokens), -1, joints)
    draw = (noise.uniform("missing joints", joints) * _STEPS).long()[:, None]
    # Equal sets of shown joints have equal sums, and so the same order of substitutes.
    order = (draw + (draw * shown).sum(2, keepdim=True)) % _STEPS
    group = torch.where(missing[:, None], 2, shown.logical_not().long())
    rank = (group * _STEPS + order).argsort(dim=2, stable=True).argsort(dim=2)
    shown = ((rank < shown.sum(2, keepdim=True)) & ~missing[:, None]).flatten(1)
    count = min(drawn.keep.shape[1], least_joints * (tokens.shape[1] // joints))
    scores = noise.uniform("missing tokens", tokens.shape[1])
    scores = scores + shown.logical_not().float() + 2 * lost.float()
    mask = mask_from_scores(scores, count)
    mask.missing = lost
    return mask, gather(tokens, mask.keep)


def mean_of_targets(losses: Tensor, mask: Mask) -> Tensor:
    """Return the mean of losses [N, H, ...] at measured hidden tokens: of each item, then of all."""
    if mask.missing is None:
        return losses.mean()
    measured = mask.missing.gather(1, mask.hide).logical_not().to(losses.dtype)
    sums = (losses.flatten(2).mean(2) * measured).sum(1)
    return (sums / measured.sum(1).clamp_min(1)).mean()


def kept_count(ratio: float, total: int, *, setting: str) -> int:
    """Return how many of ``total`` a kept ``ratio``, which is in (0, 1], is: at least one."""
    if not 0 < ratio <= 1:
        raise ConfigError(f"{setting}: expected a share in (0, 1], found {ratio}")
    return max(1, round(ratio * total))


def mask_from_scores(scores: Tensor, keep: int) -> Mask:
    """Return the mask that keeps the ``keep`` lowest scores [N, L]; ties keep the lower index."""
    # The highest score that is kept is the threshold: finding it takes no full sort.
    threshold = scores.topk(keep, dim=1, largest=False, sorted=False).values.amax(1, keepdim=True)
    below, equal = scores < threshold, scores == threshold
    missing = keep - below.sum(1, keepdim=True)
    return _mask_from_flags(below | (equal & (equal.cumsum(1) <= missing)), keep)


def mask_from_kept(keep: Tensor, grid: Grid) -> Mask:
    """Return the mask of kept indices [N, K]; all other tokens of the grid are hidden."""
    flags = torch.zeros(len(keep), grid.tokens, dtype=torch.bool, device=keep.device)
    return _mask_from_flags(flags.scatter_(1, keep, True), keep.shape[1])


def _mask_from_flags(kept: Tensor, keep: int) -> Mask:
    """Return the mask of flags [N, L], ``keep`` of them set in each row."""
    # By counting: no sort, and no size that the host would have to wait for.
    token = torch.arange(kept.shape[1], device=kept.device).expand_as(kept)
    kept_so_far = kept.cumsum(1)
    restore = torch.where(kept, kept_so_far - 1, keep + token - kept_so_far)
    order = torch.empty_like(restore).scatter_(1, restore, token)
    return Mask(order[:, :keep], order[:, keep:], restore)


class _Config(PluginConfig):
    """Settings that all built-in maskings share."""

    kernel: KernelChoice = Field(
        "torch",
        description="auto: a fused kernel on a GPU that has Triton; the same masks, and not yet measured to be faster",
    )


class _KeepConfig(_Config):
    """Share that stays visible; ``mask_ratio``, the share that is masked, may be given instead."""

    keep: float = Field(
        0.1, gt=0, lt=1, description="share of tokens kept; or give mask_ratio, the share masked: 1 - keep"
    )

    @model_validator(mode="before")
    @classmethod
    def _keep_from_mask_ratio(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "mask_ratio" not in values:
            return values
        ratio = values["mask_ratio"]
        if not isinstance(ratio, int | float) or not 0 < ratio < 1:
            raise ValueError(f"mask_ratio: expected a number between 0 and 1, found {ratio!r}")
        # Rounded, so that 0.9 is 0.1 kept and not 0.09999999999999998.
        keep = round(1 - ratio, 12)
        if "keep" in values:
            raise ValueError(
                f"keep={values['keep']} and mask_ratio={ratio} are both given (perhaps one by the "
                f"recipe): give only keep={keep}"
            )
        return {key: value for key, value in values.items() if key != "mask_ratio"} | {"keep": keep}


class _BuiltIn(ABC):
    """Base of the built-in maskings: torch and one Triton kernel draw the same mask."""

    kernel: KernelChoice

    def __call__(self, tokens: Tensor, noise: Noise) -> Mask:
        if self.uses_kernel(tokens):
            return self.fused(tokens, noise)[0]
        return self._draw(tokens, noise)

    def uses_kernel(self, tokens: Tensor) -> bool:
        """Return whether the Triton kernel draws the mask of tokens [N, L, P]."""
        fits = tokens.shape[1] <= MAX_KERNEL_TOKENS
        return use_triton(self.kernel, on_gpu=tokens.is_cuda, setting="masking.kernel", fits=fits)

    def fused(self, tokens: Tensor, noise: Noise) -> tuple[Mask, Tensor]:
        """Return the mask and the visible tokens, by the kernel."""
        from smae.models import masking_kernels

        keep, hide, restore, visible = self._launch(masking_kernels, tokens, noise)
        return Mask(keep, hide, restore), visible

    @abstractmethod
    def _draw(self, tokens: Tensor, noise: Noise) -> Mask:
        """Return the mask, by torch."""

    @abstractmethod
    def _launch(self, kernels: Any, tokens: Tensor, noise: Noise) -> Any:
        """Return ``keep``, ``hide``, ``restore`` and the visible tokens, by the kernel."""


def _segments(length: int, grid: Grid) -> int:
    if grid.times % length:
        raise ConfigError(f"masking.length={length} must divide the clip's {grid.times} time patches")
    return grid.times // length


def _keep_of(config: _KeepConfig, total: int, masking: str) -> int:
    return _check_hides(kept_count(config.keep, total, setting="masking.keep"), total, masking)


def _check_hides(keep: int, total: int, masking: str) -> int:
    if keep >= total:
        raise ConfigError(f"masking {masking} would hide nothing: all {total} are kept; lower the kept share")
    return keep


class JointsInFramesMasking:
    """Joints are hidden only inside chosen time patches: the paper's levels read otherwise."""

    class Config(PluginConfig):
        """How many time patches are chosen, and what is hidden in them."""

        frames: float = Field(0.9, gt=0, le=1, description="share of time patches in which joints are hidden")
        joints: float = Field(0.9, gt=0, le=1, description="share of joints hidden in such a patch")

    def __init__(self, config: Config, grid: Grid, layout: Layout) -> None:
        self.grid = grid
        self.frames = kept_count(config.frames, grid.times, setting="masking.frames")
        self.joints = kept_count(config.joints, grid.joints, setting="masking.joints")
        if self.frames * self.joints >= grid.tokens:
            raise ConfigError("masking joints-in-frames would hide all: lower masking.frames or masking.joints")

    def __call__(self, tokens: Tensor, noise: Noise) -> Mask:
        times, joints = self.grid.times, self.grid.joints
        chosen = mask_from_scores(noise.uniform("mask-frames", times), self.frames).hidden.logical_not()
        rank = noise.uniform("mask", times * joints).unflatten(1, (times, joints)).argsort(2).argsort(2)
        hidden = chosen[..., None] & (rank < self.joints)
        return mask_from_scores(hidden.flatten(1).float(), self.grid.tokens - self.frames * self.joints)


class NoMasking:
    """All tokens are visible: for objectives that compare views."""

    class Config(PluginConfig):
        """No settings."""

    def __init__(self, config: Config, grid: Grid, layout: Layout) -> None:
        self.tokens = grid.tokens

    def __call__(self, tokens: Tensor, noise: Noise) -> Mask:
        keep = torch.arange(self.tokens, device=tokens.device).expand(len(tokens), -1)
        return Mask(keep, keep[:, :0], keep)


class SpatialTemporalMasking(_BuiltIn):
    """Joint-level and frame-level masking: visible = kept time patches x kept joints, per body.

    SkeletonMAE (arXiv 2209.02399) names the two levels; the product form and the shares are this
    project's choice. ``keep_frames = 1`` is joint-level masking alone, ``keep_joints = 1``
    frame-level masking alone.
    """

    class Config(_Config):
        """Shares that stay visible."""

        keep_frames: float = Field(1 / 3, gt=0, le=1, description="share of time patches kept (10 of 30)")
        keep_joints: float = Field(0.32, gt=0, le=1, description="share of joints kept (8 of 25)")

    def __init__(self, config: Config, grid: Grid, layout: Layout) -> None:
        self.grid, self.kernel = grid, config.kernel
        self.times = kept_count(config.keep_frames, grid.times, setting="masking.keep_frames")
        self.joints = kept_count(config.keep_joints, grid.joints, setting="masking.keep_joints")
        _check_hides(self.times * self.joints, grid.tokens, "spatial-temporal")

    def _draw(self, tokens: Tensor, noise: Noise) -> Mask:
        times = mask_from_scores(noise.uniform("mask-frames", self.grid.times), self.times).keep
        joints = mask_from_scores(noise.uniform("mask-joints", self.grid.joints), self.joints).keep
        keep = (times[:, :, None] * self.grid.joints + joints[:, None, :]).flatten(1)
        return mask_from_kept(keep, self.grid)

    def _launch(self, kernels: Any, tokens: Tensor, noise: Noise) -> Any:
        keep = (self.times, self.joints)
        return kernels.spatial_temporal(noise, tokens, times=self.grid.times, keep=keep)


class RandomMasking(_BuiltIn):
    """Uniform random: the tokens of lowest noise are kept (MAE, arXiv 2111.06377, section 3)."""

    class Config(_KeepConfig):
        """Share that stays visible."""

    def __init__(self, config: Config, grid: Grid, layout: Layout) -> None:
        self.kernel, self.tokens = config.kernel, grid.tokens
        self.keep = _keep_of(config, grid.tokens, "random")

    def _draw(self, tokens: Tensor, noise: Noise) -> Mask:
        return mask_from_scores(noise.uniform("mask", self.tokens), self.keep)

    def _launch(self, kernels: Any, tokens: Tensor, noise: Noise) -> Any:
        return kernels.random(noise, tokens, keep=self.keep)


class TubeMasking(_BuiltIn):
    """Each joint's time is cut into tubes, which are kept or hidden as a whole."""

    class Config(_KeepConfig):
        """Share that stays visible and the tubes' length."""

        length: int = Field(5, ge=1, le=4096, description="time patches in a tube; must divide the clip's")

    def __init__(self, config: Config, grid: Grid, layout: Layout) -> None:
        self.grid, self.length, self.kernel = grid, config.length, config.kernel
        self.tubes = _segments(config.length, grid) * grid.joints
        self.keep = self.length * _keep_of(config, self.tubes, "tube")

    def _draw(self, tokens: Tensor, noise: Noise) -> Mask:
        segments = self.grid.times // self.length
        tubes = noise.uniform("mask", self.tubes).reshape(-1, segments, self.grid.joints)
        # All tokens of a tube have the tube's score, so the lowest scores are whole tubes.
        return mask_from_scores(tubes.repeat_interleave(self.length, 1).flatten(1), self.keep)

    def _launch(self, kernels: Any, tokens: Tensor, noise: Noise) -> Any:
        joints = self.grid.joints
        return kernels.tube(noise, tokens, joints=joints, length=self.length, keep=self.keep)


class BodyPartMasking(_BuiltIn):
    """Arms, legs and torso are kept or hidden as a whole, anew in each segment of time.

    Parts differ in size, but every clip must keep equally many tokens: the last part may be cut.
    """

    class Config(_KeepConfig):
        """Share of joints that stays visible and for how long."""

        keep: float = Field(
            0.2,
            gt=0,
            lt=1,
            description="share of joints kept in a segment; or give mask_ratio, the share masked: 1 - keep",
        )
        length: int = Field(5, ge=1, le=4096, description="time patches in a segment; must divide the clip's")

    def __init__(self, config: Config, grid: Grid, layout: Layout) -> None:
        self.segments = _segments(config.length, grid)
        self.grid, self.length, self.kernel = grid, config.length, config.kernel
        self.keep = _keep_of(config, grid.joints, "body-part")
        self.parts = len(layout.parts)
        part_of = {joint: part for part, joints in enumerate(layout.parts.values()) for joint in joints}
        self.part_of = torch.tensor([part_of[joint] for joint in range(grid.joints)], dtype=torch.int32)

    def _draw(self, tokens: Tensor, noise: Noise) -> Mask:
        joints = self.grid.joints
        rank = noise.uniform("mask-parts", self.segments * self.parts).unflatten(1, (-1, self.parts))
        within = noise.uniform("mask", self.segments * joints).unflatten(1, (-1, joints))
        # Two 24-bit numbers in one: the joint's noise only orders joints within a part.
        part = rank.index_select(2, self._part_on(rank.device))
        scores = (part * 2.0**24).long() * 2**24 + (within * 2.0**24).long()
        kept = scores.argsort(dim=2, stable=True)[:, :, : self.keep].sort(2).values
        time = torch.arange(self.grid.times, device=kept.device)
        keep = time[:, None] * joints + kept.repeat_interleave(self.length, 1)
        return mask_from_kept(keep.flatten(1), self.grid)

    def _launch(self, kernels: Any, tokens: Tensor, noise: Noise) -> Any:
        part_of, keep = self._part_on(tokens.device), self.keep
        return kernels.body_part(noise, tokens, part_of=part_of, parts=self.parts, length=self.length, keep=keep)

    def _part_on(self, device: torch.device) -> Tensor:
        # Stored, so that the table is sent to the device once and not at every step.
        self.part_of = self.part_of.to(device)
        return self.part_of


class MotionAwareMasking(_BuiltIn):
    """Moving tokens are hidden more often (MAMP, ICCV 2023, section 3.3).

    m = |patch_t - patch_(t-1)| averaged over a token's numbers (the first copies the second);
    p = softmax(m / (max over the clip * tau)); Gumbel noise is added to log p, the lowest are kept.
    """

    class Config(_KeepConfig):
        """Share that stays visible and the temperature."""

        tau: float = Field(0.8, gt=0, description="temperature: 0.80 for NTU-60 and PKU-MMD, 0.75 for NTU-120")

    def __init__(self, config: Config, grid: Grid, layout: Layout) -> None:
        if grid.times < 2:
            raise ConfigError("masking motion-aware needs two time patches or more: lower encoder.patch")
        self.grid, self.tau, self.kernel = grid, config.tau, config.kernel
        self.keep = _keep_of(config, grid.tokens, "motion-aware")

    def _draw(self, tokens: Tensor, noise: Noise) -> Mask:
        uniform = noise.uniform("mask", self.grid.tokens).double().clamp_min(2.0**-25)
        # Softmax subtracts one number from all rates of a clip, which changes no order. In double
        # precision and rounded at the end, so that the logarithms of two devices give one score.
        scores = self.rate(tokens) - torch.log(-torch.log(uniform))
        return mask_from_scores(scores.float(), self.keep)

    def _launch(self, kernels: Any, tokens: Tensor, noise: Noise) -> Any:
        joints = self.grid.joints
        return kernels.motion_aware(noise, tokens, joints=joints, tau=self.tau, keep=self.keep)

    def rate(self, tokens: Tensor) -> Tensor:
        """Return m / (max over the clip * tau), float64 [N, L]; its softmax is p."""
        patches = tokens.float().reshape(-1, self.grid.times, self.grid.joints, self.grid.values)
        motion = (patches[:, 1:] - patches[:, :-1]).abs().double().mean(-1)
        motion = torch.cat([motion[:, :1], motion], 1).flatten(1)
        return motion / (motion.amax(1, keepdim=True).clamp_min(0.5**40) * self.tau)
