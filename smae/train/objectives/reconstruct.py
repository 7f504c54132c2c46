"""Masked reconstruction: SkeletonMAE, and its nearest relatives MAE and MAMP, which differ in defaults alone."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from smae.config import PluginConfig
from smae.data.loader.batch import Batch
from smae.errors import ConfigError
from smae.models.decoders import CrossDecoder, thin
from smae.models.masking import Mask, mask_of
from smae.models.tokens import gather, unpatchify
from smae.rng import Noise
from smae.train.objectives import ModelBuilder, Objective, Preview, StepOutput
from smae.train.objectives.targets import Target, make_target, motion


class SkeletonMAE(Objective):
    """Rebuild hidden tokens from visible ones; mean squared error on hidden tokens of present bodies.

    Loss = mean over hidden tokens and their numbers of (prediction - target)^2 (SkeletonMAE, arXiv 2209.02399; MAE,
    section 3). Absent bodies are not in the batch, so they are neither encoded nor counted.
    """

    class Config(PluginConfig):
        """What is predicted, and on which scale."""

        target: Literal["coordinates", "motion"] = Field(
            "coordinates", description="joints, or their next-frame motion"
        )
        normalise: Literal["token", "clip", "movement", "body", "none"] = Field(
            "token", description="scale of the target"
        )
        floor: float = Field(1e-3, gt=0, description="metres: spread below which normalising stops to magnify")
        predict: float = Field(1.0, gt=0, le=1, description="share of hidden tokens predicted a step (cross decoder)")

    def __init__(self, config: Config, builder: ModelBuilder) -> None:
        super().__init__()
        self.config = config
        self.encoder = builder.encoder()
        self.grid = self.encoder.grid
        self.decoder = builder.decoder(self.grid, width=self.encoder.dim)
        self.masking = builder.masking(self.grid)
        if config.normalise != "none":
            self.preview_note = (
                f"The target is normalised by {config.normalise}: the decoder predicts shape and movement, while mean "
                "and scale are taken from the true clip to put its guess back in place."
            )
        if config.normalise in ("clip", "movement") and builder.frames < 2:
            raise ConfigError(
                f"objective.normalise={config.normalise} takes the spread over time, and augment.frames=1 leaves none: "
                "choose token, body or none, or more frames"
            )
        if config.predict < 1 and not isinstance(self.decoder, CrossDecoder):
            raise ConfigError(
                f"objective.predict={config.predict} needs decoder.name=cross: a decoder whose hidden tokens attend to "
                "each other must be given all of them"
            )

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Return the reconstruction loss of a batch."""
        mask = self._mask(batch.x, noise)
        if self.config.predict < 1:
            wanted = max(1, round(self.config.predict * mask.hide.shape[1]))
            mask = thin(mask, noise.uniform("predict", mask.hide.shape[1]), wanted)
        error = self.reconstruct(batch.x, mask) - gather(self._target(batch.x).tokens, mask.hide)
        return StepOutput(error.float().square().mean())

    def reconstruct(self, x: Tensor, mask: Mask) -> Tensor:
        """Return predictions [N, H, P] at the hidden tokens of joints x [N, T, V, C]: encode, then decode."""
        features = self.encoder(x, mask)
        prediction: Tensor = self.decoder(features, mask)
        return prediction

    @torch.no_grad()
    def preview(self, batch: Batch, noise: Noise) -> Preview | None:
        """Return the batch with its hidden joints rebuilt in metres; ``None`` for motion, which has no place."""
        if self.config.target == "motion":
            return None
        grid, mask, target = self.grid, self._mask(batch.x, noise), self._target(batch.x)
        guess = self.reconstruct(batch.x, mask).float()
        tokens = target.tokens.scatter(1, mask.hide[..., None].expand_as(guess), guess) * target.scale + target.mean
        hidden = unpatchify(mask.hidden[..., None].expand_as(tokens).float(), grid)[..., 0] > 0.5
        return Preview(hidden=hidden, rebuilt=unpatchify(tokens, grid))

    def _mask(self, x: Tensor, noise: Noise) -> Mask:
        return mask_of(x, noise, masking=self.masking, grid=self.grid)

    def _target(self, x: Tensor) -> Target:
        wanted = motion(x) if self.config.target == "motion" else x
        return make_target(wanted, self.grid, normalise=self.config.normalise, floor=self.config.floor)


class PlainMAE(SkeletonMAE):
    """MAE on skeletons: coordinates, per-token normalisation; the recipe masks uniformly."""


class MAMP(SkeletonMAE):
    """Masked Motion Prediction (ICCV 2023): the target is motion; the recipe masks where it is large."""

    class Config(SkeletonMAE.Config):
        """What is predicted, and on which scale."""

        target: Literal["coordinates", "motion"] = Field("motion", description="motion: that is what MAMP is")

    def __init__(self, config: Config, builder: ModelBuilder) -> None:
        if config.target != "motion":
            raise ConfigError(
                f"objective.target={config.target}: mamp is the prediction of motion; for coordinates choose "
                "objective.name=skeletonmae, with the same masking"
            )
        super().__init__(config, builder)
