"""Published checkpoints as encoder folders like our own exports.

Files are read without executing anything: safetensors, or torch's zip format with tensors and plain
types. ``import_formats`` has the maps of names.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from smae import interrupts
from smae.atomic_io import check_output
from smae.config import check, renamed
from smae.data.loader.augment import Augment
from smae.errors import ConfigError, DataError, UnknownNameError
from smae.eval.export import is_encoder, with_frames, write_weights
from smae.eval.import_formats import DECODER, FORMATS, HEADS, Format, Settings, depth_of, shape_of
from smae.eval.model_card import front_matter
from smae.models import Grid
from smae.registry import nearest
from smae.skeleton import KINECT20, NTU25, Layout
from smae.train.checkpoint import MAX_BYTES, Tensors, cpu_state_dict, non_finite
from smae.train.config import FAMILIES, outline, plugin_config

logger = logging.getLogger(__name__)

_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64)
_MACDIFF = ((-0.0058, -0.1333, -0.0246), (0.0206, 0.0805, 0.0218))
"""Mean and variance of MacDiff's input normalisation, of its configuration for NTU-60."""


@dataclass
class Imported:
    """A checkpoint that was imported.

    Attributes:
        folder: the encoder's folder.
        encoder: settings of the encoder, its name included.
        decoder: settings of the decoder; None without one.
        left_out: their names that are not part of either.
        notes: what was assumed, in words.
    """

    folder: Path
    encoder: Settings
    decoder: Settings | None = None
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@renamed(to="out")
@interrupts.deferred("run it again")
def import_weights(
    file: Path | str, out: Path | str, *, format: str, frames: int | None = None, overwrite: bool = False
) -> Imported:
    """Write the encoder of a published checkpoint as a folder like ``export_encoder``'s.

    A decoder like ours goes beside it. Nothing in the file is executed.

    Args:
        file: safetensors or a torch checkpoint; or a folder that holds ``model.safetensors``.
        out: the folder to write.
        format: ``mamp``, ``macdiff``, ``stars``, ``slim``, ``sttformer`` or ``ctrgcn``.
        frames: of the clips that it shall take; default those it was published for. Learned
            positions over time are resized.
        overwrite: replace an earlier exported encoder; anything else is never replaced.

    Raises:
        UnknownNameError: no such format.
        DataError: the file cannot be read, or has other tensors than the format; missing, surplus
            and misshapen ones are named.
        ConfigError: ``out`` must not be replaced, or ``frames`` do not fit the encoder's patches.
    """
    if format not in FORMATS:
        names = f"{', '.join(FORMATS)}{nearest(format, FORMATS)}"
        raise UnknownNameError(f"--format {format}: expected one of {names}")
    kind, path, out = FORMATS[format], Path(file), Path(out)
    check(Augment, {} if frames is None else {"frames": frames}, where="augment")
    if path.is_dir():
        path = path / "model.safetensors"
    what = "an exported encoder without records"
    check_output(out, kind=what, is_kind=is_encoder, overwrite=overwrite, inputs=[path])
    content, sha256 = read_checkpoint(path)
    made = Imported(out, {})
    try:
        tensors, known = _unwrap(content)
        settings, joints, length = kind.describe(tensors)
        check(Augment, {"frames": length}, where="augment")
        if isinstance(known.get("num_heads"), int):
            settings["heads"] = known["num_heads"]
        elif "heads" in settings and format != "sttformer":
            made.notes.append(f"it does not say how many attention heads: {HEADS}, as published")
        _prepare(format, tensors, joints, known, made.notes)
        layout = _layout_of(joints)
        encoder = _fill(kind, "encoder", tensors, settings, made, frames=length, layout=layout)
        decoder = None
        if format in ("mamp", "stars") and any(name.startswith("decoder_") for name in tensors):
            made.decoder = _describe_decoder(tensors, settings["heads"])
            grid = Grid.cut(length, joints=joints, patch=settings["patch"])
            width = settings["dim"]
            decoder = _fill(DECODER, "decoder", tensors, made.decoder, made, grid=grid, width=width)
        made.left_out = sorted(name for name in tensors if re.match(kind.left_out, name))
        if surplus := sorted({*tensors} - {*made.left_out}):
            raise DataError(f"unknown tensors: {_list(surplus)}")
    except (ConfigError, DataError) as error:
        raise DataError(f"{path}: not a checkpoint of format {format}: {error}") from None
    if frames not in (None, length):
        made.notes.append(f"for clips of {frames} frames, where it was trained on {length}")
        encoder = with_frames(encoder, settings, frames=frames or length, layout=layout)
    made.notes += [kind.note] * bool(kind.note)
    made.encoder = settings
    imported: Settings = {"format": format, "file": path.name, "sha256": sha256}
    imported |= {"left_out": made.left_out, "notes": made.notes}
    origin: Settings = {"run": path.name, "imported": imported}
    files = {}
    if decoder is not None:
        files["decoder.safetensors"] = save(cpu_state_dict(decoder))
        digest = hashlib.sha256(files["decoder.safetensors"]).hexdigest()
        origin["decoder"] = {"settings": made.decoder, "sha256": digest}
    write_weights(
        out,
        encoder,
        encoder=settings,
        augment=Augment(frames=frames or length, min_frames=kind.min_frames),
        layout=layout,
        origin=origin,
        card=_card(format, path.name, sha256, made),
        files=files,
    )
    for note in made.notes:
        logger.info("%s: %s", path.name, note)
    if made.left_out:
        logger.info("%s: left out %s", path.name, _list(made.left_out))
    return made


