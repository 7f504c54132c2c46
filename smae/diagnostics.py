"""What this machine and environment are like for smae, what is missing, and what to do about it."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from smae._version import __version__
from smae.errors import EXIT_DONE, EXIT_ENVIRONMENT

PACKAGES = ("numpy", "numba", "zarr", "safetensors", "pydantic")
EXTRAS = {
    "dask": "distributed", "objects": "obstore", "rerun": "rerun", "tensorboard": "tensorboard", "triton": "triton",
    "wandb": "wandb",
}  # fmt: skip
"""Extras of smae, and what each lets be imported."""

_OLDEST = (3, 11)
_TIGHT = 2 * 10**9
_BLOCK, _BLOCKS, _SECONDS = 1 << 20, 32, 1.0
_NVIDIA = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        what: the check.
        state: ``ok``; ``note``, which is worth knowing; or ``wrong``, with which smae does not work.
        found: what there is.
        remedy: what to do; empty where nothing need be done.
    """

    what: str
    state: str
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings, in order."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """5 if anything is wrong, else 0."""
        return EXIT_ENVIRONMENT if any(one.state == "wrong" for one in self.findings) else EXIT_DONE


def examine(folder: Path) -> Diagnosis:
    """Look at everything; ``folder`` is where stores and runs would be written. Takes a few seconds at most."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _software, _torch, _cores, _memory, lambda: _disk(folder), _kernels, _extras,
    )  # fmt: skip
    return Diagnosis(tuple(finding for check in checks for finding in check()))


def _software() -> Iterator[Finding]:
    yield Finding("smae", "ok", __version__)
    python = f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    old = sys.version_info < _OLDEST
    yield Finding("python", "wrong" if old else "ok", python, "use Python 3.11 or newer" if old else "")
    for name in PACKAGES:
        found = _version(name)
        remedy = "" if found else f"pip install {name}"
        yield Finding(name, "ok" if found else "wrong", found or "not installed", remedy)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("torch", "wrong", f"cannot be imported: {error}", "install it as its own instructions say")
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "ROCm" if torch.version.hip else "CPU only"
    yield Finding("torch", "ok", f"{torch.__version__} ({build} build)")
    triton = _version("triton")
    if triton:
        yield Finding("triton", "ok", triton)
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            yield Finding(f"GPU {number}", "ok", f"{card.name}, {card.total_memory / 1e9:.0f} GB{_driver()}")
    elif build == "CPU only" and _NVIDIA.exists():
        remedy = "install a CUDA build of torch to use the GPU"
        yield Finding("GPU", "note", f"there is one{_driver()}, but this torch is built for the CPU only", remedy)
    elif build == "CPU only":
        yield Finding("GPU", "note", "none found; the CPU trains, with the recipe 'cpu'")
    elif not _NVIDIA.exists() and torch.version.cuda:
        yield Finding("GPU", "note", "none: no NVIDIA driver is loaded; the CPU trains, with the recipe 'cpu'")
    else:
        remedy = "check CUDA_VISIBLE_DEVICES, and that the driver is new enough for this torch (nvidia-smi tells)"
        yield Finding("GPU", "note", f"torch sees none{_driver()}", remedy)


def _driver() -> str:
    with contextlib.suppress(OSError):
        words = _NVIDIA.read_text().split("\n")[0].split()
        return next((f", driver {word}" for word in words if word[0].isdigit() and "." in word), "")
    return ""


def _cores() -> Iterator[Finding]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{usable} usable of {os.cpu_count()}"
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            found += f", limited to the time of {int(quota) / int(period):g}"
    yield Finding("cores", "ok", found)


def _memory() -> Iterator[Finding]:
    from smae.data.loader.row_cache import format_bytes, free_memory

    free = free_memory()
    tight = free < _TIGHT
    yield Finding("memory", "note" if tight else "ok", f"{format_bytes(free)} free", "close something" if tight else "")


def _disk(folder: Path) -> Iterator[Finding]:
    where = folder.resolve()
    free = shutil.disk_usage(where).free
    tight = free < _TIGHT
    remedy = "a store of NTU RGB+D 120 takes several GB: make room, or work elsewhere" if tight else ""
    yield Finding("disk", "note" if tight else "ok", f"{free / 1e9:.1f} GB free at {where}", remedy)
    try:
        write, read = _speed(where)
    except OSError as error:
        yield Finding("disk speed", "wrong", f"{where} cannot be written: {error.strerror}", "work in another folder")
        return
    yield Finding("disk speed", "ok", f"writes {write:,.0f} MB/s (to the disk, not its cache), reads {read:,.0f} MB/s")


def _speed(folder: Path) -> tuple[float, float]:
    """Return MB/s of writing and of reading a file of at most 32 MB, each for about a second at most."""
    block = os.urandom(_BLOCK)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        begun, size = time.perf_counter(), 0
        for _ in range(_BLOCKS):
            size += file.write(block)
            os.fdatasync(file.fileno()) if hasattr(os, "fdatasync") else os.fsync(file.fileno())
            if time.perf_counter() - begun > _SECONDS:
                break
        written = size / (time.perf_counter() - begun)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        begun, size = time.perf_counter(), 0
        while (got := file.read(_BLOCK)) and time.perf_counter() - begun < _SECONDS:
            size += len(got)
        return written / 1e6, size / (time.perf_counter() - begun) / 1e6


def _kernels() -> Iterator[Finding]:
    try:
        from smae.jit import cache_folder

        folder = cache_folder()
        above = next(parent for parent in (folder, *folder.parents) if parent.exists())
        writable = os.access(above, os.W_OK)
        remedy = "" if writable else "set XDG_CACHE_HOME to a folder of yours, or kernels compile at every start"
        yield Finding("kernel cache", "ok" if writable else "note", str(folder), remedy)
        begun = time.perf_counter()
        from smae.data.raw.fast_parser import read_skeleton

        frames = read_skeleton(b"1\n0\n").frames
        took = time.perf_counter() - begun
    except Exception as error:
        # Whatever stops the kernels (a Numba that does not fit NumPy, a broken LLVM) is what this check has to tell.
        remedy = "reinstall numba and llvmlite in versions that fit this numpy: pip install --force-reinstall smae"
        yield Finding("kernels", "wrong", f"do not load: {type(error).__name__}: {error}", remedy)
        return
    assert frames == 1
    yield Finding("kernels", "ok", f"compiled or loaded in {took:.1f} s")


def _extras() -> Iterator[Finding]:
    for extra, module in EXTRAS.items():
        there = find_spec(module) is not None
        remedy = "" if there else f"pip install 'smae[{extra}]'"
        yield Finding(f"smae[{extra}]", "ok" if there else "note", "installed" if there else "not installed", remedy)
