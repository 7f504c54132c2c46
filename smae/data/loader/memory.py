"""How much memory there is, and whether a loader's rows may stay in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from smae.errors import ConfigError

Mode = Literal["auto", "device", "resident", "streaming"]


@dataclass(frozen=True)
class Residency:
    """What was chosen for a loader's rows, and why; ``str()`` of it is a line for people.

    Attributes:
        mode: ``device``: all rows in the accelerator's memory; ``resident``: all in RAM; ``streaming``: a few blocks.
        why: the sizes that decided, or that it was asked for.
    """

    mode: Literal["device", "resident", "streaming"]
    why: str

    def __str__(self) -> str:
        return f"{'resident on the device' if self.mode == 'device' else self.mode}: {self.why}"


def choose(need: int, *, mode: Mode, device: torch.device) -> Residency:
    """Decide where ``need`` bytes of rows live: as ``mode`` says, or with ``"auto"`` as near to the device as they fit.

    They fit if they take no more than a quarter of the memory that is free now; those kept on an accelerator are kept
    in RAM too, where batches are planned.

    Raises:
        ConfigError: rows asked to be on a device that is the CPU.
    """
    if mode == "device" and device.type == "cpu":
        raise ConfigError("loader: train.rows=device needs a GPU, found the CPU: choose auto, resident or streaming")
    if mode != "auto":
        return Residency(mode, f"as asked; the rows take {in_words(need)}")
    free = free_memory()
    fits = need <= free // 4
    verb = "fit" if fits else "do not fit"
    why = f"{in_words(need)} of rows {verb} in a quarter of the {in_words(free)} of free memory"
    if fits and device.type == "cuda":
        there = free_on(device)
        if need <= there // 4:
            return Residency("device", f"{why}, and of the device's {in_words(there)}")
        why += f", but not of the device's {in_words(there)}"
    return Residency("resident" if fits else "streaming", why)


def free_on(device: torch.device) -> int:
    """Return the bytes that are free on a GPU."""
    return int(torch.cuda.mem_get_info(device)[0])


def free_memory() -> int:
    """Return the bytes of memory that this process may still take: the machine's, or its control group's if less."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    group = Path("/sys/fs/cgroup")
    limit, used = _lines(group / "memory.max"), _lines(group / "memory.current")
    if limit and used and limit[0].isdigit():
        free = min(free, max(0, int(limit[0]) - int(used[0])))
    return free


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split("\n")
    except OSError:
        return []


def in_words(count: int) -> str:
    """Return a number of bytes as people write it."""
    return f"{count / 1e9:.1f} GB" if count >= 10**8 else f"{count / 1e6:.1f} MB"