def read_checkpoint(path: Path) -> tuple[Any, str]:
    """Return the content of a file of weights, and its SHA-256; nothing in it is executed.

    Raises:
        DataError: not a regular file, over 8 GiB, neither safetensors nor a torch zip, damaged, or
            one that holds more than tensors and plain types, or claims more than it has.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file: give a checkpoint, or its folder")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"{path}: {size:,} bytes, expected at most {MAX_BYTES:,}")
    with open(path, "rb") as file:
        start = file.read(2)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if start[:1] == b"\x80":
        raise DataError(
            f"{path}: a pickle, as torch wrote before version 1.6, which is not read: save its "
            "tensors as safetensors, on a machine where it may run code"
        )
    try:
        if start != b"PK":
            return load_file(path), sha256
        with zipfile.ZipFile(path) as packed:
            entries = packed.infolist()
        if any(entry.compress_type or entry.flag_bits & 1 for entry in entries):
            raise DataError("it is compressed, as torch never writes")
        if sum(entry.file_size for entry in entries) > size:
            raise DataError("it claims more bytes than it has")
        # Namespace has attributes and no code; MAMP and its kin keep their options in one.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True), sha256
    except (DataError, SafetensorError) as error:
        raise DataError(f"{path}: not a file of weights: {error}") from None
    except Exception as error:
        # A hostile stream can make the unpickler raise nearly anything: the file is refused.
        words = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        raise DataError(f"{path}: not a file of tensors alone ({words})") from None


def _unwrap(content: Any) -> tuple[Tensors, Mapping[str, Any]]:
    """Return the tensors of a checkpoint in float32, by name, and what it says about its model."""
    known: Any = {}
    if isinstance(content, dict):
        if isinstance(content.get("args"), argparse.Namespace):
            known = vars(content["args"])
        inner = [content[key] for key in ("model", "teacher") if isinstance(content.get(key), dict)]
        content = (inner or [content])[0]
    if not isinstance(content, dict) or not content:
        raise DataError(f"expected tensors by name, found {type(content).__name__}")
    tensors: Tensors = {}
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            found = f"{str(name)[:60]!r}: {type(tensor).__name__}"
            raise DataError(f"expected tensors by name, found {found}")
        plain = tensor.layout == torch.strided and tensor.is_cpu and tensor.dtype in _TYPES
        if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise DataError(f"'{name[:60]}' is no plain tensor of float16 to float64 or integers")
        # Trained by several processes; SLiM's; STARS's.
        short = re.sub(r"^(module\.)?(backbone\.|encoder_student\.)?", "", name)
        if short in tensors:
            raise DataError(f"two tensors '{short}'")
        tensors[short] = tensor.detach()
        if tensor.is_floating_point():
            tensors[short] = tensors[short].float()
    if bad := non_finite(tensors):
        raise DataError(f"{_list(bad)}: not finite")
    model = known.get("model_args", {})
    return tensors, model if isinstance(model, dict) else {}


def _prepare(format: str, tensors: Tensors, joints: int, known: Mapping[str, Any], notes: list[str]) -> None:
    """Change a format's tensors where one of ours is made of several of theirs, if they fit."""
    if format == "slim" and shape_of(tensors, "cls_token", 3)[2] == tensors["pos_embed"].shape[2]:
        tensors["cls_token"] = tensors["cls_token"] + tensors["pos_embed"][:1, :1]
    if format == "ctrgcn":
        for name in [name for name in tensors if name.startswith("data_bn.")]:
            if tensors[name].shape == (2 * joints * 3,):
                tensors[name] = tensors[name][: joints * 3]
    weight = tensors.get("joints_embed.proj.weight", torch.empty(0))
    if format == "macdiff" and weight.shape[:2] == (*shape_of(tensors, "joints_embed.proj.bias", 1), 3):
        mean, variance = known.get("input_mean", _MACDIFF[0]), known.get("input_var", _MACDIFF[1])
        if "input_var" not in known:
            notes.append(f"its input is normalised as for NTU-60: mean {mean}, variance {variance}")
        shift, scale = _three(mean), _three(variance, above=0.0).sqrt()
        weight = weight.double() / scale[:, None, None]
        moved = (weight * shift[:, None, None]).sum((1, 2, 3))
        bias = tensors["joints_embed.proj.bias"].double() - moved
        tensors["joints_embed.proj.weight"] = weight.float()
        tensors["joints_embed.proj.bias"] = bias.float()


