"""``smae.doctor``: this machine and environment, with a remedy for what is missing."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from smae import __version__, progress
from smae.errors import EXIT_DONE, EXIT_ENVIRONMENT, ConfigError
from smae.registry import describe, plugins
from smae.tables import Grid, Table

PACKAGES = ("numpy", "numba", "zarr", "safetensors", "pydantic")
EXTRAS = ("dask", "hub", "objects", "onnx", "rerun", "tensorboard", "triton", "wandb")
_MODULES = {"dask": "distributed", "hub": "huggingface_hub", "objects": "obstore"}
"""Modules of the extras whose names differ."""

_OLDEST = (3, 11)
_TIGHT = 2 * 10**9
_BLOCK, _BLOCKS, _SECONDS = 1 << 20, 32, 1.0
_NVIDIA = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        what: the check.
        state: ``ok``; ``note``, for information; or ``wrong``: smae does not work like this.
        found: what is there.
        remedy: what to do; empty if nothing.
    """

    what: str
    state: str
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis(Table):
    """All findings, in order."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """5 if anything is wrong, else 0."""
        wrong = any(finding.state == "wrong" for finding in self.findings)
        return EXIT_ENVIRONMENT if wrong else EXIT_DONE

    def tables(self) -> list[Grid]:
        checks = [(one.state, one.what, one.found) for one in self.findings]
        remedies = [(one.what, one.remedy) for one in self.findings if one.remedy]
        grids = [Grid(("", "check", "found"), checks, left=3)]
        return grids + [Grid(("", ""), remedies, "what to do")] * bool(remedies)


def doctor(folder: Path | str = ".") -> Diagnosis:
    """Check this machine and environment, in a few seconds.

    Args:
        folder: where stores and runs would be written.

    Raises:
        ConfigError: no such folder.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ConfigError(f"{path}: no folder there: name the one for stores and runs")
    checks = {
        "packages": _software(),
        "torch": _torch(),
        "cores": _cores(),
        "memory": _memory(),
        "disk": _disk(path),
        "kernels, which compile at the first start": _kernels(),
        "extras": _extras(),
        "plug-ins": _plugins(),
    }
    findings = list[Finding]()
    for what, check in checks.items():
        # Reading torch from a cold disk takes a minute: people see what is under way.
        with progress.task(f"doctor: {what}"):
            findings += check
    return Diagnosis(tuple(findings))


def _finding(what: str, ok: bool, found: str, remedy: str, *, state: str = "note") -> Finding:
    """Return an ok finding, or one of another state with its remedy."""
    if ok:
        return Finding(what, "ok", found)
    return Finding(what, state, found, remedy)


def _software() -> Iterator[Finding]:
    yield Finding("smae", "ok", __version__)
    python = f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    new = sys.version_info >= _OLDEST
    yield _finding("python", new, python, "use Python 3.11 or newer", state="wrong")
    for name in PACKAGES:
        found = _version(name)
        remedy = f"pip install {name}"
        yield _finding(name, bool(found), found or "not installed", remedy, state="wrong")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        remedy = "install it as its own instructions say"
        yield Finding("torch", "wrong", f"cannot be imported: {error}", remedy)
        return
    build = "CPU only"
    if torch.version.cuda:
        build = f"CUDA {torch.version.cuda}"
    elif torch.version.hip:
        build = "ROCm"
    yield Finding("torch", "ok", f"{torch.__version__} ({build} build)")
    if triton := _version("triton"):
        yield Finding("triton", "ok", triton)
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            memory = f"{card.total_memory / 1e9:.0f} GB"
            yield Finding(f"GPU {number}", "ok", f"{card.name}, {memory}{_driver()}")
        return
    found, remedy = "none found; the CPU trains, with the recipe 'cpu'", ""
    if build == "CPU only" and _NVIDIA.exists():
        found = f"there is one{_driver()}, but this torch is built for the CPU only"
        remedy = "install a CUDA build of torch to use the GPU"
    elif build != "CPU only" and not _NVIDIA.exists() and torch.version.cuda:
        found = "none: no NVIDIA driver is loaded; the CPU trains, with the recipe 'cpu'"
    elif build != "CPU only":
        found = f"torch sees none{_driver()}"
        remedy = "check CUDA_VISIBLE_DEVICES, and with nvidia-smi that the driver fits this torch"
    yield Finding("GPU", "note", found, remedy)


