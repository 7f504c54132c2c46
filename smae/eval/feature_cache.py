"""Features of encoders kept on disk, so that no later probe, seed or command computes them again.

A file is named after a digest of all that its numbers depend on: weights, clips, settings, code and
versions. It holds a SHA-256 of its content; what is damaged is computed anew. Beyond a limit, files
used least recently are deleted. Raw coordinates are not kept: the store gives them as fast.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from smae.atomic_io import write_atomic
from smae.data.store import Store
from smae.errors import SmaeError
from smae.eval.features import FeatureExtractor, Pooled
from smae.jit import user_cache
from smae.train.checkpoint import encoder_sha256

logger = logging.getLogger(__name__)

LIMIT = 2**30
"""Bytes of all kept features."""
_CODE = ("*.py", "models/*.py", "data/loader/*.py", "data/store/*.py", "eval/features.py")
"""Files of the package that decide the numbers of features."""


def cache_folder() -> Path:
    """Return the folder of kept features, in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    return user_cache() / "features"


def feature_key(
    extractor: FeatureExtractor, *, store: Any, index: NDArray[np.int64], settings: Mapping[str, Any]
) -> str | None:
    """Return the digest of all that features depend on; None for those that are not kept.

    Kept are those of built-in encoders on stores from disk, whose code and content are known.

    Args:
        extractor: computes the features.
        store: holds the clips.
        index: int64 [n], their numbers, ascending.
        settings: JSON values: encoder, augmentation, view, device, precision.
    """
    if not isinstance(extractor, Pooled) or not isinstance(store, Store):
        return None
    if not type(extractor.encoder).__module__.startswith("smae."):
        return None
    content = {
        **settings,
        "weights": encoder_sha256(extractor.encoder),
        "pool": extractor.pool,
        "store": store.fingerprint,
        "layout": store.layout.name,
        "clips": hashlib.sha256(index.astype("<i8").tobytes()).hexdigest(),
        "code": _code(),
        "versions": [version(name) for name in ("torch", "numpy", "numba")],
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "products": torch.get_float32_matmul_precision(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def _code() -> str:
    root = Path(__file__).resolve().parents[1]
    files = sorted(path for pattern in _CODE for path in root.glob(pattern))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def read_features(key: str, *, clips: int) -> Tensor | None:
    """Return kept features, float32 [clips, D]; None where there are none, or damaged ones."""
    path = _path(key)
    try:
        with safe_open(path, "np") as file:
            x, about = file.get_tensor("x"), file.metadata() or {}
        # A later removal is of what was not used for longest.
        os.utime(path)
    except (OSError, SafetensorError, RuntimeError, KeyError):
        return None
    if x.dtype != np.float32 or x.ndim != 2 or len(x) != clips or about != _about(key, x):
        logger.debug("%s: damaged, computed anew", path)
        return None
    return torch.from_numpy(x)


def keep_features(key: str, x: Tensor, *, parts: int = 1) -> None:
    """Keep features where the disk allows, those of ``parts`` views if half of the limit holds all."""
    if x.nbytes * parts > LIMIT // 2:
        return
    array = x.contiguous().numpy()
    try:
        write_atomic(_path(key), save({"x": array}, _about(key, array)), durable=False)
        _delete_oldest()
    except (SmaeError, OSError, RuntimeError) as error:
        # Another process writes the same, the disk is full, permission is missing: encoded again next time.
        logger.debug("features are not kept: %s", error)


def _path(key: str) -> Path:
    return cache_folder() / f"{key}.safetensors"


def _about(key: str, x: NDArray[np.float32]) -> dict[str, str]:
    return {"key": key, "sha256": hashlib.sha256(x.tobytes()).hexdigest()}


def _delete_oldest() -> None:
    """Remove the files used least recently, until the rest is within the limit."""
    files = [(path.stat(), path) for path in cache_folder().glob("*.safetensors")]
    total = sum(about.st_size for about, _ in files)
    for about, path in sorted(files, key=lambda pair: pair[0].st_mtime_ns):
        if total <= LIMIT:
            return
        path.unlink(missing_ok=True)
        total -= about.st_size
