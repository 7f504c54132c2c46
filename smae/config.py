"""Sections of settings: frozen, typed, nothing unknown let in, and errors in the spelling people type.

Every part of smae owns its section, a subclass of ``Section`` (or ``Part``, where a plug-in can be chosen by name).
Settings come from class defaults, then a recipe file, then ``--set section.key=value``; later ones win.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from smae.errors import ConfigError
from smae.registry import nearest

MAX_BYTES = 1 << 20
"""No settings file is this large; a larger one is a mistake or an attack."""

Settings = dict[str, Any]


class Section(BaseModel):
    """Base of all sections: immutable, unknown keys refused, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Part(Section):
    """Base of the sections of plug-ins, which are chosen by ``name`` from a registry."""

    name: str = Field("", description="which plug-in of the family")


S = TypeVar("S", bound=Section)


def check(section: type[S], values: Mapping[str, Any], *, where: str) -> S:
    """Return ``section`` filled with ``values``.

    Args:
        section: the class that owns the settings.
        values: what the user wrote.
        where: dotted prefix of the section, for messages (``"optim"``).

    Raises:
        ConfigError: one line per wrong setting: its dotted name, what was expected, what was found.
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
        ConfigError: unreadable, over 1 MiB, not TOML (a key given twice included), or nested without end.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: {len(raw)} bytes; a settings file has at most {MAX_BYTES}")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply for a settings file") from None


def parse_set(text: str) -> Settings:
    """Turn ``section.key=value`` into nested settings; the value is read as TOML, bare words as text.

    Raises:
        ConfigError: no ``=``, or an empty or odd key.
    """
    key, equals, value = text.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(re.fullmatch(r"[A-Za-z_][\w-]*", part) for part in path):
        raise ConfigError(f"--set {text}: expected section.key=value, for example --set optim.lr=1e-3")
    nested: Any = _value(value.strip())
    for part in reversed(path):
        nested = {part: nested}
    return dict(nested)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def merge(*layers: Mapping[str, Any]) -> Settings:
    """Lay settings over one another, later ones on top.

    A section that names another plug-in than the layer below starts afresh: settings of the old plug-in would mean
    nothing to the new one.
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


def overrides(sets: Iterable[str]) -> Settings:
    """Return the merged settings of several ``--set`` options.

    Raises:
        ConfigError: see ``parse_set``.
    """
    return merge(*(parse_set(text) for text in sets))


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