def _driver() -> str:
    with contextlib.suppress(OSError):
        words = _NVIDIA.read_text().split("\n")[0].split()
        versions = (word for word in words if word[0].isdigit() and "." in word)
        return next((f", driver {word}" for word in versions), "")
    return ""


def _cores() -> Iterator[Finding]:
    # macOS has no affinity.
    affinity = getattr(os, "sched_getaffinity", lambda process: range(os.cpu_count() or 1))
    found = f"{len(affinity(0))} usable of {os.cpu_count()}"
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            found += f", limited to the time of {int(quota) / int(period):g}"
    yield Finding("cores", "ok", found)


def _memory() -> Iterator[Finding]:
    from smae.data.loader.row_cache import format_bytes, free_memory

    free = free_memory()
    yield _finding("memory", free >= _TIGHT, f"{format_bytes(free)} free", "close other programs")


def _disk(folder: Path) -> Iterator[Finding]:
    path = folder.resolve()
    free = shutil.disk_usage(path).free
    remedy = "a store of NTU RGB+D 120 takes several GB: free some space, or use another disk"
    yield _finding("disk", free >= _TIGHT, f"{free / 1e9:.1f} GB free at {path}", remedy)
    try:
        write, read = _speed(path)
    except OSError as error:
        found = f"{path} cannot be written: {error.strerror}"
        yield Finding("disk speed", "wrong", found, "work in another folder")
        return
    found = f"writes {write:,.0f} MB/s (to the disk, not its cache), reads {read:,.0f} MB/s"
    yield Finding("disk speed", "ok", found)


def _speed(folder: Path) -> tuple[float, float]:
    """Return MB/s of writing and reading at most 32 MB, each for at most about a second."""
    block, sync = os.urandom(_BLOCK), getattr(os, "fdatasync", os.fsync)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        started, size = time.perf_counter(), 0
        while size < _BLOCKS * _BLOCK and time.perf_counter() - started < _SECONDS:
            size += file.write(block)
            sync(file.fileno())
        written = size / (time.perf_counter() - started)
        # Else it would be read from the page cache.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        started, size = time.perf_counter(), 0
        while (got := file.read(_BLOCK)) and time.perf_counter() - started < _SECONDS:
            size += len(got)
        return written / 1e6, size / (time.perf_counter() - started) / 1e6


def _kernels() -> Iterator[Finding]:
    try:
        from smae.jit import cache_folder

        folder = cache_folder()
        above = next(parent for parent in (folder, *folder.parents) if parent.exists())
        remedy = "set XDG_CACHE_HOME to a folder of yours, or kernels compile at every start"
        yield _finding("kernel cache", os.access(above, os.W_OK), str(folder), remedy)
        started = time.perf_counter()
        from smae.data.raw.fast_parser import read_skeleton

        assert read_skeleton(b"1\n0\n").frames == 1
        took = time.perf_counter() - started
    except Exception as error:
        # Anything can stop the kernels: a Numba that does not fit NumPy, a broken LLVM.
        found = f"do not load: {type(error).__name__}: {error}"
        remedy = "reinstall fitting versions: pip install --force-reinstall smae"
        yield Finding("kernels", "wrong", found, remedy)
        return
    yield Finding("kernels", "ok", f"compiled or loaded in {took:.1f} s")


def _extras() -> Iterator[Finding]:
    for extra in EXTRAS:
        installed = find_spec(_MODULES.get(extra, extra)) is not None
        found = "installed" if installed else "not installed; optional"
        yield _finding(f"smae[{extra}]", installed, found, f"pip install 'smae[{extra}]'")


def _plugins() -> Iterator[Finding]:
    for entry in plugins():
        what = describe(entry)
        spec = None
        with contextlib.suppress(ImportError, ValueError):
            # Of the package alone: a diagnosis runs no code of others.
            spec = find_spec(entry.module.partition(".")[0])
        found = f"{entry.value}, from {spec.origin}" if spec else f"{entry.value}, which is not installed"
        remedy = "repair or uninstall the package that declares it"
        yield _finding(f"plug-in: {what}", spec is not None, found, remedy)
