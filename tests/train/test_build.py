"""Building: blocks that are compiled compute what they computed before, for any number of items."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from smae.models import Block
from smae.skeleton import NTU25
from smae.testing.models import small_batch
from smae.train.config import build_objective, compile_blocks
from smae.train.distributed import has_native_bf16
from tests.train.small import CPU, small_config


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("decoder", ["self", "cross"])
def test_compiled_blocks_give_the_same_losses_and_gradients_to_rounding(decoder: str) -> None:
    config = small_config(decoder={"name": decoder, "dim": 16, "depth": 1, "heads": 2})
    plain, compiled = build_objective(config, NTU25), build_objective(config, NTU25)
    compile_blocks(compiled)
    assert sum(isinstance(module, Block) for module in compiled.modules()) == 2
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for clips in (2, 4, 7):
        batch = replace(small_batch(NTU25, frames=12, clips=clips), epoch=clips)
        losses = [one(batch, batch.noise(0)).loss for one in (plain, compiled)]
        torch.testing.assert_close(losses[1], losses[0])
        for loss in losses:
            loss.backward()
        for (name, mine), theirs in zip(plain.named_parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(theirs.grad, mine.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_whether_bfloat16_is_fast_is_known_of_every_device() -> None:
    assert has_native_bf16(CPU) in (True, False)
