"""A run to what travels: encoders, features, labels for recordings of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smae.api.common import RUNS, Say, find_checkpoint, silent
from smae.data.store.store import open_store
from smae.errors import ConfigError

if TYPE_CHECKING:
    from smae.eval.features import Features
    from smae.eval.predict import Predictions
    from smae.models.encoders import Encoder


def export_encoder(run: Path | str | None, to: Path | str, *, overwrite: bool = False, say: Say = silent) -> Path:
    """Write a run's encoder as a folder of safetensors, config and model card, and return the folder.

    Args:
        run: a run's folder, or one of its checkpoints; the newest run when ``None``.
        to: the folder.
        overwrite: replace what is there.
        say: takes lines for people.

    Raises:
        DataError: no run, or no usable checkpoint.
        ConfigError: something is at ``to``.
    """
    from smae.eval.export_run import export_encoder as write

    found, step = find_checkpoint(run)
    return write(found, Path(to), step=step, overwrite=overwrite, say=say)


def load_encoder(path: Path | str, *, layout: str | None = None, frames: int | None = None) -> Encoder:
    """Return the encoder of an exported folder, ready to use; see ``smae.eval.export.load_encoder``."""
    from smae.eval.export import load_encoder as load

    return load(Path(path), layout=layout, frames=frames)


def embed(
    path: Path | str | None,
    to: Path | str,
    *,
    encoder: Path | str | None = None,
    run: Path | str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    say: Say = silent,
    tell: Callable[[int, int], None] = silent,
) -> Features:
    """Write the features of a store's clips, one vector each, to an ``.npz`` or ``.zarr``, and return them.

    Args:
        path: store; found in the current folder when ``None``.
        to: the file.
        encoder: an exported folder.
        run: a run or checkpoint in its place; the newest run when neither is given.
        device: as for ``pretrain``.
        overwrite: replace what is there.
        say: takes lines for people.
        tell: takes progress.

    Raises:
        ConfigError: both an encoder and a run, or a file of another kind.
        DataError: the store's layout is not the encoder's; no usable store, run or folder.
    """
    from smae.eval.embed import check_target, write_features
    from smae.eval.embed import embed as describe
    from smae.eval.export_run import encoder_for
    from smae.train.build import pick_device

    if encoder is not None and run is not None:
        raise ConfigError("give an exported encoder or a run, not both")
    to, target = Path(to), pick_device(device)
    check_target(to, overwrite=overwrite)
    store = open_store(path)
    where, step = (Path(encoder), None) if encoder is not None else find_checkpoint(run)
    net, augment, origin = encoder_for(where, step, store, say=say)
    features = describe(net, store, augment=augment, device=target, tell=tell)
    write_features(features, store, to=to, origin=origin)
    return features


def predict(
    files: Sequence[Path | str],
    *,
    run: Path | str | None = None,
    head: Path | str | None = None,
    mode: str | None = None,
    protocol: str | None = None,
    source: str | None = None,
    device: str = "auto",
    tell: Callable[[int, int], None] = silent,
) -> Predictions:
    """Return labels with probabilities for raw recordings of one's own.

    Args:
        files: raw files, one recording each.
        run: whose trained head judges, made by ``evaluate``; the newest run when left out.
        head: a head's folder in its place, such as ``runs/x/heads/ntu60-xsub-finetune``.
        mode: which of the run's heads, by the probe that trained it; the fine-tuned one first.
        protocol: which of them, by the split; the run's own first.
        source: registered source of the files; the one trained on when left out.
        device: as for ``pretrain``.
        tell: takes progress.

    Raises:
        SmaeError: see ``smae.eval.predict.predict`` and ``find_head``.
    """
    from smae.eval.export import read_weights
    from smae.eval.predict import find_head
    from smae.eval.predict import predict as classify
    from smae.train.build import pick_device
    from smae.train.run_folder import find_run

    if head is None:
        found = find_run(Path(run) if run is not None else None, root=RUNS)
        head = find_head(found, protocol=protocol, mode=mode)
    elif run is not None or mode is not None or protocol is not None:
        raise ConfigError("a head's folder says all: leave run, mode and protocol out")
    model = read_weights(Path(head))
    paths, target = [Path(file) for file in files], pick_device(device)
    return classify(paths, model, name=str(head), source=source, device=target, tell=tell)
