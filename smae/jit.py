"""Compiled kernels: Numba with smae's own cache, and the choice between torch and Triton.

Numba trusts its cache: a file cut short by a full disk or a kill makes every later import fail, and
a kernel compiled with other flags is loaded as it is. So smae's cache is a private folder, named
after all versions and flags that the machine code depends on. When anything in it fails, it is
deleted, and if that does not help, kernels compile in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

from smae import __version__
from smae.errors import EnvironmentFault

F = TypeVar("F", bound=Callable[..., Any])
KernelChoice = Literal["auto", "torch", "triton"]

_SHARED_FILES = ("data/raw/number_kernels.py", "data/raw/fast_parser.py", "data/clean/actors.py", "jit.py")
"""Files whose functions are inlined elsewhere: Numba checks only a kernel's own file."""


def cache_folder() -> Path:
    """Return the folder of kernels of exactly this software, in ``user_cache``."""
    import numba

    shared = hashlib.sha256(b"".join((Path(__file__).parent / name).read_bytes() for name in _SHARED_FILES))
    python = f"{sys.implementation.cache_tag}-{sys.platform}"
    folder = f"kernels-{__version__}-numba{numba.__version__}-{python}-{shared.hexdigest()[:8]}"
    # Numba leaves BOUNDSCHECK out of its own key.
    if _numba_config().BOUNDSCHECK:
        folder += "-bounds"
    return user_cache() / folder


def user_cache() -> Path:
    """Return smae's folder in ``$XDG_CACHE_HOME`` or ``~/.cache``, safe to delete."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "smae"


def njit(*signatures: str, allocates: bool = True) -> Callable[[F], F]:
    """Return a decorator that compiles a kernel at import, or loads it from the cache.

    The kernel releases the GIL; division by zero gives inf or NaN. The plain Python function is
    ``kernel.py_func`` (and the kernel itself under ``NUMBA_DISABLE_JIT=1``).

    Args:
        signatures: Numba type signatures; without one the kernel compiles at its first call.
        allocates: False for a kernel that makes and returns no arrays: it then counts no
            references, which in loops over small functions made the `.skeleton` reader twice as
            fast (measured).
    """

    def compiled(function: F) -> F:
        from numba.core.errors import NumbaError

        for _ in range(2):
            try:
                return _cached(function, signatures, allocates)
            except NumbaError:
                raise
            except Exception:
                # A damaged cache file is a damaged pickle, which raises nearly anything. Retry
                # without it.
                with contextlib.suppress(Exception):
                    shutil.rmtree(cache_folder())
        return _compile(function, signatures, allocates, cache=False)

    return compiled


def inlined(function: F) -> F:
    """Mark a plain function that kernels may call; it makes no arrays and returns numbers."""
    from numba.extending import register_jitable

    marked: F = register_jitable(forceinline=True, _nrt=False)(function)
    return marked


def use_triton(choice: KernelChoice, *, on_gpu: bool, setting: str, fits: bool = True) -> bool:
    """Return whether a Triton kernel runs in place of torch.

    Args:
        choice: ``torch``, ``triton``, or ``auto``: Triton where it is installed, for a GPU.
        on_gpu: whether the data is on a GPU.
        setting: name of the setting, for the message.
        fits: whether the kernel can hold the data.

    Raises:
        EnvironmentFault: ``triton`` is chosen and cannot run here.
    """
    installed = find_spec("triton") is not None
    if choice != "triton":
        return choice == "auto" and on_gpu and installed and fits
    # Triton's interpreter, for tests, is chosen before Triton is imported.
    if installed and (on_gpu or os.environ.get("TRITON_INTERPRET") == "1"):
        return True
    missing = "a GPU" if installed else "Triton (pip install 'smae[triton]')"
    raise EnvironmentFault(f"{setting}=triton needs {missing}, which is not here: leave it at torch")


def _numba_config() -> Any:
    import numba.core.config

    return numba.core.config


def _cached(function: F, signatures: tuple[str, ...], allocates: bool) -> F:
    # Numba reads this setting when a function is decorated; restore it, so that other packages keep
    # theirs.
    config = _numba_config()
    before = config.CACHE_DIR
    try:
        config.CACHE_DIR = str(_private(cache_folder()))
        return _compile(function, signatures, allocates, cache=True)
    finally:
        config.CACHE_DIR = before


def _private(folder: Path) -> Path:
    """Create the folder for this user alone: loading a kernel runs its code."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and (folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022):
        raise PermissionError(f"cache folder {folder} can be written by other users")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"cache folder {folder} is read-only")
    return folder


def _compile(function: F, signatures: tuple[str, ...], allocates: bool, *, cache: bool) -> F:
    import numba

    options: dict[str, Any] = {"cache": cache, "nogil": True, "error_model": "numpy"}
    options["_nrt"] = allocates
    if signatures:
        options["signature_or_function"] = list(signatures)
    kernel: F = numba.njit(**options)(function)
    return kernel
