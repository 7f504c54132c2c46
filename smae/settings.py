"""Recipes, names of settings and probes, and their first check, without torch or plug-ins.

``settings.json`` holds every built-in setting with its type, bounds and description, as JSON
schemas of the sections (``python -m smae.train.config`` prints it; a test compares both). The
models check the same again, and more, when they are built.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import Field, create_model

from smae.config import Section, Settings, check, merge, read_toml
from smae.errors import ConfigError, UnknownNameError
from smae.registry import nearest, plugins

RECIPES = Path(__file__).with_name("recipes")
"""Folder of the packaged recipes."""
SCHEMAS = Path(__file__).with_name("settings.json")
DEFAULT_NAMES = {"objective": "skeletonmae", "masking": "spatial-temporal", "encoder": "vit", "decoder": "self"}

LABEL_SHARES = {f"semi-{percent}": percent / 100 for percent in (1, 2, 5, 10)}
"""Semi-supervised probes, and the share of train labels that each uses."""
MODE_GROUPS: dict[str, tuple[str, ...]] = {
    "semi": tuple(LABEL_SHARES),
    "all": ("linear", "knn", "finetune", *LABEL_SHARES, "scratch"),
}
"""Names of several probes."""
PROBE_SECTIONS = {"linear": "linear", "knn": "knn", "scratch": "scratch"} | dict.fromkeys(
    ("finetune", "transfer", *LABEL_SHARES), "finetune"
)
"""Section of the settings of each built-in probe."""
HEADS = ("linear", "finetune", "transfer")
"""Probes whose classifier is kept for ``smae predict``, of the first seed."""
TABLES = (".npz", ".zarr", ".csv", ".parquet")
"""Endings of files of features."""
FREE_SECTIONS = ("augment", "selection", "seed", "protocol")
"""Settings that every probe uses, beside ``train.workers``."""


@dataclass(frozen=True)
class Recipe:
    """Description of a packaged recipe.

    Attributes:
        about: its purpose.
        aims: the published figure it aims at, if any.
        cost: expected cost on one GPU and the source of that figure, if any.
        ran: this project's own result with command and machine, or "not run here".
    """

    about: str = ""
    aims: str = ""
    cost: str = ""
    ran: str = "not run here"


_DESCRIPTION = tuple(field.name for field in fields(Recipe))
"""Keys of a recipe that are no settings."""


def recipes() -> dict[str, Recipe]:
    """Return the descriptions of the packaged recipes by name."""
    found = {}
    for name in recipe_names():
        settings = _read_recipe(name)
        found[name] = Recipe(**{key: settings[key] for key in _DESCRIPTION if key in settings})
    return found


def recipe_names() -> list[str]:
    """Return the names of the packaged recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def _read_recipe(name: str) -> Settings:
    if name.endswith(".toml"):
        return read_toml(Path(name))
    known = recipe_names()
    if name not in known:
        raise UnknownNameError(
            f"unknown recipe '{name}': expected a .toml file or one of {', '.join(known)}{nearest(name, known)}"
        )
    return read_toml(RECIPES / f"{name}.toml")


def load_recipe(name: str, *, depth: int = 0) -> Settings:
    """Return the settings of a recipe, by name or path, merged over those that it ``extends``."""
    if depth > 8:
        raise ConfigError(f"recipe '{name}': recipes extend one another in a circle, or more than 8 deep")
    settings = _read_recipe(name)
    for key in _DESCRIPTION:
        settings.pop(key, None)
    base = settings.pop("extends", None)
    if base is not None and not isinstance(base, str):
        raise ConfigError(f"recipe '{name}': extends: expected the name of a recipe, found {base!r}")
    if base:
        return merge(load_recipe(base, depth=depth + 1), settings)
    # Default names come first, so that settings without a name are known to belong to that plug-in.
    return merge({family: {"name": default} for family, default in DEFAULT_NAMES.items()}, settings)


@cache
def schemas() -> dict[str, Any]:
    """Return the schemas of all built-in settings: of a family of plug-ins one for each name."""
    found: dict[str, Any] = json.loads(SCHEMAS.read_text(encoding="utf-8"))
    return found


def setting_names() -> Iterator[str]:
    """Yield the dotted name of every built-in setting."""
    for name, schema in schemas().items():
        of_each = schema.values() if name in DEFAULT_NAMES else [schema]
        for key in dict.fromkeys(key for one in of_each for key in one.get("properties", {"": {}})):
            yield f"{name}.{key}".rstrip(".")


def setting_values() -> Iterator[str]:
    """Yield ``name=value`` of built-in settings with named values: plug-ins, choices, yes, no."""
    for section, schema in schemas().items():
        of_each = schema.values() if section in DEFAULT_NAMES else [schema]
        if section in DEFAULT_NAMES:
            yield from (f"{section}.name={name}" for name in schema)
        for key, one in ((key, one) for each in of_each for key, one in each.get("properties", {}).items()):
            values = one.get("enum", ["true", "false"] * (one.get("type") == "boolean"))
            yield from (f"{section}.{key}={value}" for value in values)


def check_settings(recipe: str, given: Mapping[str, Any]) -> None:
    """Refuse wrong settings of a pre-training, as far as they are known without building anything.

    Args:
        recipe: name, ``.toml`` path, or ``auto``, for which a setting must fit some recipe.
        given: nested settings, merged over the recipe's.

    Raises:
        ConfigError: wrong or unknown settings, plug-ins or recipes, all of them listed.
    """
    if recipe != "auto":
        _check(merge(load_recipe(recipe), given))
        return
    try:
        _check(merge(load_recipe("cpu"), given))
    except ConfigError:
        _check(merge(load_recipe("base"), given))


