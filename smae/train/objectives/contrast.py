"""Objectives that compare augmented views of a clip: SimCLR, MoCo, VICReg, nearest neighbours.

A clip's feature in a view is the mean over its tokens and bodies, which probes read too. Views may
be masked: the encoder then sees the tokens that ``masking`` keeps (``masking.name=none``: all).
"""

from __future__ import annotations

import copy
from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, relu

from smae.config import PluginConfig
from smae.data.loader import Batch
from smae.models.encoders import Encoder
from smae.rng import Noise
from smae.train.distributed import gather_ranks
from smae.train.objectives import (
    ModelBuilder,
    Objective,
    StepOutput,
    info_nce,
    move_average,
    projection_head,
    show_tokens,
    spread_metrics,
)


class ViewObjective(Objective):
    """Base: encodes all views of a batch in one pass, and compares the features of clips."""

    views = 2
    compares_clips = True
    hides_missing = True

    class Config(PluginConfig):
        """Head in whose space clips are compared."""

        hidden: int = Field(256, ge=1, le=16384, description="hidden width of the head")
        out: int = Field(128, ge=1, le=16384, description="width of the space of comparison")
        views: int = Field(2, ge=2, le=16, description="augmented views of each clip")

    def __init__(self, config: Config, builder: ModelBuilder) -> None:
        super().__init__()
        self.config, self.views = config, config.views
        self.encoder = builder.encoder()
        self.masking = builder.masking(self.encoder.grid, may_be_none=True)
        self.head = projection_head(self.encoder.dim, hidden=config.hidden, out=config.out)

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Return the loss of a batch of views; the comparison is in float32."""
        features = self.encode(self.encoder, batch, noise)
        targets = self.targets(batch, noise)
        # bf16 has 8 bits: cosines near 1 would be apart by 0.004, by 0.04 over the temperature.
        with torch.autocast(features.device.type, enabled=False):
            output = self.compare(features, targets, batch)
        return StepOutput(output.loss, {**spread_metrics(features), **output.metrics})

    def encode(self, encoder: Encoder, batch: Batch, noise: Noise) -> Tensor:
        """Return an encoder's features [V, B, D], float32, of the tokens that ``masking`` keeps."""
        mask, visible = show_tokens(self.masking, batch, self.encoder.grid, noise)
        return batch.clip_means(encoder(visible, mask).float().mean(1))

    def targets(self, batch: Batch, noise: Noise) -> Tensor:
        """Return features [V, B, D] of another encoder to compare with; by default none, [0]."""
        return torch.zeros(0)

    @abstractmethod
    def compare(self, features: Tensor, targets: Tensor, batch: Batch) -> StepOutput:
        """Return the loss of the clips' features [V, B, D]."""

    def project(self, features: Tensor) -> Tensor:
        """Return the head's output [V, B, out] of features [V, B, D]."""
        out: Tensor = self.head(features.flatten(0, 1))
        return out.view(*features.shape[:2], -1)


class SimCLR(ViewObjective):
    """Views of a clip attract, other clips of the batch repel (SimCLR, arXiv 2002.05709)."""

    class Config(ViewObjective.Config):
        """Head and temperature."""

        temperature: float = Field(0.1, gt=0, description="divides the cosines")

    config: Config

    def compare(self, features: Tensor, targets: Tensor, batch: Batch) -> StepOutput:
        """Return InfoNCE over the batch of all ranks."""
        z = normalize(self.project(features), dim=-1)
        keys, own = gather_ranks(z)
        return StepOutput(info_nce(z, keys, own, temperature=self.config.temperature))


