"""The training log: one JSON line per step, and the same curves for TensorBoard and other writers of scalars."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from smae.atomic_io import os_errors, write_atomic

MACHINE = ("seconds", "host_bytes", "device_bytes")
"""Entries of a line that tell of the machine: a repeated run differs in these alone."""


class Writer(Protocol):
    """Takes the points of curves, as TensorBoard's writer does."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Add one point."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class Log:
    """Writes ``log.jsonl`` and, if wanted, TensorBoard events and what ``also`` writes. A context manager.

    Without a path nothing is written, and the last loss is known all the same.

    A resumed run first cuts off the lines of steps that its checkpoint does not hold, so that each step stands there
    once.

    Attributes:
        last_loss: of the last step written, NaN before the first.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        tensorboard: Path | None = None,
        also: Callable[[], Writer] | None = None,
        from_step: int = 0,
    ) -> None:
        kept = _cut(path, from_step=from_step) if path is not None else []
        self._path = path or Path(os.devnull)
        self.last_loss = float(kept[-1]["loss"]) if kept else float("nan")
        self._begun = time.monotonic() - (kept[-1]["seconds"] if kept else 0.0)
        with os_errors(self._path.parent):
            self._out = open(self._path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115  (closed in __exit__)
            wanted = [_tensorboard(tensorboard, from_step) if tensorboard else None, also() if also else None]
            self._writers: list[Writer] = [writer for writer in wanted if writer is not None]

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exc: object) -> None:
        with os_errors(self._path.parent):
            self._out.close()
            for writer in self._writers:
                writer.close()

    def step(
        self, step: int, *, epoch: int, loss: float, lr: float, clips: int, metrics: dict[str, float] | None = None,
        memory: dict[str, int] | None = None,
    ) -> None:  # fmt: skip
        """Add one finished step, now and then with ``memory``, see ``footprint``.

        Raises:
            EnvironmentFault: no space, no permission, or a device error.
        """
        line = {"step": step, "epoch": epoch, "loss": loss, "lr": lr, "clips": clips, **(metrics or {})}
        self.last_loss = loss
        line["seconds"] = round(time.monotonic() - self._begun, 3)
        line |= memory or {}
        with os_errors(self._path.parent):
            self._out.write(json.dumps(line) + "\n")
            for writer in self._writers:
                for name in ("loss", "lr", *(metrics or {})):
                    writer.add_scalar(name, line[name], step)


def _cut(path: Path, *, from_step: int) -> list[dict[str, Any]]:
    """Leave the lines up to ``from_step`` in the file and return them."""
    kept = [line for line in read_log(path) if line["step"] <= from_step] if from_step else []
    # In one piece: a crash here must not cost the lines that the checkpoint stands for.
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
    return kept


def _tensorboard(folder: Path, from_step: int) -> Any:
    if not has_tensorboard():
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=from_step + 1 if from_step else None)


def has_tensorboard() -> bool:
    """Return whether TensorBoard is installed (``pip install 'smae[tensorboard]'``)."""
    return find_spec("tensorboard") is not None


def read_log(path: Path, *, note: Callable[[str], None] = lambda message: None) -> list[dict[str, Any]]:
    """Return the log's lines; a last line cut short by a crash is passed over, and told through ``note``."""
    lines: list[dict[str, Any]] = []
    if not path.is_file():
        return lines
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            lines.append(json.loads(text))
        except ValueError:
            note(f"{path}:{number}: not JSON, passed over")
    return lines
