"""Settings: frozen, typed sections that reject unknown keys, with errors in the user's spelling.

Each component owns its section, a subclass of ``Section`` (or ``PluginConfig``, for plug-ins chosen
by name). Values come from class defaults, then a recipe, then ``--set section.key=value``; later
ones win.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from smae.errors import ConfigError
from smae.registry import nearest

MAX_BYTES = 1 << 20
"""Largest settings file that is read; a larger one is a mistake or an attack."""

Settings = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)


def renamed(**names: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that accepts arguments under their earlier names, for one version, with a note.

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
    """Return the settings of a TOML file.

    Raises:
        ConfigError: unreadable, over 1 MiB, not TOML, or nested too deeply.
    """
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
    """Parse ``section.key=value`` into nested settings; the value is TOML, bare words are text.

    Raises:
        ConfigError: no ``=``, or a malformed key.
    """
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
    """Parse several ``--set`` options into one mapping; later ones win."""
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
