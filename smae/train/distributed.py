"""Distributed training under torchrun: rank, world size and the reductions that training needs."""

from __future__ import annotations

import gc
import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from smae import progress


@dataclass(frozen=True)
class DistributedContext:
    """This process among those that train together.

    Attributes:
        rank: 0-based number of this process.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1

    @classmethod
    def from_environment(cls) -> DistributedContext:
        """Return rank and world size as set by torchrun; without it, those of a single process."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only one that writes files, logs and reports progress."""
        return self.rank == 0

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over all ranks in place and return it; on a GPU the host does not wait."""
        if self.world_size > 1:
            distributed.all_reduce(values)
        return values

    def all_reduce_max(self, number: int) -> int:
        """Return the maximum over all ranks; they wait for one another."""
        if self.world_size == 1:
            return number
        shared = torch.tensor(number)
        distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
        return int(shared)


class _Gather(torch.autograd.Function):
    """All ranks' tensors of one shape, stacked; the gradient of each is summed over the ranks."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        every = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
        distributed.all_gather(every, values)
        return torch.stack(every)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous().clone()
        distributed.all_reduce(summed)
        return summed[distributed.get_rank()]


def gather_ranks(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return values [V, B, D] of all ranks as [V, M, D], and int64 [B], where this rank's are in M.

    Gradients flow back to the rank that a value is from. Ranks may have different numbers B.
    """
    clips = values.shape[1]
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return values, torch.arange(clips, device=values.device)
    counts = [torch.zeros((), dtype=torch.long, device=values.device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, torch.tensor(clips, device=values.device))
    sizes = [int(count) for count in counts]
    padded = torch.cat([values, values.new_zeros(values.shape[0], max(sizes) - clips, values.shape[2])], 1)
    every = _Gather.apply(padded.contiguous()).unbind()  # type: ignore[no-untyped-call]
    before = sum(sizes[: distributed.get_rank()])
    own = before + torch.arange(clips, device=values.device)
    return torch.cat([part[:, :size] for part, size in zip(every, sizes, strict=True)], 1), own


def relative_share(count: int, other: int, device: torch.device) -> Tensor:
    """Return this rank's share of all ranks' ``count``, over its share of their ``other``: 1 in one process."""
    mine = torch.tensor([count, other], dtype=torch.float64, device=device)
    every = mine.clone()
    if distributed.is_initialized():
        distributed.all_reduce(every)
    share, of_other = (mine / every).unbind()
    return (share / of_other).float()


SINGLE_PROCESS = DistributedContext()


@contextmanager
def process_group() -> Iterator[DistributedContext]:
    """Join the process group of torchrun, if any; only rank 0 logs and reports progress."""
    dist = DistributedContext.from_environment()
    if dist.world_size == 1:
        yield dist
        return
    # DistributedDataParallel imports this module, whose functions keep the group of the moment as their
    # default: imported before there is one, so that the group's threads end with it. A thread left to the
    # interpreter's end can abort the process there.
    importlib.import_module("torch.distributed.nn.functional")
    # Two backends: NCCL reduces gradients on GPUs, Gloo the flags and counts on the CPU.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    logger = logging.getLogger("smae")
    level = logger.level
    try:
        if dist.is_main:
            yield dist
        else:
            logger.setLevel(logging.CRITICAL)
            with progress.reporting(None):
                yield dist
    finally:
        logger.setLevel(level)
        gc.collect()  # DistributedDataParallel is in a cycle of references, and holds the group
        distributed.destroy_process_group()
