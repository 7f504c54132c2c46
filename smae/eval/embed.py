"""Features of a whole store, one vector a clip, as a file that needs no smae to be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from smae.atomic_io import atomic_file, atomic_folder
from smae.data.loader.augment import Augment
from smae.data.loader.loader import Loader
from smae.data.store.store import Store
from smae.errors import ConfigError
from smae.eval.features import Features, Pooled, extract
from smae.eval.probes import ENCODE_BATCH
from smae.models.encoders import Encoder


def embed(
    encoder: Encoder,
    store: Store,
    *,
    augment: Augment,
    device: torch.device,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Features:
    """Return the features of every clip of a store: mean over joints, time and bodies, nothing varied.

    Args:
        encoder: of the store's layout.
        store: the clips.
        augment: frames, crop and stream as the encoder was trained with.
        device: where to compute.
        tell: progress.
    """
    loader = Loader(
        store, np.arange(len(store)), augment=augment, batch=ENCODE_BATCH, seed=0, train=False, device=device
    )
    return extract(Pooled(encoder.to(device)), loader, tell=tell)


def check_target(to: Path, *, overwrite: bool) -> None:
    """Refuse a file of another kind, or one that is there.

    Raises:
        ConfigError: neither ``.npz`` nor ``.zarr``; or it exists and may not be replaced.
    """
    if to.suffix not in (".npz", ".zarr"):
        raise ConfigError(f"--to {to}: expected a name that ends in .npz or .zarr")
    if to.exists() and not overwrite:
        raise ConfigError(f"{to}: something is there already: name another file, or add --overwrite")


def write_features(features: Features, store: Store, *, to: Path, origin: dict[str, str]) -> None:
    """Write ``features`` float32 [B, D], ``name`` [B], ``label`` int64 [B] and the classes, in store order.

    An ``.npz`` holds names and classes as text arrays; a ``.zarr`` holds names as uint8 [B, W] ASCII, NUL-padded, as
    stores do, and classes and origin as attributes.
    """
    names = store.clips.name[features.index.numpy()]
    x, label = features.x.numpy(), features.label.numpy()
    if to.suffix == ".npz":
        with atomic_file(to) as partial, open(partial, "wb") as out:
            arrays = {"features": x, "name": names, "label": label, "classes": np.array(store.classes)}
            np.savez(out, **arrays, **{key: np.array(value) for key, value in origin.items()})  # type: ignore[arg-type]
    else:
        with atomic_folder(to) as partial:
            _write_zarr(partial, x, names, label, attributes={"classes": list(store.classes), **origin})


def _write_zarr(
    path: Path, x: NDArray[Any], names: NDArray[Any], label: NDArray[Any], *, attributes: dict[str, Any]
) -> None:
    import zarr

    ascii_names = np.char.encode(names, "ascii")
    group = zarr.open_group(path, mode="w", zarr_format=3, attributes=attributes)
    group.create_array("features", data=x)
    group.create_array("name", data=ascii_names.view(np.uint8).reshape(len(names), ascii_names.dtype.itemsize))
    group.create_array("label", data=label)
