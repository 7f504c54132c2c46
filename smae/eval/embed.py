"""Features of a whole store, one vector a clip, as a file that can be read without smae."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from smae import interrupts
from smae.atomic_io import atomic_file, atomic_folder, check_output, read_json
from smae.data.loader.loader import Loader
from smae.data.store.file_store import locate
from smae.data.store.store import Store, open_store
from smae.errors import ConfigError, DataError
from smae.eval.export import load_objective, read_weights
from smae.eval.features import Features, Pooled, extract
from smae.eval.probes import ENCODE_BATCH
from smae.train.build import pick_device
from smae.train.run_folder import find_checkpoint


@interrupts.deferred("run it again")
def embed(
    store: Store | Path | str | None,
    to: Path | str,
    *,
    encoder: Path | str | None = None,
    run: Path | str | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> Features:
    """Write the features of all clips of a store, pooled by the mean, and return them.

    The file holds ``features`` float32 [B, D], ``name`` [B], ``label`` int64 [B] and the classes,
    in store order. An ``.npz`` has names and classes as text arrays; a ``.zarr`` has names as
    uint8 [B, W], ASCII padded with NUL, and classes as an attribute.

    Args:
        store: a store; default the one in the current folder.
        to: the ``.npz`` or ``.zarr`` to write.
        encoder: an exported encoder.
        run: a run or checkpoint instead; the newest run if neither is given.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.
        overwrite: replace earlier features; anything else is never replaced.

    Raises:
        ConfigError: both an encoder and a run, another ending, or ``to`` must not be replaced.
        DataError: no usable store, run or encoder, or different joint layouts.
    """
    if encoder is not None and run is not None:
        raise ConfigError("give an exported encoder or a run, not both")
    to, target = Path(to), pick_device(device)
    if to.suffix not in (".npz", ".zarr"):
        raise ConfigError(f"--out {to}: expected a name that ends in .npz or .zarr")
    opened = open_store(store)
    folder = Path(encoder) if encoder is not None else None
    if folder is None:
        source, step = find_checkpoint(run)
        folder = source.path
    inputs = [path for path in (locate(opened.path), folder) if isinstance(path, Path)]
    kind = "a file of features"
    check_output(to, kind=kind, is_kind=is_features, overwrite=overwrite, inputs=inputs)
    if encoder is None:
        config, objective = load_objective(source, opened, step=step)
        model, augment = objective.encoder, config.augment
    else:
        loaded = read_weights(folder)
        if loaded.layout.name != opened.layout.name:
            raise DataError(
                f"{folder} was trained on layout {loaded.layout.name}, {opened.path} has "
                f"{opened.layout.name}: give a store of the encoder's layout"
            )
        model, augment = loaded.encoder, loaded.config.augment
    index = np.arange(len(opened))
    loader = Loader(opened, index, augment=augment, batch=ENCODE_BATCH, seed=0, train=False, device=target)
    features = extract(Pooled(model.to(target)), loader, name="embed")
    origin = {"encoder": folder.name, "store": opened.fingerprint}
    _write_features(features, opened, to, origin)
    return features


def is_features(path: Path) -> bool:
    """Return whether ``path`` is a file that ``embed`` wrote."""
    arrays = {"features", "name", "label"}
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as content:
                return {*arrays, "classes", "encoder", "store"} == set(content.files)
        attributes = read_json(path / "zarr.json", what="features", remedy="")["attributes"]
        names = {entry.name for entry in path.iterdir()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return names == {*arrays, "zarr.json"} and set(attributes) == {"classes", "encoder", "store"}


def _write_features(features: Features, store: Store, to: Path, origin: dict[str, str]) -> None:
    names = store.clips.name[features.index.numpy()]
    x, label = features.x.numpy(), features.label.numpy()
    if to.suffix == ".npz":
        text = {key: np.array(value) for key, value in origin.items()}
        arrays: dict[str, Any] = {"features": x, "name": names, "label": label, **text}
        with atomic_file(to) as partial, open(partial, "wb") as out:
            np.savez(out, classes=np.array(store.classes), **arrays)
        return
    import zarr

    attributes: dict[str, Any] = {"classes": list(store.classes), **origin}
    padded = np.char.encode(names, "ascii")
    width = padded.dtype.itemsize
    with atomic_folder(to) as partial:
        group = zarr.open_group(partial, mode="w", zarr_format=3, attributes=attributes)
        group.create_array("features", data=x)
        group.create_array("name", data=padded.view(np.uint8).reshape(len(names), width))
        group.create_array("label", data=label)
