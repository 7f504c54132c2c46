"""A batch in portions of whole clips, for gradient accumulation."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from smae.data.loader.batch import Batch


def portions(batch: Batch, count: int) -> Iterator[Batch]:
    """Cut a batch into at most ``count`` batches of whole clips, which share its memory.

    Where a clip's items begin is known to the device alone: with a count above 1, this waits for a GPU, once a batch.
    """
    size = math.ceil(batch.clips / count)
    if size >= batch.clips:
        yield batch
        return
    starts = list(range(0, batch.clips, size))
    edges = torch.searchsorted(batch.clip, torch.tensor([*starts, batch.clips], device=batch.clip.device)).tolist()
    for start, first, last in zip(starts, edges, edges[1:], strict=False):
        yield Batch(
            x=batch.x[first:last],
            clip=batch.clip[first:last] - start,
            body=batch.body[first:last],
            index=batch.index[start : start + size],
            label=batch.label[start : start + size],
            epoch=batch.epoch,
        )
