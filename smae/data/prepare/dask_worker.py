"""What runs inside a Dask worker: checks that it fits, and one work function for each of its threads."""

from __future__ import annotations

import os
import pickle
import platform
import socket
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from smae._version import __version__
from smae.errors import ConfigError

_PACKAGES = ("numpy", "numba", "numcodecs", "zarr", "distributed")


@dataclass(frozen=True)
class Order:
    """What all tasks of a run have in common.

    Attributes:
        run: a name that no other run has.
        make: pickled; returns the work function.
        versions: of the software that the worker must have.
        shared: absolute paths that the worker must see.
    """

    run: str
    make: bytes
    versions: Mapping[str, str]
    shared: Sequence[str]


def software() -> dict[str, str]:
    """Return the versions here of what the bytes of a store depend on, and of what talks between machines."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, "smae": __version__} | {name: _version(name) for name in _PACKAGES}


def check_worker(versions: Mapping[str, str], shared: Sequence[str]) -> None:
    """Refuse to work with other software or without the files.

    Raises:
        ConfigError: which worker, and what is the matter with it.
    """
    found = software()
    other = [
        f"{name} {found[name]} where {versions[name]} is needed" for name in versions if found[name] != versions[name]
    ]
    if other:
        raise ConfigError(
            f"{_here()} has {', '.join(other)}: install the same versions everywhere, or the store's bytes would "
            "depend on who did what"
        )
    for path in shared:
        if not os.path.exists(path):
            raise ConfigError(
                f"{_here()} does not see {path}: input and output must lie on a file system that all workers share, "
                "under the same path"
            )


def work(order: Order, task: bytes) -> Any:
    """Return what the order's work function makes of a pickled task.

    The function is made once a thread, since it may hold open files and buffers of its own.
    """
    with _lock:
        if order.run in _stopped:
            return None  # called off while it was on its way; nobody waits for it
        _busy[order.run] += 1
    try:
        return _function(order)(pickle.loads(task))
    finally:
        with _lock:
            _busy[order.run] -= 1


def stop(run: str) -> int:
    """Begin no more tasks of a run, and return how many are under way; with none, close what its threads hold."""
    with _lock:
        _stopped.add(run)
        if _busy[run]:
            return _busy[run]
        del _busy[run]
        for thread in [thread for thread, (owner, _) in _held.items() if owner == run]:
            _close(_held.pop(thread)[1])
    return 0


_lock = threading.Lock()
_held: dict[int, tuple[str, Any]] = {}
"""Each thread's run and work function, the last one it worked for: a run that died leaves nothing behind for long."""
_busy: Counter[str] = Counter()
_stopped: set[str] = set()


def _function(order: Order) -> Any:
    thread = threading.get_ident()
    with _lock:
        run, function = _held.get(thread, ("", None))
    if run == order.run:
        return function
    _close(function)
    check_worker(order.versions, order.shared)
    try:
        # Written by our own client; whoever can send something else here owns the cluster already.
        function = pickle.loads(order.make)()
    except ModuleNotFoundError as error:
        raise ConfigError(f"{_here()} has no module {error.name}: install there what is installed here") from error
    with _lock:
        _held[thread] = (order.run, function)
    return function


def _here() -> str:
    return f"the Dask worker on {socket.gethostname()} (process {os.getpid()})"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _close(function: object) -> None:
    close = getattr(function, "close", None)
    if close is not None:
        close()
