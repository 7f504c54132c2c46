"""Numba's compiler with smae's own cache folder: kernels compile once per machine, and a bad cache never stops a run.

Numba trusts its cache: a file cut short by a full disk or a kill makes every later import fail, and a kernel compiled
with other flags is taken as it is. So the cache lies in a private folder, named after all versions and flags that the
machine code depends on; when anything in it fails, it is thrown away, and if that does not help, kernels compile
in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numba.core.config
import numba.extending
from numba.core.errors import NumbaError

from smae._version import __version__

_config: Any = numba.core.config
F = TypeVar("F", bound=Callable[..., Any])

_SHARED_FILES = ("data/raw/number_kernels.py", "data/raw/fast_parser.py", "jit.py")
"""Files that kernels of other files are made with: Numba itself checks only the kernel's own file for changes."""


def cache_folder() -> Path:
    """Return where compiled kernels of exactly this software lie, under ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    inlined = hashlib.sha256(b"".join((Path(__file__).parent / name).read_bytes() for name in _SHARED_FILES))
    python = f"{sys.implementation.cache_tag}-{sys.platform}"
    checks = "-bounds" if _config.BOUNDSCHECK else ""
    return base / "smae" / f"kernels-{__version__}-numba{numba.__version__}-{python}-{inlined.hexdigest()[:8]}{checks}"


def njit(*signatures: str, allocates: bool = True) -> Callable[[F], F]:
    """Return a decorator that compiles a kernel at import, or loads it from the cache, for the given signatures.

    The kernel releases the GIL; division by zero gives inf or NaN. Its plain-Python twin stays at hand as
    ``kernel.py_func`` (and is the kernel itself under ``NUMBA_DISABLE_JIT=1``).

    Args:
        signatures: Numba type signatures; without one the kernel compiles at its first call.
        allocates: False for a kernel that makes and returns no arrays: it then counts no references, which in loops
            over small functions made the `.skeleton` reader twice as fast (measured).
    """

    def compiled(function: F) -> F:
        for _ in range(2):
            try:
                return _cached(function, signatures, allocates)
            except NumbaError:
                raise
            except Exception:
                # A damaged cache file is a damaged pickle, which raises nearly anything. Without it, once more.
                with contextlib.suppress(Exception):
                    shutil.rmtree(cache_folder())
        return _compile(function, signatures, allocates, cache=False)

    return compiled


def inlined(function: F) -> F:
    """Mark a plain function that kernels may call: it takes arrays and numbers, makes no arrays, returns numbers."""
    marked: F = numba.extending.register_jitable(forceinline=True, _nrt=False)(function)
    return marked


def _cached(function: F, signatures: tuple[str, ...], allocates: bool) -> F:
    # Numba reads this setting when a function is decorated; it is put back so that other packages keep theirs.
    before = _config.CACHE_DIR
    try:
        _config.CACHE_DIR = str(_private(cache_folder()))
        return _compile(function, signatures, allocates, cache=True)
    finally:
        _config.CACHE_DIR = before


def _private(folder: Path) -> Path:
    """Create the folder for this user alone; loading what others could write there would run their code."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and (folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022):
        raise PermissionError(f"cache folder {folder} can be written by other users")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"cache folder {folder} is read-only")
    return folder


def _compile(function: F, signatures: tuple[str, ...], allocates: bool, *, cache: bool) -> F:
    options: dict[str, Any] = {"cache": cache, "nogil": True, "error_model": "numpy", "_nrt": allocates}
    kernel: F = (numba.njit(list(signatures), **options) if signatures else numba.njit(**options))(function)
    return kernel
