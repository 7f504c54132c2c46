"""The nearest-neighbour probe (retrieval): the train part is the gallery, nothing is learned."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from smae.eval.features import Describe, Pooled
from smae.eval.probes import Exam, Scores, score
from smae.models.encoders import Encoder

_QUERY_BATCH = 1024


def knn(encoder: Encoder, exam: Exam) -> Scores:
    """Judge frozen pooled features by their nearest neighbours."""
    return knn_on(Pooled(encoder, exam.config.knn.pool), exam)


def knn_on(describe: Describe, exam: Exam) -> Scores:
    """Judge any describer: L2-normalised features, cosine, k neighbours vote with their class."""
    gallery, query = exam.plain(describe, "train"), exam.plain(describe, "test")
    k = min(exam.config.knn.k, len(gallery.x))
    votes = neighbour_votes(query.x, gallery.x, gallery.label, k=k, classes=exam.classes)
    # Classes that nobody voted for stand in no order, so there are no first five.
    return replace(score(votes, query.label), top5=None, logits=None)


def neighbour_votes(query: Tensor, gallery: Tensor, label: Tensor, *, k: int, classes: int) -> Tensor:
    """Return votes [n, K] of the k most similar gallery rows; a tie falls to the class of the nearer ones.

    Args:
        query: [n, D].
        gallery: [m, D].
        label: int64 [m], classes of the gallery.
        k: neighbours, at most m.
        classes: K.
    """
    gallery = normalize(gallery, dim=1)
    votes = []
    for rows in torch.split(normalize(query, dim=1), _QUERY_BATCH):
        similarity, nearest = (rows @ gallery.T).topk(k, dim=1)
        # At most 0.8 / k more a vote: similarity breaks ties and never outvotes.
        weight = 1 + (similarity.clamp(-1, 1) + 1) * (0.4 / k)
        votes.append(torch.zeros(len(rows), classes).scatter_add_(1, label[nearest], weight))
    return torch.cat(votes)
