"""SLiM: class and hidden tokens follow a moving-average teacher's prototypes, over many crops.

After Do, Chen, Youk and Kim, "Less is More" (arXiv 2603.10648), a descendant of DINO (arXiv
2104.14294), iBOT (2111.07832) and DINOv2 (2304.07193). Two global crops of a clip and several short
ones inside each; of the students' crops, tokens are hidden in semantic tubes. The published form
has more prototypes, wider heads, and a weight decay that rises; bone lengths are not varied here.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, log_softmax, normalize

from smae.config import PluginConfig
from smae.data.loader import Batch
from smae.data.loader.augment import Share, ViewCrop
from smae.errors import ConfigError
from smae.models import patchify, unpatchify
from smae.models.encoders import Encoder
from smae.models.masking import missing_tokens
from smae.rng import Noise
from smae.skeleton import Layout
from smae.train.distributed import gather_ranks
from smae.train.objectives import ModelBuilder, Objective, StepOutput, move_average, spread_metrics

GLOBALS = 2
"""Global crops of a clip: the first views of a batch."""
Temperature = Annotated[float, Field(ge=0.02)]
TUBES = 32
"""Tubes that are drawn for an item; those that do not fit are left out."""


class SLiM(Objective):
    """Masked feature prediction and comparison of crops, against prototypes.

    Loss = the mean over pairs (crop s of the student, another global crop t of the teacher) of the
    cross-entropy of their class tokens' assignments, + ``tokens`` x that of hidden tokens in global
    crops, each item's mean over its hidden ones, + ``koleo`` x the KoLeo term of class tokens.

    An encoder without a class token takes part too: the mean of its tokens stands for one, a hidden
    token is a learned patch, and local crops have all frames (this project's choice). Of a clip
    with two bodies, one is drawn at random for all of its crops.
    """

    preview_note = "Prototypes are predicted, not joints: there is nothing to show."
    compares_clips = True
    hides_missing = True

    class Config(PluginConfig):
        """Heads, teacher, crops and hidden tokens."""

        hidden: int = Field(256, ge=1, le=16384, description="width of heads (2,048 in the paper)")
        out: int = Field(64, ge=1, le=16384, description="width of prototypes (256 there)")
        prototypes: int = Field(1024, ge=2, le=1 << 20, description="of each head (65,536 in the paper)")
        temperature: float = Field(0.1, gt=0, description="of the student's cosines")
        teacher_temperature: tuple[Temperature, Temperature] = Field(
            (0.04, 0.07), description="of the teacher's, at first and after its warm-up"
        )
        teacher_warmup: float = Field(0.2, ge=0, le=1, description="share of training in which it rises")
        momentum: float = Field(0.994, ge=0, lt=1, description="of the teacher, rising to 1")
        tokens: float = Field(1.0, ge=0, description="weight of hidden tokens")
        koleo: float = Field(0.1, ge=0, description="weight of the term that spreads class tokens")
        masked: float = Field(0.5, ge=0, le=1, description="global crops with hidden tokens")
        hide: tuple[Share, Share] = Field(
            (0.5, 0.9), description="smallest and largest share of a crop's tokens that are hidden"
        )
        local_crops: tuple[tuple[Share, Share], ...] = Field(
            ((0.35, 0.7), (0.15, 0.4), (0.15, 0.4), (0.05, 0.2)),
            max_length=7,
            description="local crops in each global one: smallest and largest share of its frames",
        )
        local_shorter: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
            (2, 4, 4, 8), description="how many times fewer frames each local crop has"
        )
        embed_lr: float = Field(0.2, gt=0, le=1, description="learning rate of the patch embedding")

    def __init__(self, config: Config, builder: ModelBuilder) -> None:
        super().__init__()
        if len(config.local_crops) != len(config.local_shorter):
            raise ConfigError(
                f"objective.local_shorter: expected {len(config.local_crops)} numbers, one for "
                f"each of objective.local_crops, found {len(config.local_shorter)}"
            )
        self.config, self.encoder = config, builder.encoder()
        self.grid, self.views = self.encoder.grid, GLOBALS * (1 + len(config.local_crops))
        size = {"hidden": config.hidden, "out": config.out, "prototypes": config.prototypes}
        self.class_head = PrototypeHead(self.encoder.dim, **size)
        self.token_head = PrototypeHead(self.encoder.dim, **size)
        self.mask_token: nn.Parameter | None = None
        if not self.encoder.has_class_token:
            self.mask_token = nn.Parameter(torch.zeros(self.grid.values))
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)
        self.teacher_class_head = copy.deepcopy(self.class_head).requires_grad_(False)
        self.teacher_token_head = copy.deepcopy(self.token_head).requires_grad_(False)
        self.register_buffer("progress", torch.zeros(()))
        self.register_buffer("places", places_in_parts(builder.layout), persistent=False)
        crops = list[ViewCrop | None]([None] * GLOBALS)
        self.lengths = [builder.frames] * GLOBALS
        for share, factor in zip(config.local_crops, config.local_shorter, strict=True):
            least = max(8, min(16, builder.frames // factor))
            crops += [ViewCrop(share, least, within) for within in range(GLOBALS)]
            times = self.grid.times
            if self.encoder.has_class_token:
                times = max(1, round(times / factor))
            self.lengths += [times * self.grid.patch] * GLOBALS
        self.crops = tuple(crops)

    def lr_scale(self, parameter: str) -> float:
        """Return the factor on the learning rate: lower for the patch embedding, as in DINOv2."""
        return self.config.embed_lr if parameter.startswith("encoder.embed.") else 1.0

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        config = self.config
        items = pick_bodies(batch, noise).view(self.views, -1)
        noises = []
        for rows in items:
            where = {"clip": noise.clip[rows], "body": noise.body[rows], "view": noise.view[rows]}
            noises.append(replace(noise, **where))
        # Crops of one length go through the encoder together.
        views = defaultdict(list)
        for view, length in enumerate(self.lengths):
            views[view >= GLOBALS, length].append(view)
        classes: dict[int, Tensor] = {}
        for (is_local, length), some in views.items():
            hidden = torch.cat([self._hide(noises[view], length, always=is_local) for view in some])
            unseen, lost, x = hidden, None, shorten(batch.x[items[some].flatten()], length)
            if batch.missing is not None:
                # Hidden from the teacher too, and asked for by no loss.
                lost = missing_tokens(batch.missing[items[some].flatten()], length // self.grid.patch)
                unseen, hidden = hidden | lost, hidden & ~lost
            whole, tokens = self._encode(self.encoder, x, unseen)
            classes.update(zip(some, whole.chunk(len(some)), strict=True))
            if not is_local:
                seen, global_x, global_hidden, global_lost = tokens, x, hidden, lost
        features = torch.stack([classes[view] for view in range(self.views)])
        with torch.no_grad():
            taught, taught_tokens = self._encode(self.teacher.eval(), global_x, global_lost)
        scores = self.class_head(features)
        targets = self._assign(self.teacher_class_head, taught.view(GLOBALS, -1, self.encoder.dim))
        class_loss = cross_entropy_of_crops(scores, targets, temperature=config.temperature)
        token_loss = self._token_loss(seen, taught_tokens, global_hidden)
        spread_loss = koleo(features[:GLOBALS].float())
        loss = class_loss + config.tokens * token_loss + config.koleo * spread_loss
        used = (scores.detach()[:GLOBALS] / config.temperature).softmax(-1).mean((0, 1))
        metrics = {"class": class_loss, "hidden": token_loss, "koleo": spread_loss}
        metrics = {name: value.detach() for name, value in metrics.items()}
        metrics["prototypes"] = torch.special.entr(used).sum().exp()
        return StepOutput(loss, {**metrics, **spread_metrics(features[:GLOBALS])})

    def _encode(self, encoder: Encoder, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the features of a class token [N, D] and of all tokens [N, L, D]."""
        if encoder.has_class_token:
            return encoder.encode(x, hidden)
        if hidden is not None and self.mask_token is not None:
            tokens = torch.where(hidden[..., None], self.mask_token, patchify(x, self.grid))
            x = unpatchify(tokens, self.grid)
        features = encoder(x)
        return features.mean(1), features

    def _hide(self, noise: Noise, frames: int, *, always: bool) -> Tensor:
        """Return bool [N, L], the tokens that are hidden of crops of ``frames`` frames."""
        times, (low, high) = frames // self.grid.patch, self.config.hide
        draw, share = noise.uniform("masked", 2).T
        count = ((low + (high - low) * share) * times * self.grid.joints).long()
        if not always:
            count = count * (draw < self.config.masked)
        most = max(1, self.grid.tokens // 2)
        return semantic_tubes(noise, self.get_buffer("places"), times=times, count=count, most=most)

    def _token_loss(self, tokens: Tensor, taught: Tensor, hidden: Tensor) -> Tensor:
        """Return the loss of hidden tokens: 0 for an item without any, averaged over items."""
        # As many as there are: a GPU is waited for here, once a step.
        index = hidden.flatten().nonzero()[:, 0]
        targets = self._assign(self.teacher_token_head, taught.flatten(0, 1)[index][None])[0]
        scores = self.token_head(tokens.flatten(0, 1)[index]) / self.config.temperature
        losses = -(targets * log_softmax(scores, -1)).sum(-1)
        weight = (1 / hidden.sum(1).clamp_min(1)).repeat_interleave(hidden.shape[1])
        return (losses * weight[index]).sum() / len(hidden)

    @torch.no_grad()
    def _assign(self, head: PrototypeHead, features: Tensor) -> Tensor:
        """Return targets [V, B, K] of the teacher's features [V, B, D], over all ranks' rows."""
        every, own = gather_ranks(head.project(features))
        first, last = self.config.teacher_temperature
        done = (self.get_buffer("progress") / max(1e-9, self.config.teacher_warmup)).clamp_max(1)
        targets = sinkhorn(head.score(every).flatten(0, 1), first + (last - first) * done)
        return targets.view(*every.shape[:2], targets.shape[-1])[:, own]

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Move the teacher towards the student, less and less, and its temperature upwards."""
        momentum = 1 - (1 - self.config.momentum) * (1 + math.cos(math.pi * progress)) / 2
        move_average(self.teacher, self.encoder, momentum=momentum)
        move_average(self.teacher_class_head, self.class_head, momentum=momentum)
        move_average(self.teacher_token_head, self.token_head, momentum=momentum)
        self.get_buffer("progress").fill_(progress)


class PrototypeHead(nn.Module):
    """MLP, unit length, then cosines with K learned prototypes (DINO, section 3)."""

    def __init__(self, dim: int, *, hidden: int, out: int, prototypes: int) -> None:
        super().__init__()
        first, second = nn.Linear(dim, hidden), nn.Linear(hidden, hidden)
        last = nn.Linear(hidden, out)
        self.mlp = nn.Sequential(first, nn.GELU(), second, nn.GELU(), last)
        self.prototypes = nn.Parameter(torch.empty(prototypes, out))
        for weight in (first.weight, second.weight, last.weight, self.prototypes):
            nn.init.trunc_normal_(weight, std=0.02)
        for layer in (first, second, last):
            nn.init.zeros_(layer.bias)

    def project(self, features: Tensor) -> Tensor:
        """Return float32 [..., out], of unit length, of features [..., D]."""
        return normalize(self.mlp(features).float(), dim=-1)

    def score(self, z: Tensor) -> Tensor:
        """Return the cosines [..., K] of projections with the prototypes, in float32."""
        with torch.autocast(z.device.type, enabled=False):
            scores: Tensor = z @ normalize(self.prototypes.float(), dim=-1).T
        return scores

    def forward(self, features: Tensor) -> Tensor:
        """Return the cosines [..., K] of features [..., D]."""
        return self.score(self.project(features))


def sinkhorn(scores: Tensor, temperature: Tensor | float, *, iterations: int = 3) -> Tensor:
    """Return assignments [M, K]: rows sum to 1, prototypes share them about evenly (SwAV, 3.1).

    Args:
        scores: cosines [M, K].
        temperature: divides them.
        iterations: of making columns, then rows, sum to the same.
    """
    # Cosines are 1 at most, and nothing depends on a common factor.
    assigned = ((scores - 1) / temperature).exp()
    for _ in range(iterations):
        assigned = assigned / assigned.sum(0).clamp_min(1e-30)
        assigned = assigned / assigned.sum(1, keepdim=True).clamp_min(1e-30)
    return assigned


def cross_entropy_of_crops(scores: Tensor, targets: Tensor, *, temperature: float) -> Tensor:
    """Return the mean cross-entropy of pairs of different crops of a clip.

    Args:
        scores: cosines [V, B, K] of the student's crops.
        targets: assignments [G, B, K] of the teacher's, which saw the first G of them.
        temperature: divides the cosines.
    """
    crops, taught = len(scores), len(targets)
    logs = log_softmax(scores / temperature, -1)
    pairs = -torch.einsum("gbk,vbk->gv", targets, logs) / scores.shape[1]
    others = ~torch.eye(taught, crops, dtype=torch.bool, device=scores.device)
    return pairs[others].mean()


def koleo(features: Tensor) -> Tensor:
    """Return the KoLeo term of features [V, B, D], summed over views (arXiv 1806.03198).

    -log(distance of a unit feature to the nearest of the other clips', + 1e-6), over all ranks.
    """
    unit = normalize(features, dim=-1)
    every, own = gather_ranks(unit)
    itself = torch.arange(every.shape[1], device=own.device) == own[:, None]
    nearest = (unit.detach() @ every.detach().transpose(1, 2)).masked_fill(itself, -2).argmax(-1)
    other = every.gather(1, nearest[..., None].expand_as(unit))
    distance = torch.linalg.vector_norm(unit - other, dim=-1)
    logs: Tensor = (distance + 1e-6).log()
    return -logs.mean(1).sum()


def pick_bodies(batch: Batch, noise: Noise) -> Tensor:
    """Return int64 [V * B], an item of each clip in each view: of one body, drawn at random."""
    view = torch.zeros_like(batch.clip) if batch.view is None else batch.view
    group = view * batch.clips + batch.clip
    count = group.new_zeros(batch.views * batch.clips).index_add(0, group, torch.ones_like(group))
    drawn = replace(noise, clip=batch.index, body=0, view=0).uniform("person", 1)[:, 0]
    first: Tensor = count.cumsum(0) - count
    picked: Tensor = first + (drawn.repeat(batch.views) * count).long()
    return picked


def shorten(x: Tensor, frames: int) -> Tensor:
    """Return joints [N, frames, V, C] of x [N, T, V, C], linear in time."""
    if frames == x.shape[1]:
        return x
    rows = interpolate(x.flatten(2).transpose(1, 2), size=frames, mode="linear")
    joints: Tensor = rows.transpose(1, 2).reshape(len(x), frames, *x.shape[2:])
    return joints


def places_in_parts(layout: Layout) -> Tensor:
    """Return int64 [P, V]: the place of each joint in each body part's list, -1 where it is not."""
    places = torch.full((len(layout.parts), len(layout)), -1)
    for part, joints in enumerate(layout.parts.values()):
        places[part, list(joints)] = torch.arange(len(joints))
    return places


def semantic_tubes(noise: Noise, places: Tensor, *, times: int, count: Tensor, most: int) -> Tensor:
    """Return bool [N, times * V], the tokens that tubes hide: ``count`` of an item, or a few less.

    A tube is a run of joints of one body part over a run of time (SLiM, section 3.3). Its area is
    drawn from ``times`` to what is still to hide; one that hides nothing new, or too much, is out.

    Args:
        noise: of the N items.
        places: int64 [P, V], see ``places_in_parts``.
        times: time patches of the items.
        count: int64 [N], tokens to hide.
        most: largest area of a tube.
    """
    draws = noise.uniform("tubes", 5 * TUBES).unflatten(1, (TUBES, 5))
    time = torch.arange(times, device=count.device)
    hidden = torch.zeros(len(count), times, places.shape[1], dtype=torch.bool, device=count.device)
    left = count
    for draw in draws.unbind(1):
        which, width, place, area, begin = draw.unbind(1)
        part = places[(which * len(places)).long()]
        size = part.amax(1) + 1
        joints = 1 + (width * size).long()
        first = (place * (size - joints + 1)).long()
        tokens = times + area * (left.clamp_max(most) - times)
        length = (tokens / joints).round().long().clamp(1, times)
        top = (begin * (times - length + 1)).long()[:, None]
        in_joints = (part >= first[:, None]) & (part < (first + joints)[:, None])
        in_time = (time >= top) & (time < top + length[:, None])
        tube = in_time[:, :, None] & in_joints[:, None] & ~hidden
        new = tube.sum((1, 2))
        fits = (new > 0) & (new <= left.clamp_max(most))
        hidden = hidden | (tube & fits[:, None, None])
        left = left - new * fits
    return hidden.flatten(1)
