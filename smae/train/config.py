"""The settings of a run, one section per component; recipes; and the models that settings name."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field, SerializeAsAny
from torch import Tensor, nn

from smae.config import (
    DEFAULT_NAMES,
    PluginConfig,
    Section,
    as_settings,
    check,
    load_recipe,
    merge,
    recipe_names,
)
from smae.data.loader.augment import Augment
from smae.data.loader.sampler import RowMode
from smae.errors import ConfigError
from smae.jit import KernelChoice
from smae.models import CompiledBlock
from smae.models.encoders import Encoder, decoders, encoders
from smae.models.masking import maskings
from smae.registry import Registry
from smae.skeleton import Layout
from smae.train.objectives import ModelBuilder, Objective, objectives

if TYPE_CHECKING:
    from smae.data.store.joined import TrainingStore

logger = logging.getLogger(__name__)
T = TypeVar("T")
FAMILIES: dict[str, Registry[Any]] = {
    "objective": objectives,
    "masking": maskings,
    "encoder": encoders,
    "decoder": decoders,
}
Pool = Literal["mean", "joints", "tokens", "class"]
"""How an encoder's tokens become one vector: see ``Linear.pool``."""

MAX_BATCH = 2**16
"""Largest batch, and largest other size that takes memory: more is a mistake or an attack."""


class Optim(Section):
    """AdamW with warm-up and cosine, as in MAMP."""

    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    min_lr: float = Field(5e-4, ge=0, description="learning rate at the end of the cosine")
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    weight_decay: float = Field(0.05, ge=0, description="not on 1-D parameters (biases, norms)")
    warmup: float = Field(20, ge=0, description="epochs of linear warm-up")
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: no clipping")


class Train(Section):
    """Length, batches, precision and checkpoints."""

    epochs: int = Field(400, ge=1)
    max_steps: int = Field(0, ge=0, description="limit on steps; 0: none")
    batch: int = Field(128, ge=1, le=MAX_BATCH, description="clips in a step, of all ranks together")
    accumulate: int = Field(1, ge=1, le=MAX_BATCH, description="micro-batches a step, to save memory")
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="auto: bf16 where the device multiplies it, else float32"
    )
    compile: bool | Literal["auto"] = Field(
        False, description="compile transformer blocks; takes minutes, rounds differently; auto: on CUDA"
    )
    ema: float = Field(0.0, ge=0, lt=1, description="decay of a moving average (EMA) of the weights; 0: none")
    workers: int = Field(1, ge=0, le=1024, description="threads that prepare batches; changes speed only")
    rows: RowMode = Field(
        "auto", description="where clips are kept: device, resident (RAM), streaming, auto; changes speed only"
    )
    kernel: KernelChoice = Field(
        "torch",
        description="how a GPU makes batches: torch, in several passes; auto or triton: one kernel, equal up to "
        "rounding, not yet measured to be faster; the CPU always uses one kernel",
    )
    save_seconds: float = Field(
        60, ge=0, description="seconds between checkpoints; one is written at the end of an epoch"
    )
    positives: Literal["clip", "cameras"] = Field(
        "clip",
        description="what an objective compares: views of one recording (clip), or the second and further views from "
        "other cameras' recordings of the same act, by their names (cameras)",
    )
    batches: Literal["mixed", "subject"] = Field(
        "mixed",
        description="clips of a batch: of all subjects, or of as few as can be (subject), so that "
        "an objective that compares clips learns movements and not who moves",
    )
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (), description="share of each of several stores in an epoch; empty: all clips"
    )
    wandb: bool = Field(False, description="Weights & Biases, offline unless WANDB_MODE is set")
    log_every: int = Field(10, ge=1, description="steps between progress reports")


class Linear(Section):
    """Linear probe on frozen features: BatchNorm without affine, one linear layer (as in MAMP)."""

    epochs: int = Field(100, ge=1)
    batch: int = Field(256, ge=2, le=MAX_BATCH)
    lr: float = Field(0.1, gt=0, description="SGD's learning rate, cosine to 0")
    momentum: float = Field(0.9, ge=0, lt=1)
    views: int = Field(100, ge=0, le=10_000, description="augmented passes over the train clips, cycled; 0: one plain")
    strength: float = Field(1.0, ge=0, le=4, description="factor on the limits of augmentation in those passes")
    test_views: int = Field(
        0, ge=0, le=10_000, description="augmented views of a test clip, probabilities averaged; 0: one, plain"
    )
    pool: Pool = Field(
        "mean",
        description="features: mean over joints and time, as in papers; joints: mean over time only; "
        "tokens: all concatenated; class: the class token, of an encoder that has one",
    )


