"""Distributed training under torchrun: rank, world size and the reductions that training needs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


SINGLE_PROCESS = DistributedContext()


@contextmanager
def process_group() -> Iterator[DistributedContext]:
    """Join the process group of torchrun, if any; only rank 0 logs and reports progress."""
    dist = DistributedContext.from_environment()
    if dist.world_size == 1:
        yield dist
        return
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
        distributed.destroy_process_group()
