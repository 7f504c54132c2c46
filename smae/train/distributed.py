"""Processes that train together under torchrun: who one is, and what all of them must agree on. Alone, all is given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Ranks:
    """One process among ``world``; only the first writes files and speaks.

    Attributes:
        rank: 0-based number of this process.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, element by element; on a GPU nobody waits for it here."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def highest(self, number: int) -> int:
        """Return the highest of all processes' numbers; they wait for one another."""
        if self.world == 1:
            return number
        shared = torch.tensor(number)
        distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
        return int(shared)


ALONE = Ranks()


def launched() -> Ranks:
    """Return what torchrun says of this process in its environment; alone without it."""
    return Ranks(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


@contextmanager
def together() -> Iterator[Ranks]:
    """Join the other processes that torchrun started, if it did, and leave them at the end."""
    ranks = launched()
    if ranks.world == 1:
        yield ranks
        return
    # Both at once: gradients of a GPU by NCCL, what processes agree on (CPU) by Gloo.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()
