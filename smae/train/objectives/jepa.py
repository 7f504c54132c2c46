"""S-JEPA: hidden tokens' features, as a slowly moving teacher sees them, are predicted from the visible tokens."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import layer_norm, smooth_l1_loss

from smae.config import PluginConfig
from smae.data.loader.batch import Batch
from smae.models.masking import mask_of
from smae.models.tokens import gather
from smae.rng import Noise
from smae.train.objectives import ModelBuilder, Objective, StepOutput


class SkeletonJEPA(Objective):
    """Joint-embedding prediction (S-JEPA, ECCV 2024, after I-JEPA, arXiv 2301.08243).

    Loss = mean over hidden tokens of the smooth L1 distance between what the decoder predicts from visible tokens and
    the teacher's features of the whole clip. The teacher is a moving average of the encoder: teacher = m teacher +
    (1 - m) encoder after each step, m rising linearly to 1. That targets are layer-normalised without weights, the
    distance and the momentum are I-JEPA's and data2vec's, taken over by this project.
    """

    preview_note = "Features are predicted, not joints: there is nothing to show."

    class Config(PluginConfig):
        """How slowly the teacher follows, and on which scale its features are wanted."""

        momentum: float = Field(0.996, ge=0, lt=1, description="share of the teacher that stays at the first step")
        normalise: Literal["token", "none"] = Field("token", description="token: each target by its mean and variance")
        beta: float = Field(1.0, gt=0, description="distance below which the loss is quadratic")

    def __init__(self, config: Config, builder: ModelBuilder) -> None:
        super().__init__()
        self.config = config
        self.encoder = builder.encoder()
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)
        self.grid = self.encoder.grid
        # The decoder's token holds as many numbers as a grid says: here a feature's, not a patch's.
        self.decoder = builder.decoder(replace(self.grid, patch=self.encoder.dim, channels=1), width=self.encoder.dim)
        self.masking = builder.masking(self.grid)

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Return the distance between predicted and taught features of a batch's hidden tokens."""
        mask = mask_of(batch.x, noise, masking=self.masking, grid=self.grid)
        wanted = gather(self.teach(batch.x), mask.hide)
        guess: Tensor = self.decoder(self.encoder(batch.x, mask), mask)
        loss = smooth_l1_loss(guess.float(), wanted, beta=self.config.beta)
        # A teacher that says the same of all tokens is easily pleased: its spread tells of a collapse.
        return StepOutput(loss, {"teacher-spread": wanted.std((0, 1)).mean()})

    @torch.no_grad()
    def teach(self, x: Tensor) -> Tensor:
        """Return the targets [N, L, D] of joints x [N, T, V, C], every token seen, without dropout."""
        features: Tensor = self.teacher.eval()(x).float()
        return layer_norm(features, features.shape[-1:]) if self.config.normalise == "token" else features

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Move the teacher towards the encoder; the less, the more of training is done."""
        stays = self.config.momentum + (1 - self.config.momentum) * progress
        for held, now in zip(self.teacher.parameters(), self.encoder.parameters(), strict=True):
            held.lerp_(now, 1 - stays)
        for kept, running in zip(self.teacher.buffers(), self.encoder.buffers(), strict=True):
            kept.copy_(running)
