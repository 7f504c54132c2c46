"""Checkpoints: one folder a step, safetensors and JSON only, published by one rename and verified.

``checkpoints/step-00001234/`` holds ``model.safetensors``, ``optimizer.safetensors``,
``state.json``, with an EMA of the weights ``average.safetensors``, and ``manifest.json`` with
SHA-256 and size of the others.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.functional import interpolate

from smae.atomic_io import atomic_folder, os_errors, parse_json, partial_path, read_json
from smae.errors import ConfigError, DataError, NonFiniteError
from smae.skeleton import Layout, layout_from_json
from smae.train.run_folder import find_checkpoint, weights_folder

logger = logging.getLogger(__name__)

KEEP = 2
"""Checkpoints kept, so that a damaged newest one leaves another."""

VERSION = 2
MAX_BYTES = 2**33
"""Largest file of a checkpoint if the model is not known."""
_POSITION = ("step", "epoch", "consumed", "steps")
_FILES = ("model.safetensors", "optimizer.safetensors", "state.json")
_AVERAGE = "average.safetensors"
_REMEDY = "this checkpoint cannot be used; name another run or step-* folder, or train again"
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """The verified contents of a checkpoint.

    Attributes:
        path: its folder.
        model: the objective's weights by name.
        optimizer: the optimiser's state, ``<parameter number>.<key>``.
        state: position and identity (epoch, step, consumed clips, ...).
        average: the EMA of the weights by name; empty without one.
    """

    path: Path
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    average: dict[str, Tensor]


def save_checkpoint(
    folder: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    average: nn.Module | None = None,
) -> Path:
    """Write ``folder/step-NNNNNNNN`` and return it; all but the newest ``KEEP`` are removed.

    Raises:
        NonFiniteError: a weight or optimiser state is NaN or infinite; nothing is written.
        EnvironmentFault: no space, no permission, or a device error; older checkpoints are intact.
    """
    weights, moments, averaged = cpu_state_dict(model), pack_optimizer(optimizer), Tensors()
    if average is not None:
        averaged = cpu_state_dict(average)
    bad = _bad_tensors(weights, averaged, moments)
    if bad:
        raise NonFiniteError(f"{', '.join(bad[:3])}: not finite, so no checkpoint was written; the last one is sound")
    files = {
        "model.safetensors": save(weights),
        "optimizer.safetensors": save(moments),
        "state.json": json.dumps(state, indent=1, allow_nan=False).encode(),
    }
    if averaged:
        files[_AVERAGE] = save(averaged)
    entries = {name: {"sha256": _sha256(data), "bytes": len(data)} for name, data in files.items()}
    manifest = json.dumps({"version": VERSION, "files": entries}, indent=1) + "\n"
    final = folder / _name(state["step"])
    remove_stale(folder)
    with atomic_folder(final, size=sum(map(len, files.values()))) as partial:
        for name, data in files.items():
            (partial / name).write_bytes(data)
        (partial / "manifest.json").write_text(manifest, encoding="utf-8")
    with os_errors(folder):
        for old in sorted(folder.glob("step-*"))[:-KEEP]:
            # In one step, so that no reader finds a part of it.
            shutil.rmtree(old.rename(partial_path(old)))
    return final


def remove_stale(folder: Path) -> None:
    """Remove what a run that was killed was writing or removing."""
    for stale in folder.glob(".step-*.partial"):
        shutil.rmtree(stale)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def cpu_state_dict(module: nn.Module) -> Tensors:
    """Return a module's weights and buffers by name, on the CPU."""
    # Cloned, because safetensors refuses tensors that share memory, as tied weights do.
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}


def encoder_sha256(encoder: nn.Module) -> str:
    """Return the SHA-256 of an encoder's weights, as in ``config.json`` of its exported folder."""
    return hashlib.sha256(save(cpu_state_dict(encoder))).hexdigest()


def non_finite(tensors: Tensors) -> list[str]:
    """Return the names of tensors that contain NaN or infinity."""
    # Either shows in the minimum or the maximum, and aminmax reads the tensor once.
    return [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and tensor.numel() and not all(end.isfinite() for end in tensor.aminmax())
    ]


def _bad_tensors(weights: Tensors, averaged: Tensors, optimizer: Tensors) -> list[str]:
    return non_finite(weights) or non_finite(averaged) or [f"optimizer {name}" for name in non_finite(optimizer)]


def max_file_bytes(model: nn.Module) -> int:
    """Return a bound on the files of a checkpoint of ``model``: twice the optimiser's two moments."""
    return 2**24 + 4 * sum(int(tensor.nbytes) for tensor in model.state_dict().values())


