"""Small runs on stores in memory, for tests of evaluations and their records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from smae.config import as_toml
from smae.eval.evaluate import Evaluation, evaluate
from smae.eval.records import CHANCE, PRETRAINED, RANDOM, VERSION, Row, confusion_matrix, digest, mean_class, row_json
from smae.train.pretrain import pretrain
from smae.train.run_folder import Run
from tests.fakes import FakeStore
from tests.train.small import small_config

STORE = FakeStore.toy(clips=24, classes=4, seed=3, frames=16)
OTHER = FakeStore.toy(clips=30, classes=3, seed=4, frames=16)
OTHER.fingerprint = "cd" * 32
OTHER.path = Path("other.zarr")
FAST: dict[str, Any] = {
    "linear.epochs": 2, "finetune.epochs": 1, "scratch.epochs": 1, "scratch.hidden": 8, "scratch.batch": 16,
}  # fmt: skip


def train(path: Path, **settings: Any) -> Run:
    """Return a run on ``STORE`` with checkpoints of steps 4 and 8."""
    recipe = path.parent / f"{path.name}.toml"
    recipe.write_text(as_toml(small_config(train={"epochs": 2, "save_seconds": 0})))
    return pretrain(data=STORE, out=path, recipe=str(recipe), settings=settings, device="cpu").run


@contextmanager
def half_trained(run: Run) -> Iterator[None]:
    """Hide a run's newest checkpoint during the block."""
    newest, hidden = run.checkpoints / "step-00000008", run.path / "later"
    newest.rename(hidden)
    yield
    hidden.rename(newest)


def check(run: Run, *modes: str, data: FakeStore = STORE, **options: Any) -> Evaluation:
    """Return the evaluation of a run."""
    settings = {key: value for key, value in FAST.items() if key.split(".")[0] in (*modes, "linear")}
    settings |= options.pop("settings", {})
    return evaluate(run=run.path, data=data, probes=modes, settings=settings, device="cpu", **options)[1]


def record_json(
    *,
    mode: str = "linear",
    label: Any = None,
    predicted: Any = None,
    random: float = 0.5,
    classes: Sequence[str] = ("A001", "A002", "A003", "A004"),
    **changes: Any,
) -> dict[str, Any]:
    """Return a record as ``smae eval`` writes it; of the random encoder the first clips are right."""
    label = np.arange(40) % 4 if label is None else np.array(label)
    predicted = label if predicted is None else np.array(predicted)
    guesses = {PRETRAINED: predicted == label, RANDOM: np.arange(len(label)) < random * len(label)}
    rows = [
        Row(what, float(right.mean()), 0.99, interval=(0.4, 0.6), mode=mode, mean_class=mean_class(right, label),
            correct=right)
        for what, right in guesses.items()
    ]  # fmt: skip
    chance = 1 / len(classes)
    content: dict[str, Any] = {
        "version": VERSION, "store": "ab" * 32, "protocol": "ntu60-xsub", "mode": mode,
        "parts": {"train": 80, "test": len(label), "sha256": "12" * 32}, "settings": {"epochs": 5, "lr": 0.1},
        "augment": {"frames": 12, "stream": "joint"}, "selection": {"also": []}, "baselines": None,
        "checkpoint": {"step": 8, "sha256": "34" * 32}, "seed": 0, "manifest": "", "device": "cpu",
        "date": "2026-01-02T03:04:05.678+00:00", "command": f"smae eval --probe {mode}", "commit": "abc",
        "versions": {"smae": "0.1.0"}, "dataset": "ntu60", "store_mode": "reference", "layout": "ntu25",
        "seen_in_training": 0, "warnings": [], "classes": list(classes), "most_frequent": 0, "seconds": 1.0,
        "rows": [row_json(row) for row in (*rows, Row(CHANCE, chance, mode=mode, mean_class=chance))],
        "confusion": confusion_matrix(label, predicted, len(classes)).tolist(),
        "test": list(range(10, 10 + len(label))), "label": label.tolist(), "predicted": predicted.tolist(),
    }  # fmt: skip
    content |= changes
    return content | {"id": digest(content)}