def _check(values: Settings) -> None:
    problems = []
    anything: dict[str, Any] = dict.fromkeys(schemas(), (Any, None))
    top = create_model("Top", __base__=Section, **anything)
    unknown = {key: value for key, value in values.items() if key not in schemas()}
    for name, value in [*values.items()] if not unknown else [*values.items(), ("", unknown)]:
        try:
            if name == "":
                check(top, unknown, where="")
            elif name in schemas():
                _check_section(name, value)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))


def _check_section(name: str, value: Any) -> None:
    schema = schemas()[name]
    if name in DEFAULT_NAMES:
        if not isinstance(value, Mapping):
            return  # build_config words it
        plugin = value.get("name", DEFAULT_NAMES[name])
        if plugin not in schema:
            _check_declared(name, str(plugin))
            return
        schema = schema[plugin]
    if "properties" not in schema:
        one: dict[str, Any] = {name: (_type(schema), None)}
        check(create_model("Top", __base__=Section, **one), {name: value}, where="")
    elif isinstance(value, Mapping):
        inner: dict[str, Any] = {key: (_type(one), None) for key, one in schema["properties"].items()}
        check(create_model(name, __base__=Section, **inner), value, where=name)


def _check_declared(family: str, name: str) -> None:
    declared = [entry.name for entry in plugins() if entry.group == f"smae.{family}s"]
    if "smae.train.config" in sys.modules:
        # A program may have registered its own.
        declared += sys.modules["smae.train.config"].FAMILIES[family].names()
    known = sorted({*schemas()[family], *declared})
    if name not in known:
        raise UnknownNameError(f"unknown {family} '{name}': expected one of {', '.join(known)}{nearest(name, known)}")


_BOUNDS = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}
_TYPES = {"integer": int, "number": float, "boolean": bool, "string": str}


def _type(schema: Mapping[str, Any]) -> Any:
    """Return the Python type of a schema, with its bounds; ``Any`` for what it has no words for."""
    if "anyOf" in schema:
        return Union[tuple(_type(one) for one in schema["anyOf"])]  # noqa: UP007  (their number is not known)
    if "enum" in schema or "const" in schema:
        return Literal[tuple(schema.get("enum", [schema.get("const")]))]
    if "prefixItems" in schema:
        return tuple[tuple(_type(one) for one in schema["prefixItems"])]  # type: ignore[misc]
    if schema.get("type") == "array":
        return tuple[_type(schema.get("items", {})), ...]  # type: ignore[misc]
    kind: Any = _TYPES.get(str(schema.get("type")), Any)
    bounds: Any = {word: schema[key] for key, word in _BOUNDS.items() if key in schema}
    return Annotated[kind, Field(**bounds)] if bounds else kind


def expand_modes(modes: Iterable[str], *, known: Iterable[str] = ()) -> list[str]:
    """Return probes with groups (``semi``, ``all``) replaced by members, all ``known``."""
    names = [*known, *MODE_GROUPS]
    for mode in modes:
        if known and mode not in names:
            listed = f"expected one of {', '.join(names)}{nearest(mode, names)}"
            raise UnknownNameError(f"unknown probe '{mode}': {listed}")
    return list(dict.fromkeys(name for mode in modes for name in MODE_GROUPS.get(mode, (mode,))))


def probe_names() -> list[str]:
    """Return the names of all probes, built in or installed, and of their groups."""
    declared = [entry.name for entry in plugins() if entry.group == "smae.probes"]
    if "smae.eval.probes" in sys.modules:
        # A program may have registered its own.
        declared += sys.modules["smae.eval.probes"].probes.names()
    return list(dict.fromkeys([*PROBE_SECTIONS, *declared, *MODE_GROUPS]))


def check_effect(settings: Mapping[str, Any], modes: Sequence[str], *, baselines: bool = True) -> None:
    """Refuse settings that no probe reads: a ``ConfigError`` lists them and what is read."""
    sections = {*PROBE_SECTIONS.values()}
    used = {PROBE_SECTIONS[mode] for mode in modes if mode in PROBE_SECTIONS}
    if any(mode not in PROBE_SECTIONS for mode in modes):
        used |= sections  # a plug-in may read them all
    if baselines:
        used.add("linear")  # of raw coordinates
    effective = [*FREE_SECTIONS, *sorted(used), "train.workers"]
    problems = []
    for key, value in settings.items():
        names = [f"{key}.{name}" for name in value] if isinstance(value, Mapping) else [key]
        for name in names:
            if key in sections - used:
                problems.append(f"{name}: no effect on --probe {', '.join(modes)}: leave it out, or add a probe")
            elif key not in effective and name not in effective:
                problems.append(
                    f"{name}: no effect on an evaluation, which reads {', '.join(effective)}"
                    f"{nearest(key, effective)}; what the encoder was trained with stays as it is"
                )
    if problems:
        raise ConfigError("\n".join(problems))


def check_probe_settings(settings: Mapping[str, Any], modes: Sequence[str]) -> None:
    """Refuse settings that no probe reads, and wrong ones: a ``ConfigError`` lists all."""
    check_effect(settings, expand_modes(modes))
    _check(dict(settings))


def check_table(out: Path) -> None:
    """Raise a ``ConfigError`` for a file of features whose ending names no format that can be written here."""
    if out.suffix not in TABLES:
        raise ConfigError(f"--out {out}: expected a name that ends in {', '.join(TABLES)}")
    if out.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ConfigError("a .parquet file needs pyarrow: pip install 'smae[parquet]', or name a .csv, .npz or .zarr")
