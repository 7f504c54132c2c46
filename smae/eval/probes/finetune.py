"""Fine-tuning: the whole encoder and a head are trained on the labels (MAMP's recipe)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from smae.data.loader.batch import Batch
from smae.eval.features import mean_over_bodies
from smae.eval.probes import ONE_VIEW, Exam, Scores, score, together
from smae.eval.probes.selection import Watch, select
from smae.models.encoders import Encoder
from smae.models.masking import kept_count, mask_from_scores
from smae.models.transformer import DropPath
from smae.train.config import Finetune
from smae.train.optim import adamw, warmup_cosine


class Classifier(nn.Module):
    """Encoder, then dropout, mean over time, joints side by side, mean over bodies, FC, BatchNorm, ReLU, FC.

    With ``keep`` below 1 it is trained on a random share of each body's tokens, others every time it is called; what
    is left of a joint's tokens is averaged, and a joint with none counts as zeros.
    """

    def __init__(self, encoder: Encoder, *, classes: int, hidden: int, dropout: float, keep: float = 1.0) -> None:
        super().__init__()
        self.encoder, self.dropout = encoder, nn.Dropout(dropout)
        self.seen = kept_count(keep, encoder.grid.tokens, setting="keep")
        width = encoder.grid.joints * encoder.dim
        self.head = nn.Sequential(
            nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return logits [B, K]."""
        grid = self.encoder.grid
        if self.training and self.seen < grid.tokens:
            mask = mask_from_scores(torch.rand(len(batch.x), grid.tokens, device=batch.x.device), self.seen)
            items = mean_over_time(self.dropout(self.encoder(batch.x, mask)), mask.keep, joints=grid.joints)
        else:
            items = self.dropout(self.encoder(batch.x)).reshape(-1, grid.times, grid.joints, self.encoder.dim).mean(1)
        return self.head(mean_over_bodies(items.flatten(1).float(), batch))  # type: ignore[no-any-return]

    def scale_of(self, decay: float) -> dict[str, float]:
        """Return each parameter's share of the learning rate: decay^(layers above it) (BEiT's layer-wise decay)."""
        depth = self.encoder.depth
        return {
            name: decay ** (depth + 1 - self.encoder.layer_of(name.removeprefix("encoder.")))
            if name.startswith("encoder.")
            else 1.0
            for name, _ in self.named_parameters()
        }


def mean_over_time(tokens: Tensor, keep: Tensor, *, joints: int) -> Tensor:
    """Return [N, V, D]: each joint's mean over those of its tokens that are there; zeros where none is.

    Args:
        tokens: [N, K, D].
        keep: int64 [N, K], which tokens of the clip they are: token number = time * joints + joint.
        joints: V.
    """
    joint = keep % joints
    total = tokens.new_zeros(len(tokens), joints, tokens.shape[2])
    total.scatter_add_(1, joint[..., None].expand_as(tokens), tokens)
    count = tokens.new_zeros(len(tokens), joints).scatter_add_(1, joint, torch.ones_like(joint, dtype=tokens.dtype))
    return total / count.clamp(min=1)[..., None]


def finetune(encoder: Encoder, exam: Exam) -> Scores:
    """Train a copy of the encoder, and a head, on the train labels."""
    return finetune_on(encoder, exam, exam.config.finetune)


def transfer(encoder: Encoder, exam: Exam) -> Scores:
    """Fine-tune on another store than the one that was pre-trained on: the same recipe, other classes."""
    return finetune(encoder, exam)


def scratch(encoder: Encoder, exam: Exam) -> Scores:
    """Train the encoder and a head from the start: for an encoder that was not pre-trained, the comparison."""
    return finetune_on(encoder, exam, exam.config.scratch)


def finetune_on(encoder: Encoder, exam: Exam, settings: Finetune) -> Scores:
    """Return the scores of a copy of the encoder, trained with a head by these settings.

    Tested by several views, the last epoch's scores by one plain view stand beside them: what other papers print.
    """

    def judge(model: nn.Module, judged: Exam) -> Scores:
        return classify(model, judged, batch=settings.batch, views=settings.test_views)

    scores = select(lambda learnt, watch: _fit(copy.deepcopy(encoder), learnt, settings, watch), judge, exam)
    if settings.test_views and scores.model is not None:
        scores.beside[ONE_VIEW] = classify(scores.model, exam, batch=settings.batch)
    return scores


def _fit(encoder: Encoder, exam: Exam, settings: Finetune, watch: Watch) -> Classifier:
    torch.manual_seed(exam.config.seed)
    model = Classifier(
        encoder, classes=exam.classes, hidden=settings.hidden, dropout=settings.dropout, keep=settings.keep
    ).to(exam.device)
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
def classify(model: nn.Module, exam: Exam, *, batch: int, views: int = 0) -> Scores:
    """Return a classifier's scores on the test part: of plain clips, or of as many augmented ``views`` of each."""
    model.eval()
    loader = exam.loader("test", augmented=views > 0, batch=batch)
    passes = []
    for view in range(max(1, views)):
        pairs = [(model(clips).cpu(), clips.label.cpu()) for clips in loader.epoch(view)]
        logits, label = (torch.cat(several) for several in zip(*pairs, strict=True))
        passes.append(logits)
    return score(together(passes), label)
