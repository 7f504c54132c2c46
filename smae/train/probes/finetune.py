"""Fine-tuning: the whole encoder and a head are trained on the labels (MAMP's recipe)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from smae.data.loading.batch import Batch
from smae.models.encoders import Encoder
from smae.models.transformer import DropPath
from smae.train.config import Finetune
from smae.train.features import mean_over_bodies
from smae.train.optim import adamw, warmup_cosine
from smae.train.probes import Exam, Scores, probes, score
from smae.train.probes.selection import Watch, select


class Classifier(nn.Module):
    """Encoder, then dropout, mean over time, joints side by side, mean over bodies, FC, BatchNorm, ReLU, FC."""

    def __init__(self, encoder: Encoder, *, classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.encoder, self.dropout = encoder, nn.Dropout(dropout)
        width = encoder.grid.joints * encoder.dim
        self.head = nn.Sequential(
            nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return logits [B, K]."""
        grid = self.encoder.grid
        tokens = self.dropout(self.encoder(batch.x))
        items = tokens.reshape(-1, grid.times, grid.joints, self.encoder.dim).mean(1).flatten(1)
        return self.head(mean_over_bodies(items.float(), batch))  # type: ignore[no-any-return]

    def scale_of(self, decay: float) -> dict[str, float]:
        """Return each parameter's share of the learning rate: decay^(layers above it) (BEiT's layer-wise decay)."""
        depth = self.encoder.depth
        return {
            name: decay ** (depth + 1 - self.encoder.layer_of(name.removeprefix("encoder.")))
            if name.startswith("encoder.")
            else 1.0
            for name, _ in self.named_parameters()
        }


@probes.register("finetune")
def finetune(encoder: Encoder, exam: Exam) -> Scores:
    """Train a copy of the encoder, and a head, on the train labels."""
    return finetune_on(encoder, exam, exam.config.finetune)


@probes.register("transfer")
def transfer(encoder: Encoder, exam: Exam) -> Scores:
    """Fine-tune on another store than the one that was pre-trained on: the same recipe, other classes."""
    return finetune(encoder, exam)


@probes.register("scratch")
def scratch(encoder: Encoder, exam: Exam) -> Scores:
    """Train the encoder and a head from the start: for an encoder that was not pre-trained, the comparison."""
    return finetune_on(encoder, exam, exam.config.scratch)


def finetune_on(encoder: Encoder, exam: Exam, settings: Finetune) -> Scores:
    """Return the scores of a copy of the encoder, trained with a head by these settings."""

    def judge(model: nn.Module, judged: Exam) -> Scores:
        return classify(model, judged, batch=settings.batch)

    return select(lambda learnt, watch: _fit(copy.deepcopy(encoder), learnt, settings, watch), judge, exam)


def _fit(encoder: Encoder, exam: Exam, settings: Finetune, watch: Watch) -> Classifier:
    torch.manual_seed(exam.config.seed)
    model = Classifier(encoder, classes=exam.classes, hidden=settings.hidden, dropout=settings.dropout).to(exam.device)
    set_drop_path(encoder, settings.drop_path)
    loader = exam.loader("train", augmented=True, batch=settings.batch)
    share = model.scale_of(settings.layer_decay)
    optimizer = adamw(model, lr=settings.lr, weight_decay=settings.weight_decay, scale=share.__getitem__)
    schedule = warmup_cosine(
        optimizer,
        steps=settings.epochs * len(loader),
        warmup=round(settings.warmup * len(loader)),
        floor=min(1.0, settings.min_lr / settings.lr),
    )
    for epoch in range(settings.epochs):
        model.train()
        for batch in loader.epoch(epoch):
            if batch.clips < 2:
                continue  # the head's BatchNorm has no variance of one clip
            loss = cross_entropy(model(batch), batch.label, label_smoothing=settings.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        watch(model)
        exam.tell("fine-tuning", epoch + 1, settings.epochs)
    return model


def set_drop_path(encoder: nn.Module, rate: float) -> None:
    """Set stochastic depth, rising linearly from 0 in the first block to ``rate`` in the last."""
    layers = [module for module in encoder.modules() if isinstance(module, DropPath)]
    for number, layer in enumerate(layers):
        layer.rate = rate * number / max(1, len(layers) - 1)


@torch.no_grad()
def classify(model: nn.Module, exam: Exam, *, batch: int) -> Scores:
    """Return a classifier's scores on the test part."""
    model.eval()
    logits, labels = [], []
    for clips in exam.loader("test", batch=batch).epoch(0):
        logits.append(model(clips).cpu())
        labels.append(clips.label.cpu())
    return score(torch.cat(logits), torch.cat(labels))
