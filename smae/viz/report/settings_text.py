"""A run's settings as people write them: a recipe in TOML that holds every setting, each with what it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from smae.config import Section
from smae.train.config import RunConfig


def as_toml(config: RunConfig) -> str:
    """Return all settings of a run as a recipe, which ``smae pretrain --recipe FILE.toml`` takes as it is."""
    sections = {name: value for name, value in config if isinstance(value, Section)}
    lines = list(_settings(config, without=sections))
    for name, section in sections.items():
        lines += ["", f"[{name}]", *_settings(section)]
    return "\n".join(lines) + "\n"


def _settings(section: Section, *, without: Any = ()) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        if name in without:
            continue
        value = getattr(section, name)
        note = f"  # {field.description}" if field.description else ""
        # TOML knows no nothing: a setting that has no value is shown, and left out.
        yield f"# {name}: not set{note}" if value is None else f"{name} = {_value(value)}{note}"


def _value(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)  # texts, numbers and truth values are spelled alike in TOML
