"""Objectives: a pre-training method turns a batch and its noise into a loss."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from smae.config import PluginConfig
from smae.data.loader import Batch
from smae.data.loader.augment import ViewCrop
from smae.errors import ConfigError
from smae.models import Grid, patchify
from smae.models.encoders import Encoder, decoders, encoders
from smae.models.masking import Mask, Masking, mask_measured, maskings
from smae.registry import Registry
from smae.rng import Noise
from smae.skeleton import Layout
from smae.train.checkpoint import load_weights, resize_positions
from smae.train.distributed import gather_ranks

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepOutput:
    """Loss and metrics of a batch.

    Attributes:
        loss: scalar, to be differentiated.
        metrics: detached scalars, to be logged.
    """

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Preview:
    """A reconstruction for figures, in the units of the joints.

    Attributes:
        hidden: bool [N, T, V], true where joints were masked.
        rebuilt: float32 [N, T, V, 3], the input with masked joints replaced by the prediction; None
            where something else than positions is predicted.
    """

    hidden: Tensor
    rebuilt: Tensor | None


class Objective(nn.Module):
    """Base of all objectives. The loop calls ``forward`` and ``after_step``.

    Attributes:
        encoder: the encoder that is pre-trained.
        preview_note: a note shown beside previews.
        views: augmented views of each clip that a batch holds.
        crops: how each view is cropped, None for ``augment.crop``; empty: all by that.
        compares_clips: the loss compares the clips of a batch, so a step has no micro-batches.
        hides_missing: neither its encoder nor its loss takes joints that are ``Batch.missing``, so
            it can be trained on stores that lack some.
    """

    encoder: Encoder
    preview_note: str = ""
    views: int = 1
    crops: tuple[ViewCrop | None, ...] = ()
    compares_clips: bool = False
    hides_missing: bool = False

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Return the loss of a batch; ``noise`` is the only randomness besides torch's dropout."""
        raise TypeError(f"{type(self).__name__} must define forward(batch, noise)")

    def after_step(self, progress: float) -> None:
        """Called after each step with the finished share of training; updates a teacher."""

    def lr_scale(self, parameter: str) -> float:
        """Return the factor on the learning rate of a parameter."""
        return 1.0

    def preview(self, batch: Batch, noise: Noise) -> Preview | None:
        """Return what is masked in a batch and its reconstruction; None if nothing is."""
        return None


def show_tokens(masking: Masking, batch: Batch, grid: Grid, noise: Noise) -> tuple[Mask, Tensor]:
    """Return the mask of a batch and its visible tokens [N, K, P]; none is of a missing joint."""
    tokens, least = patchify(batch.x, grid), batch.least_joints
    return mask_measured(masking, tokens, noise, missing=batch.missing, least_joints=least)


class SharedBatchNorm(nn.BatchNorm1d):
    """Normalises by mean and variance over the batches of all ranks; torch's own form is for GPUs alone."""

    def forward(self, x: Tensor) -> Tensor:
        """Return rows [N, D], normalised."""
        if not self.training:
            return super().forward(x)
        every, own = gather_ranks(x[None])
        return super().forward(every[0])[own]


def projection_head(dim: int, *, hidden: int, out: int) -> nn.Sequential:
    """Return the map of features to the space where they are compared (SimCLR, section 4.2)."""
    return nn.Sequential(
        nn.Linear(dim, hidden, bias=False), SharedBatchNorm(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out)
    )


def info_nce(z: Tensor, keys: Tensor, own: Tensor, *, temperature: float) -> Tensor:
    """Return the InfoNCE loss, averaged over anchors and their positives (SimCLR, equation 1).

    An anchor's positives are the other views of its clip; all keys but itself are its candidates.

    Args:
        z: float [V, B, D], anchors, of unit length.
        keys: float [V, M, D], of unit length: those of all ranks, the anchors among them.
        own: int64 [B], where in 0..M-1 each anchor's clip is.
        temperature: divides the cosines.
    """
    views, clips, _ = z.shape
    scores = torch.einsum("vbd,wmd->vbwm", z, keys).float() / temperature
    same_clip = torch.zeros(clips, keys.shape[1], dtype=torch.bool, device=z.device)
    same_clip[torch.arange(clips, device=z.device), own] = True
    same_view = torch.eye(views, dtype=torch.bool, device=z.device)
    itself = same_view[:, None, :, None] & same_clip[None, :, None, :]
    everyone = scores.masked_fill(itself, -torch.inf).flatten(2).logsumexp(2)
    positives = scores.permute(0, 2, 1, 3)[:, :, same_clip].permute(0, 2, 1)  # [V, B, W]
    losses = everyone[..., None] - positives
    return losses.masked_select(~same_view[:, None].expand_as(losses)).mean()