class Knn(Section):
    """The nearest-neighbour probe: L2-normalised features, cosine."""

    k: int = Field(1, ge=1, le=MAX_BATCH, description="neighbours that vote")
    pool: Pool = Field("mean", description="features: as in linear")


class Finetune(Section):
    """Fine-tuning of the whole encoder (MAMP's recipe)."""

    epochs: int = Field(100, ge=1)
    batch: int = Field(48, ge=2, le=MAX_BATCH)
    lr: float = Field(3e-4, gt=0)
    min_lr: float = Field(1e-5, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup: float = Field(5, ge=0, description="epochs")
    layer_decay: float = Field(0.8, gt=0, le=1, description="learning rate relative to the block above")
    drop_path: float = Field(0.3, ge=0, lt=1)
    dropout: float = Field(0.3, ge=0, lt=1, description="before the head")
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    hidden: int = Field(2048, ge=1, le=MAX_BATCH, description="width of the head's hidden layer")
    keep: float = Field(1.0, gt=0, le=1, description="share of tokens seen in training, drawn anew each time")
    strength: float = Field(1.0, ge=0, le=4, description="factor on the limits of augmentation in training")
    test_views: int = Field(
        0, ge=0, le=10_000, description="augmented views of a test clip, probabilities averaged; 0: one, plain"
    )


class Scratch(Finetune):
    """Supervised training of the same net from random weights, without layer decay."""

    layer_decay: float = Field(1.0, gt=0, le=1, description="none: all layers are untrained")


class Selection(Section):
    """Epochs scored beside the last one, for linear, finetune, semi, transfer and scratch."""

    also: tuple[Literal["best_val", "best_test"], ...] = Field(
        (), description="best_val: best on held-out train subjects; best_test: best on test"
    )
    val_subjects: float = Field(0.1, gt=0, lt=1, description="share of train subjects held out")


class RunConfig(Section):
    """All settings of a run."""

    seed: int = Field(0, ge=0, lt=2**63)
    protocol: str = Field("xsub", description="split whose train part is used, never its test part")
    init: str = Field("", description="run, checkpoint or exported encoder to start the encoder's weights from")
    augment: Augment = Augment()
    objective: SerializeAsAny[PluginConfig]
    masking: SerializeAsAny[PluginConfig]
    encoder: SerializeAsAny[PluginConfig]
    decoder: SerializeAsAny[PluginConfig]
    optim: Optim = Optim()
    train: Train = Train()
    linear: Linear = Linear()
    knn: Knn = Knn()
    finetune: Finetune = Finetune()
    scratch: Scratch = Scratch()
    selection: Selection = Selection()


def build_config(settings: Mapping[str, Any]) -> RunConfig:
    """Return validated settings with defaults filled in.

    Raises:
        ConfigError: wrong or unknown settings or plug-in names, all of them listed.
    """
    values = dict(settings)
    problems = []
    for family in FAMILIES:
        try:
            values[family] = plugin_config(family, values.get(family, {}))
        except ConfigError as error:
            problems.append(str(error))
            values.pop(family, None)
    for name, field in RunConfig.model_fields.items():
        section = field.annotation
        if name in values and name not in FAMILIES and isinstance(section, type) and issubclass(section, Section):
            try:
                if not isinstance(values[name], Mapping):
                    raise ConfigError(f"{name}: expected a section such as [{name}], found {values[name]!r}")
                values[name] = check(section, values[name], where=name)
            except ConfigError as error:
                problems.append(str(error))
                del values[name]
    if problems:
        raise ConfigError("\n".join(problems))
    config = check(RunConfig, values, where="")
    stream = config.augment.stream
    if stream.endswith("motion") and getattr(config.objective, "target", "") == "motion":
        raise ConfigError(
            f"objective.target=motion asks for the next frame minus this one, which augment.stream={stream} gives the "
            "encoder already: choose objective.target=coordinates (of the motion stream), or another stream"
        )
    return config


def plugin_config(family: str, section: Any) -> PluginConfig:
    """Return the validated settings of the plug-in that a section names.

    Raises:
        ConfigError: not a section, an unknown plug-in, or a wrong setting.
    """
    if not isinstance(section, Mapping):
        raise ConfigError(f"{family}: expected a section with a name and its settings, found {section!r}")
    name = section.get("name", DEFAULT_NAMES[family])
    if not isinstance(name, str):
        raise ConfigError(f"{family}.name: expected text, found {name!r}")
    owner: type[PluginConfig] = FAMILIES[family].get(name).Config
    return check(owner, {**section, "name": name}, where=family)


def resolve(recipe: str, settings: Mapping[str, Any] | Section | None = None) -> RunConfig:
    """Return the settings of a recipe with others, nested or dotted, merged over them."""
    return build_config(merge(load_recipe(recipe), as_settings(settings)))


def choose_recipe(recipe: str, device: torch.device, store: TrainingStore, protocol: str) -> str:
    """Return the recipe; for ``auto`` that of the data set and protocol, as large as the device allows."""
    if recipe == "base" and device.type == "cpu":
        logger.info("the published size on a CPU: watch the time left; a sensible smaller recipe is --recipe cpu")
    if recipe != "auto":
        return recipe
    known = recipe_names()
    own = [name for name in store.protocols() if protocol in (name, name.partition("-")[2])]
    # The last one is of the data set as a whole: NTU-120 has NTU-60's protocols too.
    full = [f"skeletonmae-{name}" for name in reversed(own) if f"skeletonmae-{name}" in known]
    published = next(iter(full), "base")
    if device.type == "cuda":
        logger.info("the recipe of %s, %s: %s (others: smae recipes)", store.dataset, protocol, published)
        return published
    small = store.dataset if store.dataset in known else "cpu"
    logger.info("no GPU: taking the small recipe %s, which two cores can finish", small)
    logger.info("published size: --recipe %s; others: smae recipes", published)
    return small


def current_schemas() -> dict[str, Any]:
    """Return what ``settings.json`` holds: the schemas of all sections, of plug-ins one for each name."""
    whole = RunConfig.model_json_schema()
    found: dict[str, Any] = {}
    for name, schema in whole["properties"].items():
        reference = str(schema.get("$ref", "")).rpartition("/")[2]
        found[name] = _plain(whole["$defs"].get(reference, schema))
    builtin = {family: registry.builtin() for family, registry in FAMILIES.items()}
    for family, names in builtin.items():
        configs: dict[str, Any] = {name: FAMILIES[family].get(name).Config for name in names}
        found[family] = {name: _plain(config.model_json_schema()) for name, config in configs.items()}
    return found


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without its titles and descriptions of classes."""
    kept = {key: value for key, value in schema.items() if key not in ("title", "additionalProperties")}
    if "properties" in kept:
        return {"properties": {key: _plain(one) for key, one in kept["properties"].items()}}
    return kept


def compile_blocks(objective: nn.Module) -> None:
    """Compile an objective's transformer blocks in place with ``torch.compile``."""
    # Blocks rather than the whole model: they are alike, so one compilation serves all of them, and
    # random masking stays outside. Shapes are dynamic because the number of bodies changes from
    # step to step; CUDA graphs, which need a fixed one, do not pay.
    for module in objective.modules():
        if isinstance(module, CompiledBlock):
            module.compile(dynamic=True)


def model_builder(config: RunConfig, layout: Layout) -> ModelBuilder:
    """Return what objectives build encoder, decoder and masking with."""
    return ModelBuilder(layout, config.augment.frames, config.encoder, config.decoder, config.masking)


def build_objective(
    config: RunConfig,
    layout: Layout,
    *,
    weights: dict[str, Tensor] | None = None,
    decoder_weights: dict[str, Tensor] | None = None,
) -> Objective:
    """Return a newly initialised objective; its weights follow from the seed and ``weights``.

    Args:
        config: the run's settings.
        layout: joints of its clips.
        weights: by name, what the encoder, and a teacher made from it, start from.
        decoder_weights: what a decoder of their size starts from.

    Raises:
        DataError: ``weights`` do not fit the encoder.
    """
    torch.manual_seed(config.seed)
    builder = model_builder(config, layout)
    builder = replace(builder, weights=weights, decoder_weights=decoder_weights)
    return objectives.get(config.objective.name)(config.objective, builder)


def outline(build: Callable[[], T]) -> T:
    """Return what ``build`` makes, its weights without memory, to check its size first.

    A plug-in that cannot be built without memory is built as it is.
    """
    with suppress(NotImplementedError, RuntimeError, TypeError), torch.device("meta"):
        return build()
    return build()


def random_encoder(config: RunConfig, layout: Layout) -> Encoder:
    """Return the encoder with other random weights, the baseline of every result."""
    torch.manual_seed(config.seed + 1)
    return model_builder(config, layout).encoder()


if __name__ == "__main__":
    print(json.dumps(current_schemas(), indent=1))
