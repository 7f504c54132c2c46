"""Training curves: one JSON line per step, TensorBoard and Weights & Biases; peak memory."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import torch

from smae.atomic_io import os_errors, write_atomic
from smae.errors import ConfigError
from smae.train.run_folder import read_log_line

logger = logging.getLogger(__name__)

MACHINE_KEYS = ("seconds", "host_bytes", "device_bytes")
"""Keys of a line that depend on the machine; a repeated run differs in these only."""
_NO_CURVES = ("step", "epoch", "clips")


class ScalarWriter(Protocol):
    """Takes the points of curves; TensorBoard's ``SummaryWriter`` is one."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Add one point."""

    def close(self) -> None:
        """Flush and close."""


class MetricsLog:
    """Context manager that writes ``log.jsonl``, TensorBoard events and Weights & Biases.

    A resumed run first drops the lines of steps that its checkpoint does not include.

    Args:
        path: the JSON lines file; with None nothing is written, but ``last_loss`` is known.
        tensorboard: folder for TensorBoard events.
        wandb: makes the Weights & Biases writer.
        from_step: steps finished before; their lines are kept.

    Attributes:
        last_loss: loss of the last step written, NaN before the first.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        tensorboard: Path | None = None,
        wandb: Callable[[], ScalarWriter] | None = None,
        from_step: int = 0,
    ) -> None:
        self.last_loss = float("nan")
        self._start = time.monotonic()
        if path is not None:
            lines = _truncate(path, last_step=from_step)
            if lines:
                self.last_loss = float(lines[-1]["loss"])
                self._start -= lines[-1]["seconds"]
        self._path = path or Path(os.devnull)
        self._writers: list[ScalarWriter] = []
        with os_errors(self._path.parent):
            self._file = open(self._path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115  (closed in __exit__)
            if tensorboard is not None and has_tensorboard():
                from torch.utils.tensorboard import SummaryWriter

                # Purging removes points that were logged after the checkpoint.
                purge_step = from_step + 1 if from_step else None
                self._writers.append(SummaryWriter(str(tensorboard), purge_step=purge_step))
            if wandb is not None:
                self._writers.append(wandb())

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *exc: object) -> None:
        with os_errors(self._path.parent):
            self._file.close()
            for writer in self._writers:
                writer.close()

    def write(self, metrics: Mapping[str, float], memory: Mapping[str, int]) -> None:
        """Add the line of a finished step.

        Args:
            metrics: ``step``, ``epoch``, ``clips``, and the curves: ``loss`` and others.
            memory: of ``peak_memory``, or empty.

        Raises:
            EnvironmentFault: no space, no permission, or a device error.
        """
        self.last_loss = metrics["loss"]
        line = {**metrics, "seconds": round(time.monotonic() - self._start, 3), **memory}
        with os_errors(self._path.parent):
            self._file.write(json.dumps(line) + "\n")
            for writer in self._writers:
                for name, value in metrics.items():
                    if name not in _NO_CURVES:
                        writer.add_scalar(name, value, int(metrics["step"]))


def _truncate(path: Path, *, last_step: int) -> list[dict[str, Any]]:
    """Keep the lines up to ``last_step`` in the file and return them."""
    lines = [line for line in read_log(path) if line["step"] <= last_step] if last_step else []
    # Atomically: a crash here must not lose lines of steps that the checkpoint includes.
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return lines


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the log's lines, none without a file; lines cut off by a crash are skipped."""
    lines: list[dict[str, Any]] = []
    if not path.is_file():
        return lines
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        if (line := read_log_line(text)) is not None:
            lines.append(line)
        else:
            logger.warning("%s:%d: not the line of a step, skipped", path, number)
    return lines


def has_tensorboard() -> bool:
    """Return whether TensorBoard is installed (``pip install 'smae[tensorboard]'``)."""
    return find_spec("tensorboard") is not None


def check_wandb() -> None:
    """Raise a ``ConfigError`` unless wandb is installed."""
    if find_spec("wandb") is None:
        raise ConfigError(
            "train.wandb=true needs wandb, which is not installed: pip install 'smae[wandb]', or leave it out"
        )


class WandbWriter:
    """Writes scalars for Weights & Biases, offline into the run's folder.

    Nothing is uploaded unless WANDB_MODE=online is set; ``wandb sync`` uploads it later.

    Args:
        folder: the run's; a resumed run continues under the id kept in ``<folder>/wandb``.
        config: the run's settings, shown beside its curves.
    """

    def __init__(self, folder: Path, *, config: dict[str, Any]) -> None:
        check_wandb()
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "smae"),
            name=folder.name,
            id=_wandb_id(folder / "wandb"),
            dir=str(folder),
            config=config,
            mode=os.environ.get("WANDB_MODE", "offline"),
            resume="allow",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._run.log({name: value}, step=step)

    def close(self) -> None:
        self._run.finish()


def _wandb_id(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "smae-run-id"
    if not path.is_file():
        path.write_text(uuid4().hex, encoding="ascii")
    return path.read_text(encoding="ascii").strip()


def peak_memory(device: torch.device) -> dict[str, int]:
    """Return peak memory: ``host_bytes`` if known, ``device_bytes`` on a GPU."""
    memory = {}
    host = _peak_resident_bytes()
    if host:
        memory["host_bytes"] = host
    if device.type == "cuda":
        memory["device_bytes"] = torch.cuda.max_memory_allocated(device)
    return memory


def _peak_resident_bytes() -> int:
    # Preferred to ru_maxrss, which starts with the memory of the process that forked this one.
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
