"""Same seed, same batch, same number of threads: the same gradients, bit for bit, however threads are scheduled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from smae.data.loader import Batch
from smae.skeleton import NTU25
from smae.train.config import build_objective, resolve


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["cross", "self"])
def test_gradients_repeat_to_the_last_bit_on_several_threads(two_threads: None, decoder: str) -> None:
    # Large enough for torch to share the work among threads, which it does not for toys.
    items = 64
    settings = {"encoder.depth": 1, "decoder": {"depth": 1, "name": decoder}, "objective.predict": 1.0}
    objective = build_objective(resolve("skeletonmae-cpu", settings), NTU25)
    zeros = torch.zeros(items, dtype=torch.long)
    x = torch.randn(items, 60, 25, 3, generator=torch.Generator().manual_seed(0))
    batch = Batch(x=x, clip=torch.arange(items), body=zeros, index=torch.arange(items), label=zeros, epoch=0)

    def gradients() -> dict[str, torch.Tensor]:
        objective.zero_grad()
        objective(batch, batch.noise(0)).loss.backward()
        return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}

    first = gradients()
    for _ in range(4):
        again = gradients()
        assert [name for name in first if not torch.equal(first[name], again[name])] == []
