"""Weights that travel: an encoder, with a classifying head or without, as a folder that needs no run and no store.

``model.safetensors`` holds the weights, ``config.json`` what they are and the SHA-256 they must have, ``README.md`` the
model card. A head's folder has no card: it stays with its run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from smae.atomic_io import atomic_folder, read_json
from smae.config import Section, check
from smae.data.loader.augment import Augment
from smae.errors import ConfigError, DataError, NonFiniteError
from smae.eval.features import Pool
from smae.eval.probes.finetune import Classifier
from smae.eval.probes.linear import LinearClassifier
from smae.models.encoders import Encoder, encoders
from smae.skeleton import LAYOUTS, Layout
from smae.train.checkpoint import load_weights, not_finite, weights_of
from smae.train.config import part_of

VERSION = 2
_REMEDY = "write it again with smae export-encoder (a head: smae eval)"


class Joints(Section):
    """The joints that the weights know, in order."""

    name: str
    joints: tuple[str, ...]


class Head(Section):
    """The classifier on top of the encoder: which kind, and what its outputs mean."""

    kind: Literal["linear", "finetune"]
    classes: tuple[str, ...] = Field(min_length=1)
    names: tuple[str, ...] = Field((), description="the classes as people read them; none: their ids alone")
    hidden: int = Field(0, ge=0, description="width of the hidden layer of a finetune head")
    pool: Pool = Field("mean", description="how a linear head's features are pooled")

    @model_validator(mode="after")
    def _named(self) -> Head:
        if self.names and len(self.names) != len(self.classes):
            raise ValueError(f"names: expected one of each of {len(self.classes)} classes, found {len(self.names)}")
        return self


class Prepared(Section):
    """How the recordings were made into clips, so that new ones are made alike."""

    source: str = "ntu"
    mode: Literal["reference", "exact"] = "reference"
    strict: bool = False
    max_range: float = Field(20.0, gt=0)
    frames: int | None = None


class Stated(Section):
    """What ``config.json`` states."""

    version: int
    encoder: dict[str, Any]
    augment: Augment
    layout: Joints
    head: Head | None = None
    prepared: Prepared = Prepared()
    origin: dict[str, Any] = Field(default_factory=dict, description="where the weights come from, for people")
    sha256: str


@dataclass(frozen=True)
class Travelled:
    """What a folder held, ready to use on the CPU and in evaluation mode.

    Attributes:
        model: the encoder, or with a head the classifier, whose forward takes a ``Batch`` and returns logits [B, K].
        encoder: the encoder itself.
        layout: its joints.
        stated: what the folder says of it.
    """

    model: nn.Module = field(repr=False)
    encoder: Encoder = field(repr=False)
    layout: Layout
    stated: Stated


def write_weights(
    to: Path,
    model: nn.Module,
    *,
    encoder: Mapping[str, Any],
    augment: Augment,
    layout: Layout,
    head: Head | None = None,
    prepared: Prepared = Prepared(),  # noqa: B008  (frozen)
    origin: Mapping[str, Any],
    card: str = "",
    overwrite: bool = False,
) -> Path:
    """Write a folder of weights in one rename and return it.

    Args:
        to: the folder.
        model: an encoder, or with ``head`` a classifier.
        encoder: the encoder's settings, name included.
        augment: how its clips were cropped, resized and varied.
        layout: its joints.
        head: what the classifier is.
        prepared: how recordings became clips.
        origin: where the weights come from.
        card: text of ``README.md``; none is written when empty.
        overwrite: replace what is there.

    Raises:
        ConfigError: something is at ``to``.
        NonFiniteError: a weight is NaN or infinite; nothing is written.
    """
    if to.exists() and not overwrite:
        raise ConfigError(f"{to}: something is there already: name another folder, or add --overwrite")
    weights = weights_of(model)
    if bad := not_finite(weights):
        raise NonFiniteError(f"{', '.join(bad[:3])}: not finite, so nothing was written")
    data = save(weights)
    stated = Stated(
        version=VERSION,
        encoder=dict(encoder),
        augment=augment,
        layout=Joints(name=layout.name, joints=layout.joints),
        head=head,
        prepared=prepared,
        origin=dict(origin),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    text = json.dumps(stated.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
    with atomic_folder(to) as partial:
        for name, content in (
            ("model.safetensors", data),
            ("config.json", text.encode()),
            ("README.md", card.encode()),
        ):
            if content:
                (partial / name).write_bytes(content)
    return to


def read_weights(folder: Path) -> Travelled:
    """Return what a folder of weights holds, checked.

    Raises:
        DataError: a file is missing or changed, another version wrote it, or weights, frames or joints are not those
            that it states or that this smae knows; the message says what differs.
    """
    values = read_json(folder / "config.json", what="weights", remedy=_REMEDY)
    if values.get("version") != VERSION:
        raise DataError(
            f"{folder}: weights format {values.get('version')!r}, this smae reads {VERSION}: "
            "export again, or use the smae that wrote it"
        )
    try:
        stated = check(Stated, values, where="")
        settings = part_of("encoder", stated.encoder)
        layout = LAYOUTS.get(stated.layout.name)
        _check_joints(stated.layout, layout)
        encoder = encoders.get(settings.name)(settings, frames=stated.augment.frames, layout=layout)
    except ConfigError as error:
        raise DataError(f"{folder / 'config.json'}: {error}") from None
    model = build_model(encoder, stated.head)
    load_weights(model, _read_tensors(folder / "model.safetensors", stated.sha256), where=str(folder))
    encoder.register_forward_pre_hook(_check_shape)
    return Travelled(model.eval(), encoder, layout, stated)


def build_model(encoder: Encoder, head: Head | None) -> nn.Module:
    """Return an encoder under a fresh head, or as it is without one."""
    if head is None:
        return encoder
    if head.kind == "linear":
        return LinearClassifier(encoder, classes=len(head.classes), pool=head.pool)
    return Classifier(encoder, classes=len(head.classes), hidden=head.hidden, dropout=0.0)


def load_encoder(folder: Path, *, layout: str | None = None, frames: int | None = None) -> Encoder:
    """Return the encoder of a folder, on the CPU, in evaluation mode.

    It takes joints float32 [N, frames, V, 3] in metres, one item a body, and returns features [N, tokens, D]; joints of
    another shape are a ``DataError``.

    Args:
        folder: what ``smae export-encoder`` wrote.
        layout, frames: what the caller has, where that should be checked.

    Raises:
        DataError: see ``read_weights``; or layout or frames are others than the caller's.
    """
    found = read_weights(folder)
    theirs = {"layout": found.layout.name, "frames": found.stated.augment.frames}
    mine = {"layout": layout, "frames": frames}
    differs = [f"{key} {theirs[key]} there, {mine[key]} here" for key in mine if mine[key] not in (None, theirs[key])]
    if differs:
        raise DataError(f"{folder}: {'; '.join(differs)}: give clips such as the encoder was trained on")
    return found.encoder


def _check_joints(there: Joints, here: Layout) -> None:
    if len(there.joints) != len(here):
        raise ConfigError(f"layout {here.name}: {len(there.joints)} joints there, {len(here)} here")
    for number, (theirs, mine) in enumerate(zip(there.joints, here.joints, strict=True)):
        if theirs != mine:
            raise ConfigError(f"layout {here.name}: joint {number} is '{theirs}' there, '{mine}' here")


def _check_shape(encoder: nn.Module, arguments: tuple[Any, ...]) -> None:
    assert isinstance(encoder, Encoder)
    grid = encoder.grid
    wanted, found = (grid.times * grid.patch, grid.joints, grid.channels), tuple(arguments[0].shape)
    if len(found) != 4 or found[1:] != wanted:
        raise DataError(
            f"this encoder takes joints [N, {', '.join(map(str, wanted))}] (frames, joints, coordinates), found "
            f"{list(found)}: resize clips to its frames, and prepare them in its layout"
        )


def _read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise DataError(f"{path}: missing, or not a regular file: {_REMEDY}")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"{path}: contents differ from the SHA-256 that config.json states: {_REMEDY}")
    try:
        tensors = load(data)
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path}: {error}: {_REMEDY}") from None
    if bad := not_finite(tensors):
        raise DataError(f"{path}: {', '.join(bad[:3])}: not finite: {_REMEDY}")
    return tensors