def check_size(folder: Path, model: nn.Module) -> None:
    """Refuse settings of a run that are those of a far larger model than all of its checkpoints are of.

    Raises:
        DataError: there are checkpoints, and each is of a smaller model.
    """
    sizes = [path.stat().st_size for path in folder.glob("step-*/model.safetensors")]
    claimed = max_file_bytes(model) // 4
    if sizes and 4 * (max(sizes) + 2**22) < claimed:
        raise DataError(
            f"{folder.parent / 'run.json'}: a model of {claimed:,} bytes, where its checkpoints hold at most "
            f"{max(sizes):,}: train again"
        )


def load_checkpoint(folder: Path, *, max_bytes: int = MAX_BYTES) -> Checkpoint:
    """Return a checkpoint, every byte verified against its manifest.

    Args:
        folder: of one step.
        max_bytes: limit on the size of a file, see ``max_file_bytes``; checked before any is read.

    Raises:
        DataError: a file is missing, changed, not a regular file, not safetensors, or contains a
            non-finite number; or another version of smae wrote it.
    """
    manifest = read_json(folder / "manifest.json", what="checkpoint manifest", remedy=_REMEDY)
    version, entries = manifest.get("version"), manifest.get("files")
    if version != VERSION:
        raise DataError(
            f"{folder}: checkpoint format {version!r}, this smae reads {VERSION}: "
            "train again, or use the smae that wrote it"
        )
    if not isinstance(entries, dict) or set(entries) - {_AVERAGE} != set(_FILES):
        raise DataError(f"{folder}: its manifest should name {', '.join(_FILES)}: {_REMEDY}")
    data = {name: _read_verified(folder / name, entry, max_bytes=max_bytes) for name, entry in entries.items()}
    average = Tensors()
    try:
        model, optimizer = load(data["model.safetensors"]), load(data["optimizer.safetensors"])
        if _AVERAGE in data:
            average = load(data[_AVERAGE])
        state = parse_json(data["state.json"])
    except (SafetensorError, ValueError, RecursionError) as error:
        raise DataError(f"{folder}: {error}: {_REMEDY}") from None
    bad = _bad_tensors(model, average, optimizer)
    if bad:
        raise DataError(f"{folder}: {', '.join(bad[:3])}: not finite: {_REMEDY}")
    if not isinstance(state, dict) or not all(type(state.get(key)) is int for key in _POSITION):
        raise DataError(f"{folder / 'state.json'}: expected whole numbers {', '.join(_POSITION)}: {_REMEDY}")
    if not isinstance(state.get("identity", {}), dict):
        raise DataError(f"{folder / 'state.json'}: expected settings as 'identity': {_REMEDY}")
    if folder.name.startswith("step-") and folder.name != _name(state["step"]):
        raise DataError(f"{folder}: holds step {state['step']}, not that of its name: {_REMEDY}")
    return Checkpoint(folder, model, optimizer, state, average)


def _read_verified(path: Path, entry: Any, *, max_bytes: int) -> bytes:
    if not path.is_file() or path.is_symlink():
        raise DataError(f"{path}: missing, or not a regular file: {_REMEDY}")
    size = path.stat().st_size
    if not isinstance(entry, dict) or size != entry.get("bytes"):
        raise DataError(f"{path}: {size} bytes, its manifest says otherwise: {_REMEDY}")
    if size > max_bytes:
        raise DataError(f"{path}: {size:,} bytes, expected at most {max_bytes:,} for this model: {_REMEDY}")
    data = path.read_bytes()
    if _sha256(data) != entry.get("sha256"):
        raise DataError(f"{path}: contents differ from its manifest's SHA-256: {_REMEDY}")
    return data


def load_latest(folder: Path, *, max_bytes: int = MAX_BYTES) -> Checkpoint:
    """Return the newest checkpoint that verifies, with a warning for each one skipped.

    Args:
        folder: the checkpoints of a run.
        max_bytes: see ``load_checkpoint``.

    Raises:
        DataError: there is none.
    """
    tried: set[tuple[Path, int]] = set()
    while found := {(path, _inode(path)) for path in folder.glob("step-*")} - tried:
        candidate, inode = max(found)
        try:
            return load_checkpoint(candidate, max_bytes=max_bytes)
        except DataError as error:
            tried.add((candidate, inode))
            # A run that is trained meanwhile removes or replaces what is being read: no damage.
            if _inode(candidate) == inode:
                logger.warning("skipped a damaged checkpoint: %s", error)
    raise DataError(f"{folder}: no usable checkpoint: train with `smae pretrain` first")


def _inode(path: Path) -> int:
    """Return the number of a folder on its disk, 0 if it is gone."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def pack_optimizer(optimizer: torch.optim.Optimizer) -> Tensors:
    """Return an optimiser's state as named tensors."""
    packed = {}
    for number, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            packed[f"{number}.{key}"] = torch.as_tensor(value).detach().cpu().contiguous()
    return packed


