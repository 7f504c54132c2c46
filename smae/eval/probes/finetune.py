"""Probes that train the encoder and a head on labels, all or a part (MAMP's recipe)."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from smae import interrupts, progress
from smae.config import LABEL_SHARES
from smae.data.loader import Batch
from smae.eval.probes import OnEpoch, Probe, ProbeContext, Scores, average_views, score, select
from smae.eval.records import ONE_VIEW
from smae.models import DropPath
from smae.models.encoders import Encoder, encode_measured
from smae.models.masking import kept_count, mask_from_scores, missing_tokens
from smae.rng import Noise
from smae.train.config import Finetune
from smae.train.optim import adamw, warmup_cosine

TRAINING_PASSES = 3
"""Work of training on a clip, relative to encoding it: forwards, and twice as much backwards."""


class Classifier(nn.Module):
    """Encoder, dropout, mean over time, joints concatenated, mean over bodies, two-layer head.

    With ``keep`` below 1, training uses a random share of the tokens of each body; the mean over
    time is of the tokens that are there, and a joint without any counts as zeros.
    """

    def __init__(self, encoder: Encoder, *, classes: int, hidden: int, dropout: float, keep: float = 1.0) -> None:
        super().__init__()
        self.encoder, self.dropout = encoder, nn.Dropout(dropout)
        self.visible = kept_count(keep, encoder.grid.tokens, setting="keep")
        width = encoder.grid.joints * encoder.dim
        self.head = nn.Sequential(
            nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return logits [B, K]."""
        grid = self.encoder.grid
        if self.training and self.visible < grid.tokens:
            scores, visible = torch.rand(len(batch.x), grid.tokens, device=batch.x.device), self.visible
            if batch.missing is not None:
                scores = scores + missing_tokens(batch.missing, grid.times)
                visible = min(visible, batch.least_joints * grid.times)
            mask = mask_from_scores(scores, visible)
            tokens = self.dropout(self.encoder(batch.x, mask))
            items = mean_over_time(tokens, mask.keep, joints=grid.joints).flatten(1).float()
        else:
            items = self.vectors(batch.x, batch.missing)
        return self.head(batch.clip_means(items)[0])  # type: ignore[no-any-return]

    def vectors(self, x: Tensor, missing: Tensor | None = None) -> Tensor:
        """Return what the head takes, [N, V * D], of x [N, T, V, C] without ``missing`` [N, V]."""
        grid, tokens = self.encoder.grid, self.dropout(encode_measured(self.encoder, x, missing))
        items: Tensor = tokens.reshape(-1, grid.times, grid.joints, self.encoder.dim).mean(1)
        return items.flatten(1).float()

    def lr_scale(self, decay: float) -> dict[str, float]:
        """Return the factor of each parameter's learning rate: layer-wise decay, as in BEiT."""
        scale = dict.fromkeys((name for name, _ in self.named_parameters()), 1.0)
        for name in scale:
            if name.startswith("encoder."):
                layer = self.encoder.layer_of(name.removeprefix("encoder."))
                scale[name] = decay ** (self.encoder.depth + 1 - layer)
        return scale


def mean_over_time(tokens: Tensor, keep: Tensor, *, joints: int) -> Tensor:
    """Return [N, V, D]: the mean over the visible tokens of each joint, zeros without any.

    Args:
        tokens: [N, K, D].
        keep: int64 [N, K], numbers of the visible tokens: time * joints + joint.
        joints: V.
    """
    joint = keep % joints
    total = tokens.new_zeros(len(tokens), joints, tokens.shape[2])
    total.scatter_add_(1, joint[..., None].expand_as(tokens), tokens)
    ones = torch.ones_like(joint, dtype=tokens.dtype)
    count = tokens.new_zeros(len(tokens), joints).scatter_add_(1, joint, ones)
    return total / count.clamp(min=1)[..., None]


def finetune(encoder: Encoder, context: ProbeContext) -> Scores:
    """Fine-tune a copy of the encoder, and a head, on the train labels."""
    return _finetune(encoder, context, context.config.finetune)


transfer = finetune
"""Fine-tuning on another store than that of pre-training: the same recipe, other classes."""


def scratch(encoder: Encoder, context: ProbeContext) -> Scores:
    """Supervised training; the encoder is expected to be randomly initialised."""
    return _finetune(encoder, context, context.config.scratch)


