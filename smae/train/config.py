"""The settings of a run: one section per part, recipes that hold differences only, plug-ins chosen by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializeAsAny

from smae.config import Part, Section, Settings, check, merge, overrides, read_toml
from smae.data.loader.augment import Augment
from smae.data.loader.sampler import RowMode
from smae.errors import ConfigError, UnknownNameError
from smae.jit import KernelChoice
from smae.models.decoders import decoders
from smae.models.encoders import encoders
from smae.models.masking import maskings
from smae.registry import Registry, nearest
from smae.train.objectives import objectives

FAMILIES: dict[str, Registry[Any]] = {
    "objective": objectives, "masking": maskings, "encoder": encoders, "decoder": decoders,
}  # fmt: skip
_TOLD = ("about", "aims", "cost", "ran")
"""Keys of a recipe that are no settings: see ``Recipe``."""

Pool = Literal["mean", "joints", "tokens"]
"""How an encoder's tokens become one vector: see ``Linear.pool``."""

DEFAULT_NAMES = {"objective": "skeletonmae", "masking": "spatial-temporal", "encoder": "vit", "decoder": "self"}


class Optim(Section):
    """AdamW with warm-up and cosine, as MAMP pre-trains."""

    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    min_lr: float = Field(5e-4, ge=0, description="learning rate at the end of the cosine")
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    weight_decay: float = Field(0.05, ge=0, description="none on biases, norms and other 1-D parameters")
    warmup: float = Field(20, ge=0, description="epochs of linear warm-up")
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: no clipping")


class Train(Section):
    """How long, in what portions, how safely."""

    epochs: int = Field(400, ge=1)
    max_steps: int = Field(0, ge=0, description="stop after so many steps even if epochs are left; 0: no limit")
    batch: int = Field(128, ge=1, description="clips in a step, of all ranks together")
    accumulate: int = Field(1, ge=1, description="portions a step's batch is cut into, to save memory")
    precision: Literal["auto", "float32", "bf16"] = Field("auto", description="auto: bf16 on CUDA, float32 elsewhere")
    compile: bool | Literal["auto"] = Field(
        False, description="compile transformer blocks: minutes at the start, other rounding; auto: on CUDA"
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="moving average of the weights: share of it that stays at a step; 0: none is kept"
    )
    workers: int = Field(1, ge=0, description="threads that prepare batches; changes speed alone")
    rows: RowMode = Field(
        "auto", description="where clips are kept: device, resident (in RAM), streaming, or auto; changes speed alone"
    )
    kernel: KernelChoice = Field(
        "torch",
        description="how a GPU makes batches: torch, in several passes; auto or triton: one kernel, the same to "
        "rounding and not yet measured to be faster; on the CPU it is one kernel anyway",
    )
    save_seconds: float = Field(60, ge=0, description="a checkpoint at the first epoch's end after so many seconds")
    wandb: bool = Field(False, description="curves for Weights & Biases too, offline unless WANDB_MODE says otherwise")
    log_every: int = Field(10, ge=1, description="steps between progress reports")


class Linear(Section):
    """The linear probe: BatchNorm without affine, then one linear map, on frozen features (MAMP's recipe)."""

    epochs: int = Field(100, ge=1)
    batch: int = Field(256, ge=2)
    lr: float = Field(0.1, gt=0, description="SGD's learning rate, cosine to 0")
    momentum: float = Field(0.9, ge=0, lt=1)
    views: int = Field(
        100, ge=0, description="differently augmented passes over the train clips, used in turn; 0: one plain pass"
    )
    test_views: int = Field(
        0, ge=0, description="testing: augmented views of a clip whose probabilities are averaged; 0: one, plain"
    )
    pool: Pool = Field(
        "mean",
        description="features: mean over joints and time, as papers have it; joints: mean over time, joints side by "
        "side; tokens: all side by side",
    )


class Knn(Section):
    """The nearest-neighbour probe: L2-normalised features, cosine."""

    k: int = Field(1, ge=1, description="neighbours that vote")
    pool: Pool = Field("mean", description="features: as in linear")


