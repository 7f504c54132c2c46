"""The pluggable trainers: an objective turns a batch and its noise into a loss, and owns all that this takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from smae.config import PluginConfig
from smae.data.loader.batch import Batch
from smae.models.decoders import decoders
from smae.models.encoders import Encoder, encoders
from smae.models.masking import Masking, maskings
from smae.models.tokens import Grid
from smae.registry import Registry
from smae.rng import Noise
from smae.skeleton import Layout


@dataclass(frozen=True)
class StepOutput:
    """What an objective returns for a batch.

    Attributes:
        loss: scalar, to be differentiated.
        metrics: scalars to be logged, detached.
    """

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Preview:
    """What an objective can show of itself, in the joints' own units.

    Attributes:
        hidden: bool [N, T, V], true where the encoder saw nothing.
        rebuilt: float32 [N, T, V, 3], the input with hidden joints replaced by the model's guess.
    """

    hidden: Tensor
    rebuilt: Tensor


class Objective(nn.Module):
    """Base of all objectives. The loop calls ``forward`` and ``after_step``; the rest of smae asks for ``encoder``.

    Attributes:
        encoder: what is being trained for use elsewhere.
        preview_note: what people should know when they look at previews.
    """

    encoder: Encoder
    preview_note: str = ""

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Return the loss of a batch, using nothing random but ``noise`` (and torch's dropout)."""
        raise TypeError(f"{type(self).__name__} must define forward(batch, noise)")

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step with the share of training done: a teacher moves here."""

    def preview(self, batch: Batch, noise: Noise) -> Preview | None:
        """Return what the objective makes of a batch, for pictures; ``None`` where it rebuilds nothing."""
        return None


@dataclass(frozen=True)
class ModelBuilder:
    """What an objective builds its parts from, as the run's settings name them."""

    layout: Layout
    frames: int
    encoder_config: PluginConfig
    decoder_config: PluginConfig
    masking_config: PluginConfig

    def encoder(self) -> Encoder:
        """Return a new encoder."""
        return encoders.get(self.encoder_config.name)(self.encoder_config, frames=self.frames, layout=self.layout)

    def decoder(self, grid: Grid, *, width: int) -> nn.Module:
        """Return a new decoder of features of ``width``."""
        return decoders.get(self.decoder_config.name)(self.decoder_config, grid=grid, width=width)

    def masking(self, grid: Grid) -> Masking:
        """Return the masking."""
        return maskings.get(self.masking_config.name)(self.masking_config, grid, self.layout)


class ObjectiveClass(Protocol):
    """What an objective plug-in is: an ``Objective`` class with a ``Config`` (a ``PluginConfig``)."""

    def __call__(self, config: Any, builder: ModelBuilder) -> Objective:
        """Build the objective."""
        ...


objectives: Registry[ObjectiveClass] = Registry(
    "objective",
    {
        "skeletonmae": "smae.train.objectives.reconstruct:SkeletonMAE",
        "mae": "smae.train.objectives.reconstruct:PlainMAE",
        "mamp": "smae.train.objectives.reconstruct:MAMP",
        "s-jepa": "smae.train.objectives.jepa:SkeletonJEPA",
    },
)