def load_optimizer(optimizer: torch.optim.Optimizer, packed: Tensors, *, where: str) -> None:
    """Load packed tensors into an optimiser over the same parameters.

    Raises:
        DataError: a tensor belongs to no parameter, or is neither of its shape nor a scalar.
    """
    shapes = [tuple(parameter.shape) for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in sorted(packed.items()):
        number, _, key = name.partition(".")
        if not number.isdecimal() or int(number) >= len(shapes) or tuple(tensor.shape) not in ((), shapes[int(number)]):
            raise DataError(f"{where}: optimizer {name} {tuple(tensor.shape)} fits no parameter of this model")
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def load_weights(module: nn.Module, weights: Tensors, *, where: str) -> None:
    """Load weights by name, strictly; raises as ``check_weights`` does."""
    check_weights(module, weights, where=where)
    module.load_state_dict(weights)


def check_weights(module: nn.Module, weights: Tensors, *, where: str) -> None:
    """Compare names and shapes of weights with a module's.

    Raises:
        DataError: names or shapes differ; the message lists the first few differences.
    """
    expected = module.state_dict()
    differences = [f"{name}: missing there" for name in expected if name not in weights]
    differences += [f"{name}: unknown here" for name in weights if name not in expected]
    differences += [
        f"{name}: {tuple(weights[name].shape)} there, {tuple(tensor.shape)} here"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if differences:
        raise DataError(f"{where}: weights do not fit this model: " + "; ".join(differences[:4]))


def resize_positions(module: nn.Module, weights: Tensors) -> Tensors:
    """Return weights, learned positions over time resized, linearly, to as many as a module has."""
    resized = dict(weights)
    for name, own in module.state_dict().items():
        given = weights.get(name, own)
        same = len(given) == len(own) if given.ndim else True
        if not name.endswith("pos_embed.time") or same or given.shape[1:] != own.shape[1:]:
            continue
        logger.info("positions over time are resized from %d to %d patches", len(given), len(own))
        rows = interpolate(given.float().T[None], size=len(own), mode="linear")
        resized[name] = rows[0].T.contiguous()
    return resized


def read_tensors(path: Path, sha256: Any, *, remedy: str = _REMEDY) -> Tensors:
    """Return the tensors of a safetensors file by name.

    Args:
        path: the file.
        sha256: what is known of its contents, hex.
        remedy: what can be done, for messages.

    Raises:
        DataError: the file is missing, changed, not safetensors, or contains a non-finite number.
    """
    if not path.is_file():
        raise DataError(f"{path}: missing, or not a regular file: {remedy}")
    data = path.read_bytes()
    if _sha256(data) != sha256:
        raise DataError(f"{path}: contents differ from the SHA-256 in config.json: {remedy}")
    try:
        tensors = load(data)
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path}: {error}: {remedy}") from None
    if bad := non_finite(tensors):
        raise DataError(f"{path}: {', '.join(bad[:3])}: not finite: {remedy}")
    return tensors


def decoder_weights(path: Path) -> Tensors | None:
    """Return the decoder's weights of an imported checkpoint; None where there is none.

    Raises:
        DataError: it is damaged, or nothing is there.
    """
    path = weights_folder(path)
    if not (path / "decoder.safetensors").is_file():
        return None
    origin = read_json(path / "config.json", what="weights", remedy=_REMEDY).get("origin")
    known = origin.get("decoder") if isinstance(origin, dict) else None
    return read_tensors(path / "decoder.safetensors", known.get("sha256") if isinstance(known, dict) else None)


def encoder_weights(path: Path) -> Tensors:
    """Return the encoder's weights of a run, a checkpoint, an exported or a packaged encoder.

    Raises:
        DataError: there is none of them, or it is damaged.
    """
    path = weights_folder(path)
    if (path / "config.json").is_file():
        about = read_json(path / "config.json", what="weights", remedy=_REMEDY)
        weights = read_tensors(path / "model.safetensors", about.get("sha256"))
    else:
        checkpoint = load_checkpoint(path) if path.name.startswith("step-") else load_latest(path / "checkpoints")
        weights = checkpoint.average or checkpoint.model
    # The names of an objective, or of a head's classifier; an exported encoder has the bare ones.
    prefix = "encoder."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix) or not any(other.startswith(prefix) for other in weights)
    }


def describe_start(path: Path) -> tuple[Layout, dict[str, Any]]:
    """Return the joints of an encoder that training starts from, and the settings that it needs.

    They are those of ``encoder``, and how clips are turned and measured: ``augment.align`` and
    ``augment.stream``.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = weights_folder(path)
    try:
        if (path / "config.json").is_file():
            config = read_json(path / "config.json", what="weights", remedy=_REMEDY)
            joints, name = config["layout"], config["layout"]["name"]
        else:
            about = find_checkpoint(path)[0].describe()
            joints, name, config = about["store"], about["store"]["layout"], about["config"]
        shown = {key: config["augment"][key] for key in ("align", "stream") if key in config["augment"]}
        layout = layout_from_json(name, joints.get("skeleton"))
        return layout, {"encoder": dict(config["encoder"]), "augment": shown}
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(f"{path}: it does not say what encoder it holds ({error!r:.99}): {_REMEDY}") from None
