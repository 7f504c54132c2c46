"""Features of the clips of a store, or of raw recordings, one vector a clip, as a file that anything can read."""

from __future__ import annotations

import csv
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from smae import interrupts
from smae.atomic_io import atomic_file, atomic_folder, check_output, read_json
from smae.config import check_table, renamed
from smae.data.loader.loader import Loader
from smae.data.raw.keypoints import Keypoints
from smae.data.raw.recordings import check_there, is_store
from smae.data.raw.source import Refused
from smae.data.store import Store, open_store
from smae.data.store.clips import UNLABELLED
from smae.data.store.convert import map_store, map_whole
from smae.data.store.file_store import locate
from smae.errors import EXIT_DONE, EXIT_QUARANTINED, ConfigError, DataError
from smae.eval.export import load_trained, prepared_like, read_weights
from smae.eval.features import Features, Pooled, extract
from smae.eval.probes import ENCODE_BATCH
from smae.eval.raw_clips import ClipsInMemory, read_recordings
from smae.skeleton import layout_from_json
from smae.train.distributed import pick_device
from smae.train.run_folder import find_checkpoint, weights_folder, weights_without_run

logger = logging.getLogger(__name__)

_CSV_HEAD = b"name,label,class,f0"


@dataclass(frozen=True)
class Embedding(Features):
    """Features of a store's clips, or of raw recordings.

    Attributes:
        name: str [n].
        classes: what labels stand for; label -1: the recording's name carries none.
        origin: names of the encoder, and of the store (its fingerprint) or of the recordings.
        quarantined: recordings that are bad, as ``prepare`` lists them.
        no_body: recordings without a body.
    """

    name: NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, np.str_))
    classes: tuple[str, ...] = ()
    origin: dict[str, str] = field(default_factory=dict)
    quarantined: tuple[Refused, ...] = ()
    no_body: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 if all recordings are good, 3 if some are not."""
        return EXIT_QUARANTINED if self.quarantined or self.no_body else EXIT_DONE


@renamed(to="out")
@interrupts.deferred("run it again")
def embed(
    store: Store | Path | str | list[Keypoints] | None,
    out: Path | str,
    *,
    encoder: Path | str | None = None,
    run: Path | str | None = None,
    layout: str | None = None,
    source: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> Embedding:
    """Write the features of clips, pooled by the mean, and return them.

    The file holds ``features`` float32 [B, D], ``name`` [B], ``label`` int64 [B] and the classes,
    in store order. An ``.npz`` has names and classes as text arrays; a ``.zarr`` has names as
    uint8 [B, W], ASCII padded with NUL, and classes as an attribute. A ``.csv`` or ``.parquet``
    has a row a clip: name, label, class, f0 to f(D - 1), in CSV with the digits that give the same
    float32 again.

    Args:
        store: a store, or raw recordings: a file, folder or zip; default the store in the current
            folder. Or a list of what ``from_keypoints`` returned.
        out: the ``.npz``, ``.zarr``, ``.csv`` or ``.parquet`` to write.
        encoder: an exported encoder, or the name of packaged weights.
        run: a run or checkpoint instead. If neither is given, the newest run; where there is no run,
            the packaged ``open-small``.
        layout: map the joints of a store to this layout as they are read; see ``map_store``. Of raw
            recordings: whose joints they hold, where they do not say.
        source: registered source of raw recordings; default the one of the training data.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.
        overwrite: replace earlier features; anything else is never replaced.

    Raises:
        ConfigError: both an encoder and a run, another ending, or ``out`` must not be replaced.
        BadRecording, NoBody: the only raw recording is bad or has no body.
        DataError: no usable store, run or encoder, or different joint layouts.
    """
    if encoder is not None and run is not None:
        raise ConfigError("give an exported encoder or a run, not both")
    out, target = Path(out), pick_device(device)
    check_table(out)
    clips: Store | None = None
    memory: list[Keypoints] = []
    if isinstance(store, list):
        memory, store = store, "recordings in memory"
    elif store is None or is_store(store):
        clips = open_store(store)
        if layout is not None:
            clips = map_store(clips, layout)
    else:
        check_there(str(store))
    if encoder is None and run is None and (encoder := weights_without_run()):
        logger.info(f"no run here: using the packaged encoder {encoder}")
    if encoder is None:
        found, step = find_checkpoint(run)
        folder = found.path
    else:
        folder = weights_folder(encoder)
    given = Path(str(store)) if clips is None else locate(clips.path)
    inputs = [path for path in (given, folder) if isinstance(path, Path)]
    check_output(out, kind="a file of features", is_kind=is_features, overwrite=overwrite, inputs=inputs)
    if encoder is None:
        about = found.describe()
        trained_on = layout_from_json(about["store"]["layout"], about["store"].get("skeleton"))
        if clips is not None:
            clips = found.open_store(clips)
        config, objective, _ = load_trained(found, trained_on, step=step)
        model, augment, prepared = objective.encoder, config.augment, prepared_like(about)
    else:
        loaded = read_weights(folder)
        trained_on = loaded.layout
        model, augment, prepared = loaded.encoder, loaded.config.augment, loaded.config.prepared
        if clips is not None:
            clips = map_whole(clips, trained_on)

    def features(data: Store | ClipsInMemory, workers: int | None) -> Features:
        index = np.arange(len(data))
        options: dict[str, Any] = {} if workers is None else {"workers": workers}
        loader = Loader(data, index, augment=augment, batch=ENCODE_BATCH, seed=0, train=False, device=target, **options)
        return extract(Pooled(model.to(target)), loader, name="embed")

    if clips is not None:
        plain = features(clips, None)
        names = clips.clips.name[plain.index.numpy()]
        origin = {"encoder": folder.name, "store": clips.fingerprint}
        result = Embedding(plain.x, plain.label, plain.index, names, tuple(clips.classes), origin)
    else:
        read = read_recordings(memory or [given], prepared=prepared, layout=trained_on, own=layout, source=source)
        if not read.found:
            bad = [*map(str, read.quarantined[:3]), *(f"{path}: no body" for path in read.no_body[:3])]
            raise DataError(f"none of the recordings in {given} can be used: {'; '.join(bad)}")
        plain = features(ClipsInMemory(read.clips, layout=trained_on, mode=prepared.mode), 0)
        actions = [one.action for one in read.found]
        classes = tuple(sorted({*actions} - {UNLABELLED}))
        number = {name: index for index, name in enumerate(classes)}
        label = torch.tensor([number.get(action, -1) for action in actions])
        names = np.array([one.name for one in read.found])
        origin = {"encoder": folder.name, "store": Path(given).name}
        result = Embedding(plain.x, label, plain.index, names, classes, origin, read.quarantined, read.no_body)
    _WRITERS[out.suffix](result, out)
    return result


def is_features(path: Path) -> bool:
    """Return whether ``path`` is a file that ``embed`` wrote."""
    arrays = {"features", "name", "label"}
    try:
        if path.suffix == ".csv":
            with path.open("rb") as file:
                return file.read(len(_CSV_HEAD)) == _CSV_HEAD
        if path.suffix == ".parquet":
            from pyarrow import parquet

            return b"smae encoder" in (parquet.read_schema(path).metadata or {})
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as content:
                return {*arrays, "classes", "encoder", "store"} == set(content.files)
        attributes = read_json(path / "zarr.json", what="features", remedy="")["attributes"]
        names = {entry.name for entry in path.iterdir()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError):
        return False
    return names == {*arrays, "zarr.json"} and set(attributes) == {"classes", "encoder", "store"}


def _columns(features: Embedding) -> dict[str, Any]:
    """Return the columns of a table: name, label, class, and the numbers of the vector."""
    label = features.label.numpy()
    kinds = [features.classes[number] if number >= 0 else "" for number in label.tolist()]
    columns: dict[str, Any] = {"name": features.name.tolist(), "label": label, "class": kinds}
    return columns | {f"f{number}": column for number, column in enumerate(features.x.numpy().T)}


def _write_csv(features: Embedding, to: Path) -> None:
    columns = _columns(features)
    with atomic_file(to) as partial, open(partial, "w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(columns)
        table.writerows(zip(*columns.values(), strict=True))


def _write_parquet(features: Embedding, to: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(_columns(features)).replace_schema_metadata(
        {f"smae {k}": v for k, v in features.origin.items()}
    )
    with atomic_file(to) as partial:
        parquet.write_table(table, partial)


def _write_npz(features: Embedding, to: Path) -> None:
    text = {key: np.array(value) for key, value in features.origin.items()}
    arrays: dict[str, Any] = {"name": features.name, "label": features.label.numpy(), **text}
    with atomic_file(to) as partial, open(partial, "wb") as out:
        np.savez(out, classes=np.array(features.classes, np.str_), features=features.x.numpy(), **arrays)


def _write_zarr(features: Embedding, to: Path) -> None:
    import zarr

    attributes: dict[str, Any] = {"classes": list(features.classes), **features.origin}
    padded = np.char.encode(features.name, "ascii")
    width = padded.dtype.itemsize
    with atomic_folder(to) as partial:
        group = zarr.open_group(partial, mode="w", zarr_format=3, attributes=attributes)
        group.create_array("features", data=features.x.numpy())
        group.create_array("name", data=padded.view(np.uint8).reshape(len(padded), width))
        group.create_array("label", data=features.label.numpy())


_WRITERS = {".npz": _write_npz, ".zarr": _write_zarr, ".csv": _write_csv, ".parquet": _write_parquet}
"""Writers of the formats, by the ending of the file's name."""
