"""How much memory this process has taken so far, at most: on the host and on its device."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def footprint(device: torch.device) -> dict[str, int]:
    """Return peak bytes: ``host_bytes`` where the system tells it, ``device_bytes`` on a GPU; waits for no device."""
    host = _host()
    found = {"host_bytes": host} if host else {}
    if device.type == "cuda":
        found["device_bytes"] = torch.cuda.max_memory_allocated(device)
    return found


def _host() -> int:
    """Return the peak of resident memory, bytes; 0 where it is not known."""
    # Not ru_maxrss where it can be helped: that begins with what the process held that started this one.
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
