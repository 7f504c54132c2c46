"""Checkpoints: a folder a step, safetensors and JSON only, published in one rename, checked before use.

``checkpoints/step-00001234/`` holds ``model.safetensors``, ``optimizer.safetensors``, ``state.json``, where a moving
average of the weights is kept ``average.safetensors``, and ``manifest.json`` (SHA-256 and size of the others, written
last).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from smae.atomic_io import atomic_folder, os_errors, read_json
from smae.errors import DataError, NonFiniteError

KEEP = 2
"""Checkpoints kept at least, so that a damaged newest one leaves another."""

VERSION = 2
MOST = 2**33
"""Bytes of a file of a checkpoint at most, where the model is not known."""
_POSITION = ("step", "epoch", "consumed", "steps")
_FILES = ("model.safetensors", "optimizer.safetensors", "state.json")
_STEP = "step-"
_AVERAGE = "average.safetensors"
_REMEDY = "this checkpoint cannot be used; name another with --checkpoint, or train again"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds, once verified.

    Attributes:
        path: its folder.
        model: the objective's weights by name.
        optimizer: the optimiser's tensors, ``<parameter number>.<what>``.
        state: position and identity (epoch, step, consumed clips, ...).
        average: the moving average of the weights, by name; empty where none is kept.
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
    """Write ``folder/step-NNNNNNNN`` and return it; older ones beyond ``KEEP`` go.

    Raises:
        NonFiniteError: a weight or one of the optimiser's numbers is NaN or infinite; nothing is written.
        EnvironmentFault: no space, no permission, or a device error; nothing of it is left, and older ones are.
    """
    weights, moments = weights_of(model), pack_optimizer(optimizer)
    averaged = weights_of(average) if average is not None else {}
    bad = not_finite(weights) or not_finite(averaged) or [f"optimizer {name}" for name in not_finite(moments)]
    if bad:
        raise NonFiniteError(f"{', '.join(bad[:3])}: not finite, so no checkpoint was written; the last one is sound")
    contents = {
        "model.safetensors": save(weights),
        "optimizer.safetensors": save(moments),
        "state.json": json.dumps(state, indent=1, allow_nan=False).encode(),
        **({_AVERAGE: save(averaged)} if averaged else {}),
    }
    final = folder / _name(state["step"])
    for stale in folder.glob(".step-*.partial"):
        shutil.rmtree(stale)
    with atomic_folder(final, size=sum(map(len, contents.values()))) as partial:
        _write(partial, contents)
    with os_errors(folder):
        for old in sorted(folder.glob("step-*"))[:-KEEP]:
            shutil.rmtree(old)
    return final


def _name(step: int) -> str:
    return f"{_STEP}{step:08d}"


def _write(partial: Path, contents: dict[str, bytes]) -> None:
    for name, data in contents.items():
        (partial / name).write_bytes(data)
    digests = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in contents.items()
    }
    manifest = json.dumps({"version": VERSION, "files": digests}, indent=1) + "\n"
    (partial / "manifest.json").write_text(manifest, encoding="utf-8")


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's weights and buffers by name, on the CPU."""
    # Copies, because safetensors refuses tensors that share memory, as tied weights do.
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}


def not_finite(tensors: dict[str, Tensor]) -> list[str]:
    """Return the names of tensors that hold NaN or infinity."""
    return [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _finite(tensor)]


def _finite(tensor: Tensor) -> bool:
    """Return whether all numbers are finite: NaN and infinity show in the least and greatest, found in one pass."""
    return not tensor.numel() or all(bool(end.isfinite()) for end in tensor.aminmax())


def room_for(model: nn.Module) -> int:
    """Return the bytes that no file of a sound checkpoint of ``model`` exceeds: twice the optimiser's two moments."""
    return 2**24 + 4 * sum(int(tensor.nbytes) for tensor in model.state_dict().values())


