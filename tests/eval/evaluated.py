"""Small runs on stores in memory, for tests of evaluations and their records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smae.config import as_toml
from smae.eval.evaluate import Evaluation, evaluate
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
    return evaluate(checkpoint=run.path, data=data, modes=modes, settings=settings, device="cpu", **options)[1]
