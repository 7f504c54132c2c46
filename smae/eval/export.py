"""Trained encoders: loaded from a run, and exported as folders that need neither run nor store.

``model.safetensors`` holds the weights, ``config.json`` the settings and the SHA-256 of the
weights, ``README.md`` the model card. The folder of a head, which stays with its run, has no card.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, model_validator
from safetensors.torch import save
from torch import nn

from smae import interrupts, progress
from smae.atomic_io import atomic_folder, check_output, read_json
from smae.config import Section, check, merge, nested, renamed
from smae.data.clean import MAX_FRAMES
from smae.data.loader.augment import Augment
from smae.data.raw.recording import MAX_RANGE
from smae.data.store import Store
from smae.errors import ConfigError, DataError, NonFiniteError
from smae.eval.model_card import model_card
from smae.eval.probes.finetune import Classifier
from smae.eval.probes.linear import LinearClassifier
from smae.eval.results import choose, read_results
from smae.models.encoders import Encoder, encoders
from smae.skeleton import Layout, layout_from_json, layout_json
from smae.train.checkpoint import (
    Checkpoint,
    check_weights,
    cpu_state_dict,
    encoder_sha256,
    load_checkpoint,
    load_latest,
    load_weights,
    max_file_bytes,
    non_finite,
    read_tensors,
    resize_positions,
)
from smae.train.config import (
    MAX_BATCH,
    Pool,
    RunConfig,
    build_config,
    build_objective,
    outline,
    plugin_config,
)
from smae.train.objectives import Objective
from smae.train.run_folder import Run, find_checkpoint, is_packaged, stores_of, weights_folder

logger = logging.getLogger(__name__)

VERSION = 2
_REMEDY = "write it again with smae export-encoder (a head: smae eval)"
_FILES = {"model.safetensors", "config.json", "README.md", "decoder.safetensors"}


class JointsConfig(Section):
    """Joint layout of the encoder: its name, and the joints in order."""

    name: str
    joints: tuple[str, ...]
    skeleton: dict[str, Any] | None = Field(None, description="definition of a layout that is not built in")
    missing: tuple[str, ...] = Field((), description="joints that all recordings of its training lacked")


class HeadConfig(Section):
    """Classification head: its kind, and the meaning of its outputs."""

    kind: Literal["linear", "finetune"]
    classes: tuple[str, ...] = Field(min_length=1)
    names: tuple[str, ...] = Field((), description="readable class names; empty: ids alone")
    hidden: int = Field(0, ge=0, le=MAX_BATCH, description="width of the hidden layer of a finetune head")
    pool: Pool = Field("mean", description="pooling of the features of a linear head")

    @model_validator(mode="after")
    def _check_names(self) -> HeadConfig:
        if self.names and len(self.names) != len(self.classes):
            raise ValueError(f"names: expected {len(self.classes)}, one for each class, found {len(self.names)}")
        return self


class PreparationConfig(Section):
    """How the recordings became clips; ``smae.data.store.preparation`` gives the values."""

    source: str = "ntu"
    mode: Literal["reference", "exact"] = "reference"
    strict: bool = False
    max_range: float = Field(MAX_RANGE, gt=0)
    frames: int | None = Field(None, ge=1, le=MAX_FRAMES)
    unit: Literal["m", "cm", "mm"] | None = None
    clip_frames: tuple[int, int] | None = Field(
        None, description="median and largest number of frames of the clips; none where they were resampled"
    )


def prepared_like(about: Mapping[str, Any]) -> PreparationConfig:
    """Return how the data of a run were prepared, by its ``run.json``, checked."""
    values = about["store"].get("prepared", {"mode": about["store"]["mode"]})
    try:
        return check(PreparationConfig, values, where="store.prepared")
    except ConfigError as error:
        raise DataError(f"run.json: {error}") from None


class EncoderConfig(Section):
    """Content of ``config.json``."""

    version: int
    encoder: dict[str, Any]
    augment: Augment
    layout: JointsConfig
    head: HeadConfig | None = None
    prepared: PreparationConfig = PreparationConfig()
    origin: dict[str, Any] = Field(default_factory=dict, description="provenance, for people")
    sha256: str


@dataclass(frozen=True)
class LoadedEncoder:
    """An exported folder, loaded on the CPU in evaluation mode.

    Attributes:
        model: the encoder; with a head the classifier, from a ``Batch`` to logits [B, K].
        encoder: the encoder.
        layout: its joint layout.
        config: content of ``config.json``.
    """

    model: nn.Module = field(repr=False)
    encoder: Encoder = field(repr=False)
    layout: Layout
    config: EncoderConfig


def write_weights(
    to: Path,
    model: nn.Module,
    *,
    encoder: Mapping[str, Any],
    augment: Augment,
    layout: Layout,
    head: HeadConfig | None = None,
    prepared: PreparationConfig = PreparationConfig(),  # noqa: B008  (frozen)
    missing: Sequence[str] = (),
    origin: Mapping[str, Any],
    card: str = "",
    half: bool = False,
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> Path:
    """Write a folder of weights in one rename, replacing an earlier one; return it.

    Args:
        to: the folder.
        model: an encoder, or with ``head`` a classifier.
        encoder: settings of the encoder, its name included.
        augment, layout, head, prepared, origin: see ``EncoderConfig``.
        missing: joints that all recordings of its training lacked.
        card: text of ``README.md``; if empty, none is written.
        half: write the weights as float16; they are read as float32.
        files: more files, by name.

    Raises:
        NonFiniteError: a weight is NaN or infinite; nothing is written.
    """
    weights = cpu_state_dict(model)
    if half:
        weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    if bad := non_finite(weights):
        raise NonFiniteError(f"{', '.join(bad[:3])}: not finite, so nothing was written")
    data = save(weights)
    config = EncoderConfig(
        version=VERSION,
        encoder=dict(encoder),
        augment=augment,
        layout=JointsConfig(name=layout.name, joints=layout.joints, missing=tuple(missing), **layout_json(layout)),
        head=head,
        prepared=prepared,
        origin=dict(origin),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    text = json.dumps(config.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
    with atomic_folder(to) as partial:
        for name, content in {"model.safetensors": data, **files}.items():
            (partial / name).write_bytes(content)
        (partial / "config.json").write_text(text, encoding="utf-8")
        if card:
            (partial / "README.md").write_text(card, encoding="utf-8")
    return to


def read_weights(given: Path | str) -> LoadedEncoder:
    """Load a folder of weights, or packaged ones by their name, checked.

    Raises:
        DataError: nothing is there, a file is missing or changed, another version wrote it, or
            weights, frames or joints are not those of its config or of this smae; the message
            names the difference.
    """
    folder = weights_folder(given)
    values = read_json(folder / "config.json", what="weights", remedy=_REMEDY)
    if values.get("version") != VERSION:
        raise DataError(
            f"{folder}: weights format {values.get('version')!r}, this smae reads {VERSION}: "
            "export again, or use the smae that wrote it"
        )
    try:
        config = check(EncoderConfig, values, where="")
        settings = plugin_config("encoder", config.encoder)
        layout = layout_from_json(config.layout.name, config.layout.skeleton)
        _check_joints(config.layout, layout)

        def build() -> tuple[Encoder, nn.Module]:
            encoder = encoders.get(settings.name)(settings, frames=config.augment.frames, layout=layout)
            return encoder, _with_head(encoder, config.head)

        # First without memory: config.json may claim any size.
        _, sketch = outline(build)
    except ConfigError as error:
        raise DataError(f"{folder / 'config.json'}: {error}") from None
    tensors = read_tensors(folder / "model.safetensors", config.sha256, remedy=_REMEDY)
    check_weights(sketch, tensors, where=str(folder))
    encoder, model = build()
    load_weights(model, tensors, where=str(folder))
    encoder.register_forward_pre_hook(_check_shape)
    return LoadedEncoder(model.eval(), encoder, layout, config)


def _with_head(encoder: Encoder, head: HeadConfig | None) -> nn.Module:
    if head is None:
        return encoder
    if head.kind == "linear":
        return LinearClassifier(encoder, classes=len(head.classes), pool=head.pool)
    return Classifier(encoder, classes=len(head.classes), hidden=head.hidden, dropout=0.0)


def load_encoder(path: Path | str, *, layout: str | None = None, frames: int | None = None) -> Encoder:
    """Load an exported encoder on the CPU, in evaluation mode.

    It maps joints float32 [N, frames, V, 3] in metres, one item for each body, to features
    [N, tokens, D]; joints of another shape are a ``DataError``.

    Args:
        path: a folder written by ``smae export-encoder``, or ``open-small``, which comes with smae.
        layout: name of the joint layout of your clips, to be checked.
        frames: number of frames of your clips, to be checked.

    Raises:
        DataError: no usable folder, or another layout or number of frames than yours.
    """
    loaded = read_weights(path)
    augment = loaded.config.augment
    for key, there, here in (("layout", loaded.layout.name, layout), ("frames", augment.frames, frames)):
        if here not in (None, there):
            raise DataError(f"{path}: {key} {there} there, {here} here: give clips like those of its training")
    return loaded.encoder


def read_exported(folder: Path | str) -> tuple[LoadedEncoder, dict[str, Any]]:
    """Return an exported encoder, and settings under which it can be evaluated.

    The settings are those of its run for probes, seed and protocol, where it names them.

    Raises:
        DataError: no usable folder, or one of a head.
    """
    loaded = read_weights(folder)
    if loaded.config.head is not None and not is_packaged(folder):
        raise DataError(f"{folder}: a head of smae eval: name its run, or a folder of smae export-encoder")
    config = loaded.config.model_dump(mode="json")
    # Objective, masking and decoder are not needed, and their plug-ins need not be installed.
    keys = ("seed", "protocol", "linear", "knn", "finetune", "scratch", "selection")
    known = {key: value for key, value in loaded.config.origin.get("config", {}).items() if key in keys}
    return loaded, {**known, "encoder": config["encoder"], "augment": config["augment"]}


def with_frames(encoder: nn.Module, settings: Mapping[str, Any], *, frames: int, layout: Layout) -> Encoder:
    """Return an encoder of these settings for clips of ``frames`` frames, its positions over time resized."""
    config = plugin_config("encoder", settings)
    other = encoders.get(config.name)(config, frames=frames, layout=layout)
    load_weights(other, resize_positions(other, cpu_state_dict(encoder)), where=config.name)
    return other.eval()


def _check_joints(there: JointsConfig, here: Layout) -> None:
    if len(there.joints) != len(here):
        raise ConfigError(f"layout {here.name}: {len(there.joints)} joints there, {len(here)} here")
    for number, (theirs, mine) in enumerate(zip(there.joints, here.joints, strict=True)):
        if theirs != mine:
            raise ConfigError(f"layout {here.name}: joint {number} is '{theirs}' there, '{mine}' here")


def _check_shape(encoder: nn.Module, arguments: tuple[Any, ...]) -> None:
    assert isinstance(encoder, Encoder)
    if len(arguments) > 1 and arguments[1] is not None and arguments[0].ndim == 3:
        return  # tokens, of clips whose recordings lack joints
    grid, found = encoder.grid, list(arguments[0].shape)
    expected = [grid.times * grid.patch, grid.joints, grid.channels]
    if len(found) != 4 or found[1:] != expected:
        raise DataError(
            f"this encoder takes joints [N, {', '.join(map(str, expected))}] (frames, joints, "
            f"coordinates), found {found}: resize clips to its frames, and prepare them in its layout"
        )


def is_encoder(path: Path) -> bool:
    """Return whether ``path`` is an exported encoder, and holds nothing else."""
    if not path.is_dir() or not {entry.name for entry in path.iterdir()} <= _FILES:
        return False
    try:
        values = read_json(path / "config.json", what="weights", remedy=_REMEDY)
    except DataError:
        return False
    return {"version", "encoder", "layout", "sha256"} <= set(values) and values.get("head") is None


@renamed(to="out")
@interrupts.deferred("run it again")
def export_encoder(run: Path | str | None, out: Path | str, *, overwrite: bool = False) -> Path:
    """Write the encoder of a run as a folder of weights, config and model card; return the folder.

    Args:
        run: a run folder or one of its checkpoints; None for the newest run.
        out: the folder to write.
        overwrite: replace an earlier exported encoder; anything else is never replaced.

    Raises:
        DataError: no run, or no usable checkpoint.
        ConfigError: ``out`` must not be replaced, or is inside the run.
    """
    source, step = find_checkpoint(run)
    out, about = Path(out), source.describe()
    check_output(
        out, kind="an exported encoder without records", is_kind=is_encoder, overwrite=overwrite, inputs=[source.path]
    )
    with progress.task("export-encoder"):
        layout = layout_from_json(about["store"]["layout"], about["store"].get("skeleton"))
        config, objective, checkpoint = load_trained(source, layout, step=step)
        done = {key: checkpoint.state[key] for key in ("step", "steps")}
        weights = encoder_sha256(objective.encoder)
        of_these = [one for one in read_results(source) if one.first["checkpoint"]["sha256"] == weights]
        results = choose(of_these or read_results(source))
        interrupts.check()
        origin = {key: about.get(key) for key in ("recipe", "versions")}
        # The path of the store means nothing on another machine.
        store = {key: value for key, value in about["store"].items() if key not in ("path", "prepared")}
        if "stores" in store:
            own = store["stores"]
            store["stores"] = [{key: one[key] for key in one if key != "path"} for one in own]
        masked = [one.get("masked", ()) for one in stores_of(about["store"]).values()]
        steps = f"step {done['step']:,} of {done['steps']:,}"
        return write_weights(
            out,
            objective.encoder,
            encoder=config.encoder.model_dump(mode="json"),
            augment=config.augment,
            layout=layout,
            prepared=prepared_like(about),
            missing=[joint for joint in layout.joints if all(joint in one for one in masked)],
            origin={**origin, **done, "run": source.path.name, "store": store, "config": about["config"]},
            card=model_card(
                name=source.path.name,
                about=about,
                config=config.model_dump(mode="json"),
                steps=steps,
                sha256=weights,
                results=results,
            ),
        )


def load_objective(
    run: Run, store: Store, *, step: Path | None = None, settings: Mapping[str, Any] | None = None
) -> tuple[RunConfig, Objective]:
    """Return the settings of a run, the protocol the store's own, and its trained objective, on the CPU.

    Raises:
        DataError: the store has another joint layout, or there is no usable checkpoint.
    """
    run.check_layout(store)
    config, objective, _ = load_trained(run, store.layout, step=step, settings=settings)
    own = stores_of(run.describe()["store"]).get(store.fingerprint, {})
    return config.model_copy(update={"protocol": own.get("protocol", config.protocol)}), objective


def load_trained(
    run: Run, layout: Layout, *, step: Path | None = None, settings: Mapping[str, Any] | None = None
) -> tuple[RunConfig, Objective, Checkpoint]:
    """Return the settings of a run, its trained objective, on the CPU, and the checkpoint it is from.

    ``step`` is the folder of a checkpoint, by default the newest usable one; ``settings``, nested,
    replace those of the run.

    Raises:
        DataError: the checkpoint has another joint layout, or there is no usable one.
    """
    config = build_config(merge(run.describe()["config"], nested(settings or {})))
    # First without memory: run.json may claim any size.
    sketch = outline(lambda: build_objective(config, layout))
    read, where = (load_checkpoint, step) if step is not None else (load_latest, run.checkpoints)
    checkpoint = read(where, max_bytes=max_file_bytes(sketch))
    trained = checkpoint.state.get("identity", {}).get("layout", layout.name)
    if trained != layout.name:
        raise DataError(
            f"{checkpoint.path} was trained on layout {trained}, the run on {layout.name}: it is from another run"
        )
    check_weights(sketch, checkpoint.average or checkpoint.model, where=str(checkpoint.path))
    objective = build_objective(config, layout)
    load_weights(objective, checkpoint.average or checkpoint.model, where=str(checkpoint.path))
    objective.eval()
    average = ", moving average of its weights" if checkpoint.average else ""
    done = f"step {checkpoint.state['step']} of {checkpoint.state['steps']}"
    logger.info(f"{run.path}: {config.objective.name} after {done}{average}")
    return config, objective, checkpoint
