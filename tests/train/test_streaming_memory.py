"""Training on a store a hundred times as large takes no more memory, beyond 1 GiB, if streamed; keeping it would."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from smae.data.raw.recording import Clip
from smae.data.store.writer import ClipFacts, Header, write_store
from smae.skeleton import NTU25

GIB = 2**30
CLIPS, FRAMES, TIMES = 150, 320, 100
"""48,000 rows, or 14 MB; a hundred times that is 1.4 GB."""

PROGRAM = """
import sys
import smae

small = {"dim": 8, "depth": 1, "heads": 1}
train = {"rows": sys.argv[2], "epochs": 1, "workers": 2}
result = smae.pretrain(
    data=sys.argv[1], out=sys.argv[3], recipe="base", protocol="xview", device="cpu",
    settings={"augment.frames": 12, "train": train, "encoder": small, "decoder": small},
)
train = len(smae.open_store(sys.argv[1]).split("xview").train)
assert result.steps == -(-train // result.run.describe()["config"]["train"]["batch"])
# Not ru_maxrss, which begins with what the process held that started this one.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""


def write(path: Path, *, times: int) -> Path:
    header = Header(layout=NTU25, mode="reference", dataset="ntu60", classes=("A001",))
    state = np.full((1, FRAMES, 25), 2, np.uint8)

    def clips() -> Iterator[tuple[ClipFacts, Clip]]:
        for turn in range(times):
            for number in range(CLIPS):
                # The same in every frame, so that little lies on the disk.
                pose = np.random.default_rng(number).normal(size=(1, 1, 25, 3)).astype(np.float32)
                joints = np.tile(pose - pose[:, :, NTU25.centre, None], (1, FRAMES, 1, 1))
                # Camera 1 is tested, the others are trained on.
                facts = ClipFacts(name=f"t{turn:03}n{number:03}", action="A001", camera=1 if number == 0 else 2)
                yield facts, Clip(joints, state)

    write_store(path, header=header, clips=clips())
    return path


def peak(store: Path, mode: str) -> int:
    """Return the most memory, in bytes, that a process held that trained an epoch."""
    command = [sys.executable, "-c", PROGRAM, str(store), mode, str(store.with_suffix(f".{mode}"))]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_training_on_a_store_repeated_a_hundred_times_takes_as_much_memory(tmp_path: Path) -> None:
    once, often = write(tmp_path / "once.zarr", times=1), write(tmp_path / "often.zarr", times=TIMES)
    base = peak(once, "streaming")
    assert peak(often, "streaming") < base + GIB
    assert peak(often, "resident") > base + GIB