def _three(values: Any, *, above: float = -1e6) -> Tensor:
    """Return three numbers, a mean or a variance of each axis."""
    listed = isinstance(values, list | tuple) and len(values) == 3
    if not listed or not all(isinstance(one, int | float) and above < one < 1e6 for one in values):
        raise DataError(f"input_mean, input_var: expected 3 numbers, the latter above 0, found {values!s:.60}")
    return torch.tensor(values, dtype=torch.float64)


def _layout_of(joints: int) -> Layout:
    # What published encoders of these kinds were trained on.
    published = (NTU25, KINECT20)
    found = [layout for layout in published if len(layout) == joints]
    if not found:
        known = " and ".join(f"{len(layout)} ({layout.name})" for layout in published)
        raise DataError(f"{joints} joints, where smae knows layouts of {known}")
    return found[0]


def _describe_decoder(tensors: Tensors, heads: int) -> Settings:
    dim = shape_of(tensors, "decoder_embed.weight", 2)[0]
    hidden = shape_of(tensors, "decoder_blocks.0.mlp.fc1.weight", 2)[0]
    size = {"dim": dim, "depth": depth_of(tensors, "decoder_blocks"), "heads": heads}
    return {"name": "self", **size, "mlp": hidden / dim}


def _fill(kind: Format, family: str, tensors: Tensors, settings: Settings, made: Imported, **size: Any) -> nn.Module:
    """Return our module with their weights, which are taken out of ``tensors``.

    Raises:
        DataError: tensors are missing or of other shapes.
    """
    config = plugin_config(family, settings)
    settings.update(config.model_dump(mode="json"))

    def build() -> nn.Module:
        module: nn.Module = FAMILIES[family].get(config.name)(config, **size)
        return module

    # First without memory: the file may claim any size.
    weights, used, missing, wrong = Tensors(), set[str](), list[str](), list[str]()
    for name, expected in outline(build).state_dict().items():
        block = re.match(r"blocks\.(\d+)\.", name)
        rest = name[block.end() :] if block else name
        renamed = [re.sub(f"^{rule}", to, rest) for rule, to in kind.names if re.match(rule, rest)]
        theirs = (renamed or [rest])[0]
        if block:
            theirs = kind.block(int(block[1])) + theirs
        if theirs not in tensors:
            if re.match(kind.absent, name):
                weights[name] = torch.zeros(expected.shape)
            else:
                missing.append(theirs)
            continue
        used.add(theirs)
        take = next((to for rule, to in kind.take if re.match(rule, rest)), None)
        try:
            weights[name] = tensors[theirs] if take is None else take(tensors[theirs])
        except (IndexError, RuntimeError):
            weights[name] = torch.empty(0)
        if weights[name].shape != expected.shape:
            found, wanted = list(tensors[theirs].shape), list(expected.shape)
            wrong.append(f"{theirs} {found}, which should make {name} {wanted}")
    if missing:
        raise DataError(f"missing tensors: {_list(sorted(set(missing)))}")
    if wrong:
        raise DataError(f"tensors of another shape: {_list(wrong)}")
    for name in used:
        del tensors[name]
    module = build()
    module.load_state_dict(weights)
    return module.eval()


def _list(names: list[str]) -> str:
    shown = ", ".join(name[:80] for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5:,} more"


def _card(format: str, name: str, sha256: str, made: Imported) -> str:
    """Return the folder's README.md."""
    notes = "".join(f"- {note}\n" for note in made.notes)
    return (
        f"{front_matter(format)}# {name}\n\nAn encoder imported by `smae import-weights --format {format}` from "
        f"`{name}` (SHA-256 `{sha256}`). Its authors' licence holds, and the terms of the data "
        f"that it was trained on.\n\n{notes}"
    )
