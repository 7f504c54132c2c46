"""Settings: frozen, typed sections that reject unknown keys; recipes, names of settings and probes.

Each component owns its section, a subclass of ``Section`` (or ``PluginConfig``, for plug-ins chosen
by name). Values come from class defaults, then a recipe, then ``--set section.key=value``; later
ones win. Errors name settings as the user spells them.

``settings.json`` holds every built-in setting with its type, bounds and description, as JSON
schemas of the sections (``python -m smae.train.config`` prints it; a test compares both), so that
names are known without torch or plug-ins. The models check the same again, and more, when they are
built.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from smae.errors import ConfigError, UnknownNameError
from smae.registry import nearest, plugins

MAX_BYTES = 1 << 20
"""Largest settings file that is read; a larger one is a mistake or an attack."""

Settings = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)


def renamed(**names: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that accepts arguments' earlier names, for one version, with a note.

    Args:
        names: earlier name -> new name.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> T:
            for old in names.keys() & options.keys():
                logger.warning("%s: %s is now %s", function.__name__, old, names[old])
                options[names[old]] = options.pop(old)
            return function(*args, **options)

        return call

    return decorate


class Section(BaseModel):
    """Base of all sections: immutable, without unknown keys, NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PluginConfig(Section):
    """Base of the sections of plug-ins, chosen by ``name`` from a registry."""

    name: str = Field("", description="which plug-in of the family")


S = TypeVar("S", bound=Section)


def check(section: type[S], values: Mapping[str, Any], *, where: str) -> S:
    """Return a ``section`` with these values.

    Args:
        section: the class that owns the settings.
        values: the user's values.
        where: dotted prefix of the section, for messages (``"optim"``).

    Raises:
        ConfigError: one line per wrong setting, with its dotted name, what was expected and found.
    """
    try:
        return section.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(section, where, item) for item in error.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from None


def _explain(section: type[Section], where: str, item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    key = ".".join([where, *path] if where else path)
    if item["type"] == "extra_forbidden":
        known = section.model_fields
        for part in path[:-1]:
            inner = known[part].annotation
            known = inner.model_fields if isinstance(inner, type) and issubclass(inner, BaseModel) else {}
        return f"{key}: no such setting; expected one of {', '.join(known)}{nearest(path[-1], known)}"
    return f"{key}: {item['msg'][0].lower()}{item['msg'][1:]}; found {item['input']!r}"


def read_toml(path: Path) -> Settings:
    """Return the settings of a TOML file; a ``ConfigError`` if it is no such file or over 1 MiB."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: {len(raw)} bytes; a settings file has at most {MAX_BYTES}")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply for a settings file") from None


def parse_set(text: str) -> Settings:
    """Parse ``section.key=value`` into nested settings; the value is TOML, bare words are text."""
    key, equals, value = text.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(re.fullmatch(r"[A-Za-z_][\w-]*", part) for part in path):
        raise ConfigError(f"--set {text}: expected section.key=value, for example --set optim.lr=1e-3")
    value = value.strip()
    try:
        return nested({".".join(path): tomllib.loads(f"value = {value}")["value"]})
    except (tomllib.TOMLDecodeError, RecursionError):
        return nested({".".join(path): value})


def parse_sets(texts: Iterable[str]) -> Settings:
    """Parse several ``--set`` options into one mapping; later ones win. Raises as ``parse_set``."""
    return merge(*map(parse_set, texts))


def as_settings(settings: Mapping[str, Any] | Section | None) -> Settings:
    """Return settings that are given as a mapping, nested or dotted, or as a config object.

    A config object stands for all its settings, defaults included; in a mapping, so does a section.
    """
    if isinstance(settings, Section):
        return settings.model_dump()
    return nested(settings or {})


def nested(settings: Mapping[str, Any]) -> Settings:
    """Return settings with dotted keys nested: ``{"a.b": 1}`` becomes ``{"a": {"b": 1}}``."""
    layers = []
    for key, value in settings.items():
        if isinstance(value, Section):
            value = value.model_dump()
        if isinstance(value, Mapping):
            value = nested(value)
        for part in reversed(key.split(".")):
            value = {part: value}
        layers.append(value)
    return merge(*layers)


def merge(*layers: Mapping[str, Any]) -> Settings:
    """Merge nested settings; later layers win.

    A section that names another plug-in than the layer below replaces it, because the settings of
    one plug-in mean nothing to another.
    """
    merged: Settings = {}
    for layer in layers:
        for key, value in layer.items():
            below = merged.get(key)
            if isinstance(value, Mapping) and isinstance(below, Mapping):
                renamed = "name" in value and value["name"] != below.get("name", value["name"])
                merged[key] = dict(value) if renamed else merge(below, value)
            else:
                merged[key] = dict(value) if isinstance(value, Mapping) else value
    return merged


def as_toml(config: Section) -> str:
    """Return settings as a recipe in TOML that holds every setting, each with its description."""
    sections = {name: value for name, value in config if isinstance(value, Section)}
    lines = list(_toml_lines(config, without=sections))
    for name, section in sections.items():
        lines += ["", f"[{name}]", *_toml_lines(section)]
    return "\n".join(lines) + "\n"


def _toml_lines(section: Section, *, without: Iterable[str] = ()) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        if name in without:
            continue
        # TOML has no null: a setting without a value becomes a comment.
        line, value = f"# {name}: not set", getattr(section, name)
        if value is not None:
            # JSON spells strings, numbers, booleans and their lists as TOML does.
            line = f"{name} = {json.dumps(value, ensure_ascii=False)}"
        if field.description:
            line += f"  # {field.description}"
        yield line


# Recipes, and the names of settings and probes, for all that needs no torch.

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


@functools.cache
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
