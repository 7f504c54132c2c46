"""What each process of tests/train/test_distributed.py runs: a small run on a store in memory, and what it saw of it.

torchrun ... rank_program.py FOLDER STOP_AT RESUME [SETTINGS, as JSON]
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors.torch import save

from smae.errors import Interrupted
from smae.train.checkpoint import load_latest
from smae.train.distributed import DistributedContext, process_group
from smae.train.loop import Loop
from smae.train.run_folder import Run
from tests.fakes import FakeStore
from tests.train.small import run_through, small_config, small_loop

STORE = FakeStore.random(clips=21, seed=0, frames=(16, 30))
SETTINGS = {"train": {"accumulate": 2, "ema": 0.5}}


def train(
    folder: Path, dist: DistributedContext, *, stop_at: int, resume: bool, settings: dict[str, Any] = SETTINGS
) -> Loop:
    """Run to the end, or until the last rank is signalled in a step; write what was seen to the folder."""
    loop = small_loop(STORE, Run(folder), small_config(**settings), dist=dist)
    if resume:
        loop.resume(load_latest(loop.run.checkpoints))
    begun, seen = loop.position.step, list[Any]()
    loop.objective.register_forward_pre_hook(
        lambda module, args: seen.append((loop.position.step, args[0].index.tolist()))
    )
    try:
        run_through(loop, stop_at=stop_at if dist.rank == dist.world_size - 1 else 0)
    except Interrupted as stopped:
        print(stopped)
    weights = sha256(save({name: value.contiguous() for name, value in loop.objective.state_dict().items()}))
    record = {"seen": seen, "weights": weights.hexdigest(), "step": loop.position.step}
    (folder / f"from-{begun}-rank-{dist.rank}.json").write_text(json.dumps(record))
    return loop


if __name__ == "__main__":
    with process_group() as dist:
        settings = json.loads(sys.argv[4]) if len(sys.argv) > 4 else SETTINGS
        train(Path(sys.argv[1]), dist, stop_at=int(sys.argv[2]), resume=sys.argv[3] == "resume", settings=settings)
    threads = [comm.read_text().strip() for comm in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name], f"threads of the process group are left: {threads}"