class MoCo(ViewObjective):
    """Keys by a moving average of the encoder, negatives from a queue (MoCo, arXiv 1911.05722).

    Each view is compared with the keys of the others. A clip's own keys of earlier steps, which a
    small data set leaves in the queue, are no negatives (this project's choice).
    """

    class Config(ViewObjective.Config):
        """Head, temperature, momentum and queue."""

        temperature: float = Field(0.07, gt=0, description="divides the cosines")
        momentum: float = Field(
            0.99, ge=0, lt=1, description="of the moving average (0.999 in the paper, for long runs)"
        )
        queue: int = Field(4096, ge=1, le=1 << 20, description="keys kept as negatives (16,384 to 65,536 on NTU)")

    config: Config

    def __init__(self, config: Config, builder: ModelBuilder) -> None:
        super().__init__(config, builder)
        self.key_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.key_head = copy.deepcopy(self.head).requires_grad_(False)
        self.queue: Tensor
        self.queue_clip: Tensor
        self.register_buffer("queue", normalize(torch.randn(config.queue, config.out), dim=1))
        self.register_buffer("queue_clip", torch.full((config.queue,), -1))
        self._new: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def targets(self, batch: Batch, noise: Noise) -> Tensor:
        """Return the key encoder's features."""
        return self.encode(self.key_encoder, batch, noise)

    def compare(self, features: Tensor, targets: Tensor, batch: Batch) -> StepOutput:
        """Return InfoNCE against the other views' keys and the queue."""
        z = normalize(self.project(features), dim=-1)
        with torch.no_grad():
            keys = normalize(self.key_head(targets.flatten(0, 1)), dim=-1).view(*targets.shape[:2], -1)
        temperature = self.config.temperature
        negatives = torch.einsum("vbd,qd->vbq", z, self.queue) / temperature
        negatives = negatives.masked_fill(batch.index[:, None] == self.queue_clip, -torch.inf)
        losses = []
        for shift in range(1, self.views):
            positive = (z * keys.roll(shift, 0)).sum(-1, keepdim=True) / temperature
            logits = torch.cat([positive, negatives], -1).flatten(0, 1)
            losses.append(cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long)))
        # Queued after the step, so that a step repeated on the same batch gives the same loss.
        # Ordered by clip: the same keys leave the queue, however many ranks there are.
        clip = gather_ranks(batch.index[None, :, None])[0][0, :, 0]
        order = clip.argsort()
        self._new = gather_ranks(keys[:1])[0][0][order], clip[order]
        return StepOutput(torch.stack(losses).mean())

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Move the key encoder, and put the step's keys at the head of the queue."""
        pairs = ((self.key_encoder, self.encoder), (self.key_head, self.head))
        for average, current in pairs:
            move_average(average, current, momentum=self.config.momentum)
        if self._new is not None:
            keys, clip = self._new
            self.queue.copy_(torch.cat([keys, self.queue])[: len(self.queue)])
            self.queue_clip.copy_(torch.cat([clip, self.queue_clip])[: len(self.queue)])
            self._new = None


class VICReg(ViewObjective):
    """Variance, invariance and covariance of the head's output; no negatives (arXiv 2105.04906).

    Loss = invariance x mean squared distance of views + variance x hinge(1 - standard deviation)
    + covariance x squared off-diagonal covariances / width, each of the batch of all ranks.
    """

    class Config(ViewObjective.Config):
        """Head and weights of the three terms."""

        out: int = Field(512, ge=1, le=16384, description="width of the space of comparison")
        hidden: int = Field(512, ge=1, le=16384, description="hidden width of the head")
        invariance: float = Field(25.0, ge=0)
        variance: float = Field(25.0, ge=0)
        covariance: float = Field(1.0, ge=0)

    config: Config

    def compare(self, features: Tensor, targets: Tensor, batch: Batch) -> StepOutput:
        """Return the weighted sum of the three terms, averaged over views."""
        z, _ = gather_ranks(self.project(features).float())
        invariance, pairs = z.new_zeros(()), self.views * (self.views - 1) / 2
        for view in range(1, self.views):
            invariance = invariance + (z[view:] - z[:-view]).square().mean((1, 2)).sum() / pairs
        centred = z - z.mean(1, keepdim=True)
        rows = max(1, z.shape[1] - 1)
        covariance = centred.transpose(1, 2) @ centred / rows
        diagonal = covariance.diagonal(dim1=1, dim2=2)
        hinge = relu(1 - (diagonal + 1e-4).sqrt()).mean()
        off = (covariance.square().sum((1, 2)) - diagonal.square().sum(1)).mean() / z.shape[2]
        config = self.config
        loss = config.invariance * invariance + config.variance * hinge + config.covariance * off
        return StepOutput(loss, {"invariance": invariance.detach(), "hinge": hinge.detach()})


