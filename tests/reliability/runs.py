"""What trials ask of pre-training: a little store, settings of some thousand weights, and all that a run has come to.

What a run does not write down itself, the clips of each step and the state of torch's generator after it, is written
beside its log by a function put around the loop's own, once ``record`` was called.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import smae
from smae.train.metrics_log import MACHINE_KEYS
from tests.data.raw_folder import skeleton, write_folder
from tests.reliability.forked_cli import warm_up

SETTINGS = (
    "augment.frames=12", "augment.min_frames=8", "masking.name=random", "masking.keep=0.3",
    "encoder.dim=16", "encoder.depth=2", "encoder.heads=2", "encoder.patch=4", "encoder.drop_path=0.5",
    "decoder.name=cross", "decoder.dim=16", "decoder.depth=1", "decoder.heads=2", "objective.normalise=none",
    "optim.warmup=1", "train.batch=4", "train.save_seconds=0", "train.log_every=1", "train.ema=0.9",
    "linear.epochs=5", "linear.views=2",
)  # fmt: skip
"""``drop_path`` draws from torch's generator; a checkpoint is written after each epoch."""


def write_store(folder: Path) -> Path:
    """Write a store of 24 clips, 15 of them to train on under xsub, and return it."""
    texts = {
        f"S001C{i % 3 + 1:03}P{i // 3 + 1:03}R001A{i % 2 + 1:03}.skeleton": skeleton(16, seed=i, bodies=1 + i % 2)
        for i in range(24)
    }
    smae.prepare(write_folder(folder / "raw", texts), folder / "data.zarr", executor="inline")
    return folder / "data.zarr"


def command(store: Path | str, run: Path, *, epochs: int, workers: int = 1) -> list[str]:
    """Return the arguments that begin a run, or continue it."""
    sets = [f"--set={setting}" for setting in (*SETTINGS, f"train.workers={workers}")]
    where = [
        "--data",
        str(store),
        "--out",
        str(run),
        "--device",
        "cpu",
        "--recipe",
        "skeletonmae-cpu",
        "--epochs",
        str(epochs),
    ]
    return ["pretrain", "--resume", *where, *sets]


def warm_up_training(notes: Path | None = None) -> None:
    """Import what training and evaluation need, so that a forked attempt starts at once; ``record`` what runs do."""
    warm_up_models()
    import torch.utils.tensorboard  # noqa: F401
    import torchmetrics.classification  # noqa: F401

    record(notes)


def warm_up_models() -> None:
    """Import what is needed until a checkpoint is read, and no more, for attempts whose memory is measured."""
    warm_up()
    import torch
    import torch._dynamo

    from smae.train import pretrain  # noqa: F401

    torch.set_num_threads(1)


def record(notes: Path | None) -> None:
    """From now on, have every run write ``steps.jsonl`` to its folder or to ``notes``, a line before a step's loss."""
    import torch

    from smae.train.loop import Loop

    read = Loop._read

    def note_and_read(loop: Loop, step: Any, *arguments: Any) -> None:
        # Before the loss is read, hence before any checkpoint of the step: no kill parts the two.
        generator = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()
        with open((notes or loop.run.path) / "steps.jsonl", "a", encoding="utf-8") as out:
            out.write(json.dumps([step.position.step, [step.index.tolist(), generator]]) + "\n")
        read(loop, step, *arguments)

    Loop._read = note_and_read  # type: ignore[method-assign]


def outcome(run: Path, notes: Path | None = None) -> dict[str, Any]:
    """Return all that a finished run has come to: bytes of its last checkpoint, log, order of clips, generators."""
    notes = notes or run
    steps = sorted((run / "checkpoints").glob("step-*"))
    came: dict[str, Any] = {f"{path.name}": path.read_bytes() for path in sorted(steps[-1].iterdir())} if steps else {}
    came["last step"] = steps[-1].name if steps else ""
    came["log"] = [{k: v for k, v in line.items() if k not in MACHINE_KEYS} for line in _lines(run / "log.jsonl")]
    noted = dict(map(tuple, _lines(notes / "steps.jsonl")))
    came["order of clips"] = [(step, ids) for step, (ids, _) in noted.items()]
    came["generators"] = [generator for _, generator in noted.values()]
    came["left behind"] = sorted(path.name for path in run.rglob("*.partial"))
    return came


def difference(run: Path, expected: dict[str, Any], notes: Path | None = None) -> str:
    """Return in what a finished run differs from an undisturbed one; empty if in nothing."""
    found = outcome(run, notes)
    differ = [key for key in {**expected, **found} if found.get(key) != expected.get(key)]
    return f"differs from an undisturbed run: {', '.join(differ)}" if differ else ""


def _lines(path: Path) -> list[Any]:
    """Return the values of a file of JSON lines but for those that a kill cut short; a step done again counts anew."""
    values = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            values.append(json.loads(line))
        except ValueError:
            continue
    return values
