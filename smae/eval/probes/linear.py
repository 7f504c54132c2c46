"""The linear probe: frozen features -> BatchNorm without affine -> one linear map."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from smae.data.loader.batch import Batch
from smae.eval.features import Describe, Features, Pool, Pooled, extract
from smae.eval.probes import ENCODE_BATCH, ONE_VIEW, Exam, Scores, score, together
from smae.eval.probes.selection import Watch, select
from smae.models.encoders import Encoder


class LinearClassifier(nn.Module):
    """An encoder's pooled features, then BatchNorm without affine and one linear map."""

    def __init__(self, encoder: Encoder, *, classes: int, pool: Pool = "mean") -> None:
        super().__init__()
        self.encoder, self.pool = encoder, pool
        self.head = linear_head(Pooled(encoder, pool).width, classes=classes)

    def forward(self, batch: Batch) -> Tensor:
        """Return logits [B, K]."""
        return self.head(Pooled(self.encoder, self.pool)(batch))  # type: ignore[no-any-return]


def linear_head(width: int, *, classes: int) -> nn.Sequential:
    """Return an untrained head over features of ``width``."""
    layer = nn.Linear(width, classes)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.BatchNorm1d(width, affine=False, eps=1e-6), layer)


def linear(encoder: Encoder, exam: Exam) -> Scores:
    """Judge frozen pooled features by a linear map (recipe of MAMP: SGD, cosine to 0)."""
    pool = exam.config.linear.pool
    scores = linear_on(Pooled(encoder, pool), exam)
    assert scores.model is not None, "select keeps the head"
    whole = LinearClassifier(encoder, classes=exam.classes, pool=pool)
    whole.head.load_state_dict(scores.model.state_dict())
    return replace(scores, model=whole.eval())


def linear_on(describe: Describe, exam: Exam) -> Scores:
    """Judge any describer by a linear map; epoch e learns from augmented view e mod views."""
    views = exam.config.linear.test_views

    def judge(head: nn.Module, judged: Exam) -> Scores:
        seen = judged.views(describe, "test", count=views) or [judged.plain(describe, "test")]
        return _scores(head, seen, judged)

    scores = select(lambda learnt, watch: _fit(describe, learnt, watch), judge, exam)
    if views and scores.model is not None:
        scores.beside[ONE_VIEW] = _scores(scores.model, [exam.plain(describe, "test")], exam)
    return scores


@torch.no_grad()
def _scores(head: nn.Module, seen: list[Features], exam: Exam) -> Scores:
    head.eval()
    return score(together([head(features.x.to(exam.device)) for features in seen]), seen[0].label)


def _fit(describe: Describe, exam: Exam, watch: Watch) -> nn.Sequential:
    settings, seed = exam.config.linear, exam.config.seed
    views = min(settings.views, settings.epochs)
    passes = exam.loader("train", augmented=True, batch=ENCODE_BATCH)
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    generator = torch.Generator().manual_seed(seed)
    head: nn.Sequential | None = None
    for epoch in range(settings.epochs):
        view = epoch % max(1, views)
        if view not in kept:
            features = extract(describe, passes, epoch=view) if views else exam.plain(describe, "train")
            kept[view] = (features.x.to(exam.device), features.label.to(exam.device))
        x, label = kept[view]
        if head is None:
            torch.manual_seed(seed)
            head = linear_head(x.shape[1], classes=exam.classes).to(exam.device)
            optimizer = torch.optim.SGD(head.parameters(), lr=settings.lr, momentum=settings.momentum)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
        head.train()
        for rows in torch.split(torch.randperm(len(x), generator=generator), settings.batch):
            if len(rows) < 2:
                continue  # BatchNorm has no variance of one row; the next epoch draws other leftovers
            loss = cross_entropy(head(x[rows]), label[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
        if views == settings.epochs:
            del kept[view]  # each view serves one epoch: nothing is gained by keeping it
        watch(head)
        # The first epochs are slow where views are described in them and kept: no measure of those that follow.
        if epoch < views < settings.epochs:
            exam.tell("linear probe, views", epoch + 1, views)
        else:
            exam.tell("linear probe", epoch + 1, settings.epochs)
    assert head is not None, "settings.epochs is at least 1"
    return head