class Finetune(Section):
    """Fine-tuning of the whole encoder (MAMP's recipe)."""

    epochs: int = Field(100, ge=1)
    batch: int = Field(48, ge=2)
    lr: float = Field(3e-4, gt=0)
    min_lr: float = Field(1e-5, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup: float = Field(5, ge=0, description="epochs")
    layer_decay: float = Field(0.8, gt=0, le=1, description="learning rate of a block relative to the one above it")
    drop_path: float = Field(0.3, ge=0, lt=1)
    dropout: float = Field(0.3, ge=0, lt=1, description="before the head")
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    hidden: int = Field(2048, ge=1, description="width of the head's hidden layer")
    keep: float = Field(
        1.0, gt=0, le=1, description="training: share of tokens seen, drawn anew each time; fewer: faster, more varied"
    )
    test_views: int = Field(
        0, ge=0, description="testing: augmented views of a clip whose probabilities are averaged; 0: one, plain"
    )


class Scratch(Finetune):
    """Supervised training of the same net without pre-training: the fine-tune recipe, all layers at full rate."""

    layer_decay: float = Field(1.0, gt=0, le=1, description="as in finetune; untrained layers want the full rate")


class Selection(Section):
    """Which epochs of linear, finetune, semi, transfer and scratch are scored beside the last one."""

    also: tuple[Literal["best_val", "best_test"], ...] = Field(
        (), description="best_val: chosen on subjects carved out of train; best_test: chosen on test, so called"
    )
    val_subjects: float = Field(0.1, gt=0, lt=1, description="share of the train subjects kept for validation")


class RunConfig(Section):
    """Everything that makes a run what it is."""

    seed: int = Field(0, ge=0, lt=2**63)
    protocol: str = Field("xsub", description="split whose train part is used; test is never seen")
    augment: Augment = Augment()
    objective: SerializeAsAny[Part]
    masking: SerializeAsAny[Part]
    encoder: SerializeAsAny[Part]
    decoder: SerializeAsAny[Part]
    optim: Optim = Optim()
    train: Train = Train()
    linear: Linear = Linear()
    knn: Knn = Knn()
    finetune: Finetune = Finetune()
    scratch: Scratch = Scratch()
    selection: Selection = Selection()


def build_config(settings: Mapping[str, Any]) -> RunConfig:
    """Return the run's settings, defaults filled in.

    Raises:
        ConfigError: a wrong or unknown setting or plug-in name, all of them listed.
    """
    values = dict(settings)
    problems = []
    for family in FAMILIES:
        try:
            values[family] = part_of(family, values.get(family, {}))
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
    if config.augment.stream == "motion" and getattr(config.objective, "target", "") == "motion":
        raise ConfigError(
            "objective.target=motion asks for the next frame minus this one, which augment.stream=motion gives the "
            "encoder already: choose objective.target=coordinates (of the motion stream), or another stream"
        )
    return config


def part_of(family: str, section: Any) -> Part:
    """Return the settings of a plug-in, by its family and what was written of it.

    Raises:
        ConfigError: no section, an unknown plug-in, or a wrong setting.
    """
    if not isinstance(section, Mapping):
        raise ConfigError(f"{family}: expected a section with a name and its settings, found {section!r}")
    name = section.get("name", DEFAULT_NAMES[family])
    if not isinstance(name, str):
        raise ConfigError(f"{family}.name: expected text, found {name!r}")
    owner: type[Part] = FAMILIES[family].get(name).Config
    return check(owner, {**section, "name": name}, where=family)


@dataclass(frozen=True)
class Recipe:
    """What a packaged recipe says of itself.

    Attributes:
        about: what it is for.
        aims: the published figure that it aims at, or nothing.
        cost: what to expect on one GPU, and whence that is known, or nothing.
        ran: what came out when this project ran it, with command and machine; "not run here" until it has.
    """

    about: str = ""
    aims: str = ""
    cost: str = ""
    ran: str = "not run here"


def recipes() -> dict[str, Recipe]:
    """Return the packaged recipes and what each says of itself."""
    folder = files("smae.recipes")
    names = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    told = {name: _recipe_file(name) for name in names}
    return {name: Recipe(**{key: own[key] for key in _TOLD if key in own}) for name, own in told.items()}


def _recipe_file(name: str) -> Settings:
    if name.endswith(".toml"):
        return read_toml(Path(name))
    path = files("smae.recipes") / f"{name}.toml"
    if not path.is_file():
        known = sorted(
            e.name.removesuffix(".toml") for e in files("smae.recipes").iterdir() if e.name.endswith(".toml")
        )
        raise UnknownNameError(
            f"unknown recipe '{name}': expected a .toml file or one of {', '.join(known)}{nearest(name, known)}"
        )
    return read_toml(Path(str(path)))


def load_recipe(name: str, *, depth: int = 0) -> Settings:
    """Return a recipe's settings by packaged name or ``.toml`` path, those it ``extends`` laid below.

    Raises:
        ConfigError: unknown, unreadable, or a recipe that extends itself.
    """
    if depth > 8:
        raise ConfigError(f"recipe '{name}': recipes extend one another in a circle, or more than 8 deep")
    settings = _recipe_file(name)
    for key in _TOLD:
        settings.pop(key, None)
    base = settings.pop("extends", None)
    if base is not None and not isinstance(base, str):
        raise ConfigError(f"recipe '{name}': extends: expected the name of a recipe, found {base!r}")
    # The names lie lowest: settings laid over them without a name are known to be the default plug-in's.
    below = {family: {"name": plain} for family, plain in DEFAULT_NAMES.items()}
    return merge(load_recipe(base, depth=depth + 1) if base else below, settings)


def resolve(recipe: str, *, sets: Iterable[str] = (), flags: Mapping[str, Any] | None = None) -> RunConfig:
    """Return the settings of a recipe with ``--set`` options and dedicated flags laid on top.

    Raises:
        ConfigError: see ``build_config`` and ``load_recipe``.
    """
    return build_config(merge(load_recipe(recipe), overrides(sets), flags or {}))
