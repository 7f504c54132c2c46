"""The linear probe: frozen features -> BatchNorm without affine -> one linear map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from smae.models.encoders import Encoder
from smae.train.features import Describe, Pooled, extract
from smae.train.probes import ENCODE_BATCH, Exam, Scores, probes, score


@probes.register("linear")
def linear(encoder: Encoder, exam: Exam) -> Scores:
    """Judge frozen mean features by a linear map (recipe of MAMP: SGD, cosine to 0)."""
    return linear_on(Pooled(encoder), exam)


def linear_on(describe: Describe, exam: Exam) -> Scores:
    """Judge any describer by a linear map; epoch e learns from augmented view e mod views."""
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
            head, optimizer, schedule = _start(x.shape[1], exam)
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
        exam.tell("linear probe", epoch + 1, settings.epochs)
    assert head is not None, "settings.epochs is at least 1"
    head.eval()
    test = exam.plain(describe, "test")
    with torch.no_grad():
        return score(head(test.x.to(exam.device)), test.label)


def _start(width: int, exam: Exam) -> tuple[nn.Sequential, torch.optim.SGD, torch.optim.lr_scheduler.CosineAnnealingLR]:
    settings = exam.config.linear
    torch.manual_seed(exam.config.seed)
    layer = nn.Linear(width, exam.classes)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    head = nn.Sequential(nn.BatchNorm1d(width, affine=False, eps=1e-6), layer).to(exam.device)
    optimizer = torch.optim.SGD(head.parameters(), lr=settings.lr, momentum=settings.momentum)
    return head, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
