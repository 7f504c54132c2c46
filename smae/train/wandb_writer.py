"""The curves of a run for Weights & Biases: written offline into the run's folder, unless WANDB_MODE says otherwise."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from smae.errors import ConfigError

PROJECT = "smae"


def check_wandb() -> None:
    """Refuse to go on where wandb is wanted and not installed.

    Raises:
        ConfigError: it is not.
    """
    if find_spec("wandb") is None:
        raise ConfigError(
            "train.wandb=true needs wandb, which is not installed: pip install 'smae[wandb]', or leave it out"
        )


class WandbWriter:
    """Takes scalars as TensorBoard's writer does.

    Nothing leaves this machine unless the user's own environment says WANDB_MODE=online; `wandb sync` sends an offline
    run later.

    Args:
        folder: the run's; a resumed run goes on under the id that lies in ``<folder>/wandb``.
        config: the run's settings, shown beside its curves.
    """

    def __init__(self, folder: Path, *, config: dict[str, Any]) -> None:
        check_wandb()
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.name,
            id=_id(folder / "wandb"),
            dir=str(folder),
            config=config,
            mode=os.environ.get("WANDB_MODE", "offline"),
            resume="allow",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Add one point of a curve; those of one step go together."""
        self._run.log({name: value}, step=step)

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


def _id(folder: Path) -> str:
    """Return the run's id, made when it begins."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "smae-run-id"
    if not path.is_file():
        path.write_text(uuid4().hex, encoding="ascii")
    return path.read_text(encoding="ascii").strip()