def load_checkpoint(folder: Path, *, at_most: int = MOST) -> Checkpoint:
    """Return a checkpoint, every byte checked against its manifest.

    Args:
        folder: of one step.
        at_most: bytes that a file may have (see ``room_for``); a larger one is refused before any memory is taken.

    Raises:
        DataError: a file is missing, changed, not a regular file, not safetensors, or holds a non-finite number; or
            another version of smae wrote it.
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
    data = {name: _read_checked(folder / name, entry, at_most=at_most) for name, entry in entries.items()}
    try:
        model, optimizer = load(data["model.safetensors"]), load(data["optimizer.safetensors"])
        average = load(data[_AVERAGE]) if _AVERAGE in data else {}
        state = json.loads(data["state.json"])
    except (SafetensorError, ValueError, RecursionError) as error:
        raise DataError(f"{folder}: {error}: {_REMEDY}") from None
    bad = not_finite(model) or not_finite(average) or [f"optimizer {name}" for name in not_finite(optimizer)]
    if bad:
        raise DataError(f"{folder}: {', '.join(bad[:3])}: not finite: {_REMEDY}")
    if not isinstance(state, dict) or not all(type(state.get(key)) is int for key in _POSITION):
        raise DataError(f"{folder / 'state.json'}: expected whole numbers {', '.join(_POSITION)}: {_REMEDY}")
    if folder.name.startswith(_STEP) and folder.name != _name(state["step"]):
        raise DataError(f"{folder}: holds step {state['step']}, under another's name: {_REMEDY}")
    return Checkpoint(folder, model, optimizer, state, average)


def _read_checked(path: Path, entry: Any, *, at_most: int) -> bytes:
    if not path.is_file() or path.is_symlink():
        raise DataError(f"{path}: missing, or not a regular file: {_REMEDY}")
    size = path.stat().st_size
    if not isinstance(entry, dict) or size != entry.get("bytes"):
        raise DataError(f"{path}: {size} bytes, its manifest says otherwise: {_REMEDY}")
    if size > at_most:
        raise DataError(f"{path}: {size:,} bytes, where this model has no more than {at_most:,}: {_REMEDY}")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != entry.get("sha256"):
        raise DataError(f"{path}: contents differ from its manifest's SHA-256: {_REMEDY}")
    return data


def latest(folder: Path, *, note: Callable[[str], None] = lambda message: None, at_most: int = MOST) -> Checkpoint:
    """Return the newest checkpoint that verifies; each one passed over is told through ``note``.

    Args:
        folder: of all checkpoints of a run.
        note: takes a line for people.
        at_most: see ``load_checkpoint``.

    Raises:
        DataError: there is none.
    """
    for candidate in sorted(folder.glob("step-*"), reverse=True):
        try:
            return load_checkpoint(candidate, at_most=at_most)
        except DataError as error:
            note(f"passed over a damaged checkpoint: {error}")
    raise DataError(f"{folder}: no usable checkpoint: train with `smae pretrain` first")


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state as named tensors."""
    packed = {}
    for number, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            packed[f"{number}.{key}"] = torch.as_tensor(value).detach().cpu().contiguous()
    return packed


def unpack_optimizer(optimizer: torch.optim.Optimizer, packed: dict[str, Tensor], *, where: str) -> None:
    """Put packed tensors back into an optimiser over the same parameters.

    Raises:
        DataError: a tensor belongs to no parameter, or has neither its shape nor that of a single number.
    """
    shapes = [tuple(parameter.shape) for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in sorted(packed.items()):
        number, _, key = name.partition(".")
        if not number.isdecimal() or int(number) >= len(shapes) or tuple(tensor.shape) not in ((), shapes[int(number)]):
            raise DataError(f"{where}: optimizer {name} {tuple(tensor.shape)} fits no parameter of this model")
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def load_weights(module: nn.Module, weights: dict[str, Tensor], *, where: str) -> None:
    """Load weights by name, strictly.

    Raises:
        DataError: names or shapes differ; the first few differences are told.
    """
    own = module.state_dict()
    differences = [f"{name}: missing there" for name in own if name not in weights]
    differences += [f"{name}: unknown here" for name in weights if name not in own]
    differences += [
        f"{name}: {tuple(weights[name].shape)} there, {tuple(tensor.shape)} here"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if differences:
        raise DataError(f"{where}: weights do not fit this model: " + "; ".join(differences[:4]))
    module.load_state_dict(weights)