def labelled_subset(
    train: NDArray[np.int64], label: NDArray[np.int64], *, share: float, seed: int
) -> NDArray[np.int64]:
    """Return the share of the clips of each class, rounded, at least one clip.

    Args:
        train: int64 [n], clip numbers.
        label: int64 [n], their classes.
        share: in (0, 1].
        seed: decides which clips; the subset of a larger share contains that of a smaller one.
    """
    order = Noise(seed, 0, train).uniform("labelled", 1)[:, 0].argsort(kind="stable")
    chosen = []
    for kind in np.unique(label):
        members = order[label[order] == kind]
        chosen.append(train[members[: max(1, round(share * len(members)))]])
    return np.sort(np.concatenate(chosen))


def semi_context(mode: str, context: ProbeContext) -> ProbeContext:
    """Return the context of a mode: semi-supervised ones train on a labelled subset."""
    if mode not in LABEL_SHARES:
        return context
    train = context.split.train
    label = np.asarray(context.store.clips.label)[train].astype(np.int64)
    share, seed = LABEL_SHARES[mode], context.config.seed
    return context.with_clips(train=labelled_subset(train, label, share=share, seed=seed))


def _semi(mode: str) -> Probe:
    def probe(encoder: Encoder, context: ProbeContext) -> Scores:
        return finetune(encoder, semi_context(mode, context))

    return probe


semi_1, semi_2, semi_5, semi_10 = map(_semi, LABEL_SHARES)


def _finetune(encoder: Encoder, context: ProbeContext, settings: Finetune) -> Scores:
    def fit(fold: ProbeContext, on_epoch: OnEpoch) -> Classifier:
        return _fit(copy.deepcopy(encoder), fold, settings, on_epoch)

    def evaluate(model: nn.Module, fold: ProbeContext) -> Scores:
        return classify(model, fold, batch=settings.batch, views=settings.test_views)

    scores = select(fit, evaluate, context)
    # Published figures are of one plain view.
    if settings.test_views and scores.model is not None:
        scores.alternatives[ONE_VIEW] = classify(scores.model, context, batch=settings.batch)
    return scores


def _fit(encoder: Encoder, context: ProbeContext, settings: Finetune, on_epoch: OnEpoch) -> Classifier:
    torch.manual_seed(context.config.seed)
    model = Classifier(
        encoder, classes=context.num_classes, hidden=settings.hidden, dropout=settings.dropout, keep=settings.keep
    ).to(context.device)
    set_drop_path(encoder, settings.drop_path)
    loader = context.loader("train", augmented=True, batch=settings.batch, strength=settings.strength)
    scale = model.lr_scale(settings.layer_decay).__getitem__
    optimizer = adamw(model, lr=settings.lr, weight_decay=settings.weight_decay, scale=scale)
    schedule = warmup_cosine(
        optimizer,
        steps=settings.epochs * len(loader),
        warmup=round(settings.warmup * len(loader)),
        floor=min(1.0, settings.min_lr / settings.lr),
    )
    with progress.task("fine-tuning", total=settings.epochs, unit="epochs") as task:
        for epoch in range(settings.epochs):
            model.train()
            for batch in loader.epoch(epoch):
                interrupts.check()
                # BatchNorm in the head has no variance of one clip.
                if batch.clips < 2:
                    continue
                smoothing = settings.label_smoothing
                with context.autocast:
                    logits = model(batch)
                loss = cross_entropy(logits.float(), batch.label, label_smoothing=smoothing)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            on_epoch(model)
            task.advance()
            progress.spend(TRAINING_PASSES * len(context.split.train))
    return model


def set_drop_path(encoder: nn.Module, rate: float) -> None:
    """Set stochastic depth, rising linearly from 0 in the first block to ``rate`` in the last."""
    layers = [module for module in encoder.modules() if isinstance(module, DropPath)]
    for number, layer in enumerate(layers):
        layer.rate = rate * number / max(1, len(layers) - 1)


@torch.no_grad()
def classify(model: nn.Module, context: ProbeContext, *, batch: int, views: int = 0) -> Scores:
    """Return a classifier's scores on the test part, of one plain or several augmented views."""
    model.eval()
    loader = context.loader("test", augmented=views > 0, batch=batch)
    passes = []
    for view in range(max(1, views)):
        batches = progress.track(loader.epoch(view), "test", total=len(loader), unit="batches")
        with context.autocast:
            pairs = [(model(clips).float().cpu(), clips.label.cpu()) for clips in batches]
        logits, label = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        passes.append(logits)
    return score(average_views(passes), label)
