"""Feature vectors of clips: pooled tokens of an encoder, kept on disk, or raw coordinates.

Features of encoders are kept, so that no later probe, seed or command computes them again. A file
is named after a digest of all that its numbers depend on: weights, clips, settings, code and
versions. It holds a SHA-256 of its content; what is damaged is computed anew. Beyond a limit, files
used least recently are deleted. Raw coordinates are not kept: the store gives them as fast.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from torch.nn.functional import interpolate

from smae import progress
from smae.atomic_io import write_atomic
from smae.data.loader import Batch
from smae.data.loader.loader import Loader
from smae.data.store import Store
from smae.errors import ConfigError, SmaeError
from smae.jit import user_cache
from smae.models.encoders import Encoder, encode_measured
from smae.models.masking import missing_tokens
from smae.train.checkpoint import encoder_sha256
from smae.train.config import Pool

logger = logging.getLogger(__name__)

FeatureExtractor = Callable[[Batch], Tensor]
"""Maps a batch of B clips to features [B, D]."""

RAW_FRAMES = 24
"""Number of frames to which raw coordinates are resized."""


@dataclass(frozen=True)
class Features:
    """Features of a set of clips.

    Attributes:
        x: float32 [n, D].
        label: int64 [n].
        index: int64 [n], clip numbers in the store, ascending.
    """

    x: Tensor
    label: Tensor
    index: Tensor


@dataclass(frozen=True)
class Pooled:
    """Feature extractor: all tokens of a frozen encoder, pooled, then the mean over bodies.

    Attributes:
        encoder: the encoder, used in evaluation mode.
        pool: ``mean`` over joints and time; ``joints``: mean over time; ``tokens``: no mean;
            ``class``: the class token alone.

    Raises:
        ConfigError: ``class``, of an encoder without a class token.
    """

    encoder: Encoder
    pool: Pool = "mean"

    def __post_init__(self) -> None:
        if self.pool == "class" and not self.encoder.has_class_token:
            raise ConfigError("pool=class: this encoder has no class token: choose another pool")

    def __call__(self, batch: Batch) -> Tensor:
        """Return features [B, ``width``]."""
        self.encoder.eval()
        return batch.clip_means(self.vectors(batch.x, batch.missing))[0]

    def vectors(self, x: Tensor, missing: Tensor | None = None) -> Tensor:
        """Return features [N, ``width``] of items x [N, T, V, C] that lack ``missing`` [N, V]."""
        if self.pool == "class":
            hidden = None
            if missing is not None:
                hidden = missing_tokens(missing, self.encoder.grid.times)
            return self.encoder.encode(x, hidden)[0].float()
        tokens = encode_measured(self.encoder, x, missing, groups=self.encoder.feature_groups).float()
        if self.pool == "mean" and missing is not None:
            return tokens.mean(1) / missing.logical_not().float().mean(1, keepdim=True)
        if self.pool == "mean":
            return tokens.mean(1)
        if self.pool == "joints":
            grid = self.encoder.grid
            tokens = tokens.reshape(tokens.shape[0], grid.times, grid.joints, -1).mean(1)
        return tokens.flatten(1)

    @property
    def width(self) -> int:
        """Length of a feature vector: D, V x D or L x D."""
        grid = self.encoder.grid
        vectors = {"mean": 1, "class": 1, "joints": grid.joints, "tokens": grid.tokens}
        return self.encoder.dim * vectors[self.pool]


def raw_coordinates(batch: Batch) -> Tensor:
    """Return [B, 2 * 24 * V * 3]: both bodies side by side, zeros for an absent second one."""
    n, frames, joints, channels = batch.x.shape
    flat = batch.x.reshape(n, frames, joints * channels).transpose(1, 2)
    short = interpolate(flat, size=RAW_FRAMES, mode="linear", align_corners=False).flatten(1)
    both = short.new_zeros(batch.clips, 2, short.shape[1])
    both[batch.clip, batch.body] = short
    return both.flatten(1)


@torch.no_grad()
def extract(extractor: FeatureExtractor, loader: Loader, *, epoch: int = 0, name: str = "features") -> Features:
    """Return the features of one epoch of a loader, in store order.

    Args:
        extractor: computes the features.
        loader: the clips, shuffled or not.
        epoch: which epoch; it decides the augmentation of an augmented loader.
        name: of the progress task.
    """
    batches, labels, indices = [], [], []
    for batch in progress.track(loader.epoch(epoch), name, total=len(loader), unit="batches"):
        batches.append(extractor(batch).cpu())
        labels.append(batch.label.cpu())
        indices.append(batch.index.cpu())
    index = torch.cat(indices)
    order = index.argsort()
    return Features(torch.cat(batches)[order], torch.cat(labels)[order], index[order])


# Features that are kept on disk.

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
