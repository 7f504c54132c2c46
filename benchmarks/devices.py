"""What a device can do at most: a large matrix product, and a copy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def pick(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is a GPU where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def describe(device: torch.device) -> dict[str, str]:
    """Return what the header of a report says of a device."""
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        return {"device": f"{about.name}, {about.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"}
    return {"device": f"the processor, {torch.get_num_threads()} threads"}


def finish(device: torch.device) -> None:
    """Wait for all that was given to a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def products(operations: float, *, dtype: torch.dtype, device: torch.device) -> Callable[[], None]:
    """Return what does about as many multiplications and additions, in products of large square matrices."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    count = max(1, round(operations / (2 * size**3)))
    out = torch.empty_like(left)

    def run() -> None:
        for _ in range(count):
            torch.mm(left, right, out=out)
        finish(device)

    return run


def copies(count: int, *, device: torch.device) -> Callable[[], None]:
    """Return what moves about ``count`` bytes, half read and half written, more than a cache holds."""
    size = max(1, min(count // 2, 2**28 if device.type == "cuda" else 2**26))
    pool: Tensor = torch.ones(max(size, 2**28), dtype=torch.uint8, device=device)
    target = torch.empty(size, dtype=torch.uint8, device=device)
    times = max(1, round(count / (2 * size)))

    def run() -> None:
        at = 0
        for _ in range(times):
            at = at if at + size <= len(pool) else 0
            target.copy_(pool[at : at + size])
            at += size
        finish(device)

    return run