class NNTune(ViewObjective):
    """Tune a trained encoder by nearest neighbours (STARS's second stage; NNCLR, arXiv 2104.14548).

    The positive of a view is the nearest neighbour, in a queue of other clips' projections, of the
    clip's other view. Start from weights with ``--init``; the lower blocks stay as they are.
    """

    class Config(ViewObjective.Config):
        """Head, predictor, queue, and which layers are tuned."""

        temperature: float = Field(0.07, gt=0, description="divides the cosines")
        predictor: int = Field(1024, ge=1, le=16384, description="hidden width of the predictor (4,096 in the paper)")
        queue: int = Field(4096, ge=1, le=1 << 20, description="projections kept to look for neighbours in")
        frozen: float = Field(0.5, ge=0, lt=1, description="share of blocks, from the lowest, that stay as they are")
        layer_decay: float = Field(0.45, gt=0, le=1, description="learning rate relative to the block above")

    config: Config

    def __init__(self, config: Config, builder: ModelBuilder) -> None:
        super().__init__(config, builder)
        self.predictor = projection_head(config.out, hidden=config.predictor, out=config.out)
        self.queue: Tensor
        self.queue_clip: Tensor
        self.register_buffer("queue", normalize(torch.randn(config.queue, config.out), dim=1))
        self.register_buffer("queue_clip", torch.full((config.queue,), -1))
        self._new: tuple[Tensor, Tensor] | None = None
        for name, parameter in self.encoder.named_parameters():
            if self.encoder.layer_of(name) <= config.frozen * self.encoder.depth:
                parameter.requires_grad_(False)

    def lr_scale(self, parameter: str) -> float:
        """Return ``layer_decay`` to the power of the blocks above; 1 for heads."""
        if not parameter.startswith("encoder."):
            return 1.0
        layer = self.encoder.layer_of(parameter.removeprefix("encoder."))
        return float(self.config.layer_decay ** (self.encoder.depth - layer))

    def compare(self, features: Tensor, targets: Tensor, batch: Batch) -> StepOutput:
        """Return InfoNCE of predictions against the neighbours of the other views."""
        z = self.project(features)
        predicted, unit = normalize(self._predict(z), dim=-1), normalize(z.detach(), dim=-1)
        every, own = gather_ranks(unit)
        indices = gather_ranks(batch.index[None, :, None])[0][0, :, 0]
        scores = torch.einsum("vmd,qd->vmq", every, self.queue)
        scores = scores.masked_fill(indices[:, None] == self.queue_clip, -torch.inf)
        neighbours = self.queue[scores.argmax(-1)]
        losses = []
        for shift in range(1, self.views):
            logits = predicted @ neighbours.roll(shift, 0).transpose(1, 2) / self.config.temperature
            losses.append(cross_entropy(logits.flatten(0, 1), own.repeat(self.views)))
        self._new = every[0], indices
        return StepOutput(torch.stack(losses).mean())

    def _predict(self, z: Tensor) -> Tensor:
        out: Tensor = self.predictor(z.flatten(0, 1))
        return out.view(z.shape)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Put the step's projections at the head of the queue."""
        if self._new is not None:
            self.queue.copy_(torch.cat([self._new[0], self.queue])[: len(self.queue)])
            self.queue_clip.copy_(torch.cat([self._new[1], self.queue_clip])[: len(self.queue)])
            self._new = None
