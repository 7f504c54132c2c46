"""A masking and an objective from outside smae: hide one side of the body, predict what a slow teacher feels there.

Copy this file and its pyproject.toml, rename, install with ``pip install -e .``, and run
``smae pretrain --set masking.name=one-side --set objective.name=teacher``.
"""

from __future__ import annotations

import copy

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from smae.config import PluginConfig
from smae.data.loader import Batch
from smae.errors import ConfigError
from smae.models import Grid, gather, patchify
from smae.models.masking import Mask, mask_from_scores
from smae.rng import Noise
from smae.skeleton import Layout
from smae.train.objectives import ModelBuilder, Objective, StepOutput


class OneSide:
    """In each time patch the left or the right limbs are hidden; the other side and the torso stay visible."""

    class Config(PluginConfig):
        """Which way the coin falls."""

        left: float = Field(0.5, ge=0, le=1, description="share of time patches in which the left side is hidden")

    def __init__(self, config: Config, grid: Grid, layout: Layout) -> None:
        if not layout.mirror:
            raise ConfigError(f"masking one-side needs a layout with left and right joints, {layout.name} has none")
        self.grid, self.share = grid, config.left
        self.sides = torch.zeros(2, grid.joints, dtype=torch.bool)
        for left, right in layout.mirror:
            self.sides[0, left] = self.sides[1, right] = True
        self.keep = grid.times * (grid.joints - len(layout.mirror))

    def __call__(self, tokens: Tensor, noise: Noise) -> Mask:
        """Return the mask of tokens [N, L, P]."""
        right = noise.uniform("one-side", self.grid.times) >= self.share
        hidden = self.sides.to(right.device)[right.long()]
        return mask_from_scores(hidden.flatten(1).float(), self.keep)


class Teacher(Objective):
    """Hidden tokens' features, as a moving average of the encoder gives them, are predicted from visible tokens."""

    class Config(PluginConfig):
        """How slowly the teacher follows."""

        momentum: float = Field(0.99, ge=0, lt=1, description="share of the teacher that stays at each step")

    def __init__(self, config: Config, builder: ModelBuilder) -> None:
        super().__init__()
        self.momentum = config.momentum
        self.encoder = builder.encoder()
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)
        self.grid = self.encoder.grid
        self.decoder = builder.decoder(self.grid, width=self.encoder.dim)
        self.widen = nn.Linear(self.grid.values, self.encoder.dim)
        self.masking = builder.masking(self.grid)

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Return the smooth L1 distance between predicted and felt features of hidden tokens."""
        mask = self.masking(patchify(batch.x, self.grid), noise)
        with torch.no_grad():
            felt = gather(self.teacher(batch.x), mask.hide).float()
        guess = self.widen(self.decoder(self.encoder(batch.x, mask), mask)).float()
        # A teacher that feels the same everywhere would be easy to please: watch its spread.
        return StepOutput(smooth_l1_loss(guess, felt), {"spread": felt.std(0).mean()})

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Move the teacher towards the encoder."""
        for mine, theirs in zip(self.encoder.parameters(), self.teacher.parameters(), strict=True):
            theirs.lerp_(mine, 1 - self.momentum)
