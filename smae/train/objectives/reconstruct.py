"""Masked reconstruction: SkeletonMAE, MAE and MAMP, which differ in their defaults only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from smae.config import PluginConfig
from smae.data.loader import Batch
from smae.errors import ConfigError
from smae.models import Grid, gather, joints_of, patchify, unpatchify
from smae.models.encoders import CrossDecoder
from smae.models.masking import Mask, mean_of_targets
from smae.rng import Noise
from smae.train.distributed import gather_ranks, relative_share
from smae.train.objectives import (
    ModelBuilder,
    Objective,
    Preview,
    StepOutput,
    info_nce,
    projection_head,
    show_tokens,
    spread_metrics,
)


class SkeletonMAE(Objective):
    """Reconstruct masked tokens from visible ones (SkeletonMAE, arXiv 2209.02399; MAE, section 3).

    Loss = mean over masked tokens and their values of (prediction - target)^2. Absent bodies are
    not in the batch, so they are neither encoded nor counted. Two terms that the paper has not may
    be added, on the same visible tokens: ``contrast`` x InfoNCE between two views of a clip (see
    ``contrast.SimCLR``), and ``uniformity`` x the mean squared cosine between the features of two
    tokens of a clip (MacDiff; 0.02 there), which keeps tokens from growing alike.
    """

    class Config(PluginConfig):
        """Target of the prediction and its scale."""

        target: Literal["coordinates", "motion"] = Field(
            "coordinates", description="joints, or their next-frame motion"
        )
        normalise: Literal["token", "clip", "movement", "body", "none"] = Field(
            "token", description="scale of the target"
        )
        floor: float = Field(1e-3, gt=0, description="metres: smallest scale of the target")
        predict: float = Field(1.0, gt=0, le=1, description="share of masked tokens predicted (cross decoder)")
        contrast: float = Field(0.0, ge=0, description="weight of InfoNCE between two views of a clip; 0: one view")
        temperature: float = Field(0.1, gt=0, description="of InfoNCE: divides the cosines")
        uniformity: float = Field(0.0, ge=0, description="weight of the mean squared cosine of a clip's tokens")

    hides_missing = True

    def __init__(self, config: Config, builder: ModelBuilder) -> None:
        super().__init__()
        self.config = config
        self.encoder = builder.encoder()
        self.grid = self.encoder.grid
        self.decoder = builder.decoder(self.grid, width=self.encoder.dim)
        self.masking = builder.masking(self.grid)
        self.head: nn.Module | None = None
        if config.contrast:
            self.views, self.compares_clips = 2, True
            self.head = projection_head(self.encoder.dim, hidden=2 * self.encoder.dim, out=self.encoder.dim)
        if config.target == "motion":
            self.preview_note = "Motion is predicted, not positions: the mask alone is shown."
        elif config.normalise != "none":
            self.preview_note = (
                f"The target is normalised by {config.normalise}: the decoder predicts shape and movement, "
                "and the mean and scale of the true clip convert its prediction back to metres."
            )
        if config.normalise in ("clip", "movement") and builder.frames < 2:
            raise ConfigError(
                f"objective.normalise={config.normalise} takes the spread over time, and "
                "augment.frames=1 leaves none: choose token, body or none, or more frames"
            )
        if config.predict < 1 and not isinstance(self.decoder, CrossDecoder):
            raise ConfigError(
                f"objective.predict={config.predict} needs decoder.name=cross: with self-attention "
                "each masked token needs all the others"
            )

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        mask, visible = show_tokens(self.masking, batch, self.grid, noise)
        if self.config.predict < 1:
            count = max(1, round(self.config.predict * mask.hide.shape[1]))
            scores = noise.uniform("predict", mask.hide.shape[1])
            if mask.missing is not None:
                scores = scores + mask.missing.gather(1, mask.hide)
            mask = mask.subsample_hidden(scores, count)
        prediction, features = self.reconstruct(visible, mask)
        error = prediction - gather(self._target(batch.x, batch.missing).tokens, mask.hide)
        loss, metrics = mean_of_targets(error.float().square(), mask), dict[str, Tensor]()
        if self.head is not None:
            means = batch.clip_means(features.float().mean(1))
            # In float32, as ``contrast`` has it.
            with torch.autocast(means.device.type, enabled=False):
                z = normalize(self.head(means.flatten(0, 1)), dim=-1).view(means.shape)
                term = info_nce(z, *gather_ranks(z), temperature=self.config.temperature)
            # The loss of a step averages clips, since it compares them; reconstruction averages bodies.
            loss = loss * relative_share(len(batch.x), len(batch.index), loss.device)
            metrics = {"reconstruction": loss.detach(), "contrast": term.detach(), **spread_metrics(means)}
            loss = loss + self.config.contrast * term
        if self.config.uniformity:
            loss = loss + self.config.uniformity * token_similarity(features.float())
        return StepOutput(loss, metrics)

    def reconstruct(self, visible: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
        """Return predictions [N, H, P] of masked, features [N, K, D] of visible tokens."""
        features = self.encoder(visible, mask)
        return self.decoder(features, mask), features

    @torch.no_grad()
    def preview(self, batch: Batch, noise: Noise) -> Preview | None:
        """Return the batch with masked joints reconstructed in metres; of motion the mask alone."""
        grid, target = self.grid, self._target(batch.x, batch.missing)
        mask, visible = show_tokens(self.masking, batch, grid, noise)
        hidden = joints_of(mask.hidden, grid)
        if self.config.target == "motion":
            return Preview(hidden, None)
        prediction = self.reconstruct(visible, mask)[0].float()
        tokens = target.tokens.scatter(1, mask.hide[..., None].expand_as(prediction), prediction)
        tokens = tokens * target.scale + target.mean
        return Preview(hidden, unpatchify(tokens, grid))

    def _target(self, x: Tensor, missing: Tensor | None = None) -> Target:
        config = self.config
        if config.target == "motion":
            x = motion(x)
        return make_target(x, self.grid, normalise=config.normalise, floor=config.floor, missing=missing)


class PlainMAE(SkeletonMAE):
    """MAE on skeletons: coordinates, per-token normalisation; the recipe masks uniformly."""


class MAMP(SkeletonMAE):
    """Masked Motion Prediction (ICCV 2023): predicts motion; the recipe masks where it is large."""

    class Config(SkeletonMAE.Config):
        """Target of the prediction and its scale."""

        target: Literal["coordinates", "motion"] = Field("motion", description="always motion")

    def __init__(self, config: Config, builder: ModelBuilder) -> None:
        if config.target != "motion":
            raise ConfigError(
                f"objective.target={config.target}: mamp is the prediction of motion; for "
                "coordinates choose objective.name=skeletonmae, with the same masking"
            )
        super().__init__(config, builder)


def token_similarity(features: Tensor) -> Tensor:
    """Return the mean squared cosine between two different tokens of features [N, K, D]."""
    unit = normalize(features, dim=-1)
    count = features.shape[1]
    # The squared cosines of all pairs sum to the squared entries of a D x D matrix; each token with
    # itself gives 1.
    total = (unit.transpose(1, 2) @ unit).square().sum((1, 2))
    return ((total - count) / max(1, count * (count - 1))).mean()


@dataclass(frozen=True)
class Target:
    """Normalised target: ``tokens = (patches - mean) / scale``.

    Attributes:
        tokens: [N, L, P].
        mean: broadcasts to [N, L, P].
        scale: broadcasts to [N, L, P].
    """

    tokens: Tensor
    mean: Tensor
    scale: Tensor


def motion(x: Tensor) -> Tensor:
    """Return x[t + 1] - x[t] of joints [N, T, V, C], 0 in the last frame (MAMP, section 3.2)."""
    return torch.cat([x[:, 1:] - x[:, :-1], torch.zeros_like(x[:, :1])], 1)


def make_target(x: Tensor, grid: Grid, *, normalise: str, floor: float = 1e-3, missing: Tensor | None = None) -> Target:
    """Return the target tokens of joints, or of their motion, x [N, T, V, C].

    Args:
        x: what is predicted.
        grid: token layout.
        normalise: by which mean and unbiased variance:
            ``token``: of each token (MAE, section 4.1; MAMP; their eps of 1e-6 is floor^2);
            ``clip``: of each coordinate of each joint over time, which leaves movement and
            amplifies a still joint's sensor noise to the size of a wave of the hand;
            ``movement``: the same means, but each axis has one variance about them, averaged over
            joints, which keeps the proportions of movements (this project's choice);
            ``body``: of each axis over time and joints;
            ``none``: unchanged.
        missing: bool [N, V], joints that count in no mean and no variance; None: none.
        floor: metres; ``scale = sqrt(variance + floor^2)``, so that a still body is not amplified.
    """
    patches = patchify(x, grid)
    if normalise == "none":
        return Target(patches, torch.zeros_like(patches[:, :1, :1]), torch.ones_like(patches[:, :1, :1]))
    if normalise == "token":
        mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    else:
        dims = (1, 2) if normalise == "body" else (1,)
        mean, variance = x.mean(dims, keepdim=True), x.var(dims, keepdim=True)
        if missing is not None and normalise == "body":
            mean, variance = _moments(x, missing)
        elif missing is not None and normalise == "movement":
            measured = missing.logical_not()[:, None, :, None]
            variance = (variance * measured).sum(2, keepdim=True) / measured.sum(2, keepdim=True)
        elif normalise == "movement":
            variance = variance.mean(2, keepdim=True)
        mean = patchify(mean.expand_as(x), grid)
        variance = patchify(variance.expand_as(x), grid)
    scale = (variance + floor**2).sqrt()
    return Target((patches - mean) / scale, mean, scale)


def _moments(x: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and unbiased variance [N, 1, 1, C] of x [N, T, V, C] over measured joints."""
    measured = missing.logical_not()[:, None, :, None].expand_as(x)
    count = measured.sum((1, 2), keepdim=True)
    mean = (x * measured).sum((1, 2), keepdim=True) / count
    return mean, ((x - mean).square() * measured).sum((1, 2), keepdim=True) / (count - 1)
