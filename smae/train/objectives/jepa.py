"""S-JEPA: predict the teacher's features of masked tokens from the visible tokens."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import layer_norm, smooth_l1_loss

from smae.config import PluginConfig
from smae.data.loader import Batch
from smae.models import gather, joints_of
from smae.models.encoders import encode_measured
from smae.models.masking import mean_of_targets
from smae.rng import Noise
from smae.train.objectives import ModelBuilder, Objective, Preview, StepOutput, move_average, show_tokens


class SkeletonJEPA(Objective):
    """Joint-embedding prediction (S-JEPA, ECCV 2024, after I-JEPA, arXiv 2301.08243).

    Loss = mean over masked tokens of the smooth L1 distance between the decoder's prediction from
    visible tokens and the teacher's features of the whole clip. The teacher is an exponential
    moving average of the encoder: teacher = m teacher + (1 - m) encoder after each step, where m
    rises linearly to 1. Layer normalisation of targets (without weights), distance and momentum
    are those of I-JEPA and data2vec.
    """

    hides_missing = True
    preview_note = "Features are predicted, not positions: the mask alone is shown."

    class Config(PluginConfig):
        """Momentum of the teacher, scale of its features, and the loss."""

        momentum: float = Field(0.996, ge=0, lt=1, description="momentum of the teacher at the first step")
        normalise: Literal["token", "none"] = Field("token", description="token: each target by its mean and variance")
        beta: float = Field(1.0, gt=0, description="distance below which the loss is quadratic")

    def __init__(self, config: Config, builder: ModelBuilder) -> None:
        super().__init__()
        self.config = config
        self.encoder = builder.encoder()
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)
        self.grid = self.encoder.grid
        # The decoder predicts as many values a token as its grid says, here those of a feature.
        self.decoder = builder.decoder(replace(self.grid, patch=self.encoder.dim, channels=1), width=self.encoder.dim)
        self.masking = builder.masking(self.grid)

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Return the distance between predicted and target features of a batch's masked tokens."""
        mask, visible = show_tokens(self.masking, batch, self.grid, noise)
        target = gather(self.teach(batch.x, batch.missing), mask.hide)
        prediction: Tensor = self.decoder(self.encoder(visible, mask), mask)
        losses = smooth_l1_loss(prediction.float(), target, beta=self.config.beta, reduction="none")
        # Equal features for all tokens are trivial to predict: a spread near 0 shows a collapse.
        return StepOutput(mean_of_targets(losses, mask), {"teacher-spread": target.std((0, 1)).mean()})

    @torch.no_grad()
    def preview(self, batch: Batch, noise: Noise) -> Preview | None:
        """Return which joints of a batch are masked."""
        mask, _ = show_tokens(self.masking, batch, self.grid, noise)
        return Preview(joints_of(mask.hidden, self.grid), None)

    @torch.no_grad()
    def teach(self, x: Tensor, missing: Tensor | None = None) -> Tensor:
        """Return the targets [N, L, D] of x [N, T, V, C]: all measured tokens, no dropout."""
        features = encode_measured(self.teacher.eval(), x, missing).float()
        if self.config.normalise == "token":
            features = layer_norm(features, features.shape[-1:])
        return features

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Move the teacher towards the encoder, less so as training advances."""
        momentum = self.config.momentum + (1 - self.config.momentum) * progress
        move_average(self.teacher, self.encoder, momentum=momentum)
