"""One sample of a raw folder: where it lies, and under which settings its store was made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from smae.data.prepare.plan import Settings
from smae.data.raw.source import Sample, Source
from smae.data.store.store import Store
from smae.errors import BadRecording, ConfigError, UnknownNameError
from smae.registry import nearest


def settings_of(store: Store, mode: str | None = None) -> Settings:
    """Return the settings that a store was prepared with, as far as it tells; another ``mode`` where one is given."""
    known = {key: store.attributes.origin[key] for key in Settings.__annotations__ if key in store.attributes.origin}
    return replace(Settings(**known), mode=mode or store.mode)


def find_sample(source: Source, raw: Path, name: str | None) -> tuple[Sample, list[str]]:
    """Return the sample called ``name`` under ``raw``, and where second copies lie; without a name, the file itself.

    Raises:
        ConfigError: no name, and ``raw`` holds many.
        BadRecording: it is there, but not to be read.
        UnknownNameError: no such sample.
    """
    if name is None:
        if source.cleaned is not None:
            raise ConfigError(f"{raw} holds many clips: say which, for example train-000000")
        return Sample(raw.name.partition(".")[0], raw.name, "", raw.stat().st_size), []
    found = source.discover(raw)
    copies = [sample for sample in found.samples if sample.name == name]
    if copies:
        return copies[0], [sample.where for sample in copies[1:]]
    for refused in found.refused:
        if name in refused.path:
            raise BadRecording(refused.code, f"{ascii(refused.path)[1:-1]} is not read: {refused.message}")
    close = nearest(name, [sample.name for sample in found.samples])
    raise UnknownNameError(
        f"no recording '{name}' in {raw}: expected one of {len(found.samples)} names, "
        f"from {found.looked_for or 'this source'}{close}"
    )