def spread_metrics(features: Tensor) -> dict[str, Tensor]:
    """Return what warns of collapse, of features [V, B, D] of all ranks: ``spread`` and ``rank``.

    ``spread``: mean standard deviation of the coordinates of features of unit length, times
    sqrt(D): 1 for directions spread evenly, 0 for equal ones. ``rank``: (tr C)^2 / tr C^2 of their
    covariance C, the number of directions that they use.
    """
    every, _ = gather_ranks(features.detach().float())
    z = normalize(every.flatten(0, 1), dim=1)
    z = z - z.mean(0)
    covariance = z.T @ z / len(z)
    trace = covariance.diagonal().sum()
    spread = covariance.diagonal().sqrt().mean() * z.shape[1] ** 0.5
    return {"spread": spread, "rank": trace**2 / covariance.square().sum().clamp_min(1e-12)}


@torch.no_grad()
def move_average(average: nn.Module, current: nn.Module, *, momentum: float) -> None:
    """Set average = momentum x average + (1 - momentum) x current; buffers are copied."""
    for weight, target in zip(average.parameters(), current.parameters(), strict=True):
        weight.lerp_(target, 1 - momentum)
    for buffer, now in zip(average.buffers(), current.buffers(), strict=True):
        buffer.copy_(now)


@dataclass(frozen=True)
class ModelBuilder:
    """Builds an objective's encoder, decoder and masking from the run's settings."""

    layout: Layout
    frames: int
    encoder_config: PluginConfig
    decoder_config: PluginConfig
    masking_config: PluginConfig
    weights: dict[str, Tensor] | None = None
    """Weights that encoders start from, by name; None: random ones."""
    decoder_weights: dict[str, Tensor] | None = None
    """Weights that a decoder of the same shape starts from."""

    def encoder(self) -> Encoder:
        """Return a new encoder; a ``DataError`` if ``weights`` do not fit it."""
        made = encoders.get(self.encoder_config.name)(self.encoder_config, frames=self.frames, layout=self.layout)
        if self.weights is not None:
            load_weights(made, resize_positions(made, self.weights), where="init")
        return made

    def decoder(self, grid: Grid, *, width: int) -> nn.Module:
        """Return a new decoder of features of ``width``."""
        made = decoders.get(self.decoder_config.name)(self.decoder_config, grid=grid, width=width)
        if self.decoder_weights is not None:
            weights = resize_positions(made, self.decoder_weights)
            shapes = {name: tensor.shape for name, tensor in weights.items()}
            if shapes == {name: tensor.shape for name, tensor in made.state_dict().items()}:
                made.load_state_dict(weights)
                logger.info("the decoder starts from the imported weights too")
            else:
                logger.info("the decoder starts anew: the imported one is of another size")
        return made

    def masking(self, grid: Grid, *, may_be_none: bool = False) -> Masking:
        """Return a new masking; a ``ConfigError`` if it must hide something."""
        if self.masking_config.name == "none" and not may_be_none:
            raise ConfigError(
                "masking.name=none hides no token, and this objective predicts hidden ones: choose another masking"
            )
        return maskings.get(self.masking_config.name)(self.masking_config, grid, self.layout)


class ObjectiveClass(Protocol):
    """Protocol of plug-ins: an ``Objective`` class with a ``Config`` (a ``PluginConfig``)."""

    def __call__(self, config: Any, builder: ModelBuilder) -> Objective:
        """Build the objective."""


objectives: Registry[ObjectiveClass] = Registry(
    "objective",
    {
        "skeletonmae": "smae.train.objectives.reconstruct:SkeletonMAE",
        "mae": "smae.train.objectives.reconstruct:PlainMAE",
        "mamp": "smae.train.objectives.reconstruct:MAMP",
        "s-jepa": "smae.train.objectives.jepa:SkeletonJEPA",
        "simclr": "smae.train.objectives.contrast:SimCLR",
        "moco": "smae.train.objectives.contrast:MoCo",
        "vicreg": "smae.train.objectives.contrast:VICReg",
        "nn-tune": "smae.train.objectives.contrast:NNTune",
        "slim": "smae.train.objectives.slim:SLiM",
    },
)
