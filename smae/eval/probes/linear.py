"""Probes of frozen features: a linear classifier (MAMP's recipe), and nearest neighbours."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from smae import interrupts, progress
from smae.data.loader import Batch
from smae.eval.features import FeatureExtractor, Features, Pooled, raw_coordinates
from smae.eval.probes import OnEpoch, ProbeContext, Scores, average_views, score, select
from smae.eval.records import ONE_VIEW
from smae.models.encoders import Encoder
from smae.train.config import Pool

_QUERY_BATCH = 1024


class LinearClassifier(nn.Module):
    """Pooled features of an encoder, then the linear head."""

    def __init__(self, encoder: Encoder, *, classes: int, pool: Pool = "mean") -> None:
        super().__init__()
        self.encoder, self.pool = encoder, pool
        self.head = linear_head(Pooled(encoder, pool).width, classes=classes)

    def forward(self, batch: Batch) -> Tensor:
        """Return logits [B, K]."""
        return self.head(Pooled(self.encoder, self.pool)(batch))  # type: ignore[no-any-return]

    def vectors(self, x: Tensor) -> Tensor:
        """Return what the head takes, [N, width], of items x [N, T, V, C]."""
        return Pooled(self.encoder, self.pool).vectors(x)


def linear_head(width: int, *, classes: int) -> nn.Sequential:
    """Return an untrained head: BatchNorm without affine parameters, then one linear layer."""
    layer = nn.Linear(width, classes)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.BatchNorm1d(width, affine=False, eps=1e-6), layer)


def linear(encoder: Encoder, context: ProbeContext) -> Scores:
    """Evaluate frozen pooled features by a linear classifier (SGD, cosine to 0)."""
    pool = context.config.linear.pool
    scores = linear_on(Pooled(encoder, pool), context)
    assert scores.model is not None, "select keeps the head"
    model = LinearClassifier(encoder, classes=context.num_classes, pool=pool)
    model.head.load_state_dict(scores.model.state_dict())
    return replace(scores, model=model.eval())


def linear_on(extractor: FeatureExtractor, context: ProbeContext) -> Scores:
    """Evaluate any features by a linear classifier; ``Scores.model`` is the head alone."""
    views = context.config.linear.test_views

    def evaluate(head: nn.Module, fold: ProbeContext) -> Scores:
        if not views:
            return _score(head, [fold.features(extractor, "test")], fold)
        seen = [fold.features(extractor, "test", view=view) for view in range(views)]
        return _score(head, seen, fold)

    scores = select(lambda fold, on_epoch: _fit(extractor, fold, on_epoch), evaluate, context)
    if views and scores.model is not None:
        plain = [context.features(extractor, "test")]
        scores.alternatives[ONE_VIEW] = _score(scores.model, plain, context)
    return scores


@torch.no_grad()
def _score(head: nn.Module, views: list[Features], context: ProbeContext) -> Scores:
    head.eval()
    logits = [head(features.x.to(context.device)) for features in views]
    return score(average_views(logits), views[0].label)


def _fit(extractor: FeatureExtractor, context: ProbeContext, on_epoch: OnEpoch) -> nn.Sequential:
    """Train a head; epoch e uses augmented view e mod ``linear.views``."""
    settings, seed = context.config.linear, context.config.seed
    views = min(settings.views, settings.epochs)
    # One for all views, made when the first of them is not on disk.
    loader = cache(partial(context.encoding_loader, "train", 0))

    def train_features(view: int) -> tuple[Tensor, Tensor]:
        if not views:
            features = context.features(extractor, "train")
        else:
            features = context.encode(extractor, "train", loader, view=view, views=views)
        if isinstance(extractor, Pooled):
            progress.spend(len(features.x))
        return features.x.to(context.device), features.label.to(context.device)

    # Views that serve several epochs are kept. Where each serves one, memory holds a single one.
    kept: list[tuple[Tensor, Tensor]] = []
    if views < settings.epochs:
        count = range(max(1, views))
        kept = [train_features(view) for view in progress.track(count, "augmented views", unit="views")]
    # Of raw coordinates it is a baseline, of the nearest-neighbour probe too.
    name = "linear classifier" if extractor is not raw_coordinates else "linear classifier of raw coordinates"
    generator = torch.Generator().manual_seed(seed)
    head: nn.Sequential | None = None
    with progress.task(name, total=settings.epochs, unit="epochs") as task:
        for epoch in range(settings.epochs):
            x, label = kept[epoch % len(kept)] if kept else train_features(epoch)
            if head is None:
                torch.manual_seed(seed)
                head = linear_head(x.shape[1], classes=context.num_classes).to(context.device)
                optimizer = torch.optim.SGD(head.parameters(), lr=settings.lr, momentum=settings.momentum)
                schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
            head.train()
            order = torch.randperm(len(x), generator=generator)
            for rows in torch.split(order, settings.batch):
                interrupts.check()
                # BatchNorm has no variance of one row; the next epoch leaves out another.
                if len(rows) < 2:
                    continue
                loss = cross_entropy(head(x[rows]), label[rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            if len(x) > 1:
                schedule.step()
            on_epoch(head)
            task.advance()
    assert head is not None, "settings.epochs is at least 1"
    return head


def knn(encoder: Encoder, context: ProbeContext) -> Scores:
    """Evaluate frozen pooled features by their nearest neighbours in the train part."""
    return knn_on(Pooled(encoder, context.config.knn.pool), context)


def knn_on(extractor: FeatureExtractor, context: ProbeContext) -> Scores:
    """Evaluate any features: L2-normalised, cosine similarity, the k nearest neighbours vote."""
    gallery, query = context.features(extractor, "train"), context.features(extractor, "test")
    k = min(context.config.knn.k, len(gallery.x))
    votes = neighbour_votes(query.x, gallery.x, gallery.label, k=k, classes=context.num_classes)
    # Classes without a vote are not ranked, so there is no top 5.
    return replace(score(votes, query.label), top5=None, logits=None)


def neighbour_votes(query: Tensor, gallery: Tensor, label: Tensor, *, k: int, classes: int) -> Tensor:
    """Return votes [n, K] of the k most similar gallery rows; nearer ones win ties.

    Args:
        query: [n, D].
        gallery: [m, D].
        label: int64 [m], classes of the gallery.
        k: number of neighbours, at most m.
        classes: K.
    """
    gallery = normalize(gallery, dim=1)
    votes = []
    for rows in torch.split(normalize(query, dim=1), _QUERY_BATCH):
        interrupts.check()
        similarity, nearest = (rows @ gallery.T).topk(k, dim=1)
        # All similarities together add less than one vote: they break ties and never outvote.
        weight = 1 + (similarity.clamp(-1, 1) + 1) * (0.4 / k)
        votes.append(torch.zeros(len(rows), classes).scatter_add_(1, label[nearest], weight))
    return torch.cat(votes)
