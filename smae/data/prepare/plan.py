"""The plan of one preparation: which samples, in which order, under which settings; fixed before any work is done.

Two plans are equal exactly when they lead to the same store, so a plan says nothing of place, time or machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from smae._version import __version__
from smae.data.raw.labels import load_class_names
from smae.data.raw.source import SOURCES, Inventory, Refused, Sample, Source
from smae.data.store.clip_table import ClipFacts
from smae.data.store.manifest import STORE_VERSION
from smae.errors import BadRecording, ConfigError, DataError
from smae.skeleton import Layout

TASK_BYTES = 88 * 2**20
"""Raw bytes of a task: as NTU's text, some 40,000 to 60,000 rows, which fit one shard."""
TASK_SAMPLES = 4096
_SHOWN = 10


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of a store, besides the samples.

    Attributes:
        source: registered source of the raw data.
        mode: ``reference`` or ``exact``.
        frames: resample every clip to so many frames; None keeps them.
        strict: refuse what is merely tolerated (NaN), and stop at the first bad file.
        strict_names: count badly named ``.skeleton`` files as bad.
        max_range: metres; coordinates beyond are refused.
        missing_list: leave out the samples that published results leave out.
        codec: how joints are kept: ``float32`` or ``int16``.
    """

    source: str = "ntu"
    mode: str = "reference"
    frames: int | None = None
    strict: bool = False
    strict_names: bool = False
    max_range: float = 20.0
    missing_list: bool = True
    codec: str = "float32"


@dataclass(frozen=True)
class Task:
    """Samples whose clips share a shard; what one worker does in one go.

    Attributes:
        number: 0-based, in store order.
        samples: neighbours in the plan.
    """

    number: int
    samples: tuple[Sample, ...]

    @property
    def size(self) -> int:
        """Unpacked bytes that will be read."""
        return sum(sample.size for sample in self.samples)


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Attributes:
        settings: see ``Settings``.
        layout: joint layout of the samples.
        dataset: name of the data set.
        classes: sorted action ids of all samples; label = index.
        samples: what will be read, in store order.
        facts: what is known of each of them.
        splits: those that the data bring: for each, the names that train (1) and test (2).
        refused: found, but not read.
        excluded: how many samples are left out by rule, by reason.
        duplicates: second copies of samples, with the same bytes.
        ignored: files that are no samples.
        names: of classes in words, by id, where the data or the user told them.
    """

    settings: Settings
    layout: Layout
    dataset: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    facts: tuple[ClipFacts, ...]
    splits: Mapping[str, Mapping[str, int]]
    refused: tuple[Refused, ...]
    excluded: dict[str, int]
    duplicates: int
    ignored: int
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def found(self) -> int:
        """Files found, second copies and files that are no samples included."""
        return len(self.samples) + len(self.refused) + sum(self.excluded.values()) + self.duplicates + self.ignored

    @property
    def total_bytes(self) -> int:
        """Unpacked bytes that will be read."""
        return sum(sample.size for sample in self.samples)

    def tasks(self) -> list[Task]:
        """Return the samples cut into tasks of about 90 MB, in order: the same plan, the same tasks."""
        cut: list[list[Sample]] = []
        size = 0
        for sample in self.samples:
            if not cut or size + sample.size > TASK_BYTES or len(cut[-1]) == TASK_SAMPLES:
                cut.append([])
                size = 0
            cut[-1].append(sample)
            size += sample.size
        return [Task(number, tuple(samples)) for number, samples in enumerate(cut)]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values, software versions included: other versions could write other bytes."""
        return {
            "settings": asdict(self.settings),
            "versions": {"smae": __version__, "store": str(STORE_VERSION)}
            | {name: version(name) for name in ("blake3", "numpy", "numba", "numcodecs", "zarr")},
            "dataset": self.dataset,
            "classes": list(self.classes),
            "inputs": self.digest,
            "samples": {sample.name: [sample.path, sample.member, sample.size] for sample in self.samples},
            "tasks": [len(task.samples) for task in self.tasks()],
            "refused": [asdict(refused) for refused in self.refused],
            "excluded": self.excluded,
            "duplicates": self.duplicates,
            "ignored": self.ignored,
            "names": dict(self.names),
        }

    def encode(self) -> bytes:
        """Return the plan as the bytes of ``plan.json``."""
        return json.dumps(self.to_json(), sort_keys=True).encode("ascii")

    def origin(self) -> dict[str, Any]:
        """Return what the store keeps of the plan: the settings, the digest of the samples, names of classes if any."""
        named = {"names": dict(self.names)} if self.names else {}
        return asdict(self.settings) | {"inputs": self.digest} | named

    @cached_property
    def digest(self) -> str:
        """The SHA-256, hex, of the samples' sizes, of what is known of them, and of their splits."""
        lines = [f"{sample.size} {fact}" for sample, fact in zip(self.samples, self.facts, strict=True)]
        lines += [f"{name} {sorted(roles.items())}" for name, roles in sorted(self.splits.items())]
        return hashlib.sha256("\n".join(lines).encode("ascii", "backslashreplace")).hexdigest()


def make_plan(raw: Path, settings: Settings, *, names: Path | None = None) -> Plan:
    """Look at everything under ``raw`` and decide what to do with it.

    Reads nothing but the names of classes, and samples that occur twice, to see whether their bytes are the same.

    Args:
        raw: folder or zip of recordings.
        settings: what decides the store's bytes besides them.
        names: file of class names; ``classes.txt`` in ``raw``, if it is there, when left out.

    Raises:
        ConfigError: ``raw`` is missing or cannot be listed, its data were cleaned in another mode, or the names of
            classes cannot be read.
        UnknownNameError: no such source.
        DataError: no sample at all, a damaged archive, or one name with two different contents.
    """
    source = SOURCES.get(settings.source)()
    if source.cleaned == "reference" and settings.mode != "reference":
        raise ConfigError(f"data of source '{settings.source}' were cleaned before: leave --mode {settings.mode} out")
    inventory = source.discover(raw, strict_names=settings.strict_names)
    if not inventory.samples:
        raise DataError(
            f"no recordings in {raw}: looked for {inventory.looked_for}, found {inventory.ignored} other files "
            f"and {len(inventory.refused)} that cannot be read{_first_refused(inventory)}"
        )
    samples, copies = _without_copies(raw, source, inventory.samples)
    left_out = source.missing() if settings.missing_list else frozenset()
    kept = tuple(sample for sample in samples if sample.name not in left_out)
    if not kept:
        raise DataError(f"all {len(samples)} recordings in {raw} are on the list of missing skeletons: nothing is left")
    facts = [source.facts(sample.name) for sample in kept]
    excluded = len(samples) - len(kept)
    classes = tuple(sorted({fact.action for fact in facts}))
    return Plan(
        settings=replace(settings, mode=source.cleaned or settings.mode),
        layout=source.layout,
        dataset=source.dataset(facts),
        classes=classes,
        samples=kept,
        facts=tuple(facts),
        splits=source.splits(),
        refused=inventory.refused,
        excluded={"missing-list": excluded} if excluded else {},
        duplicates=copies,
        ignored=inventory.ignored,
        names=load_class_names(raw, classes, given=names),
    )


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return what differs between two plans as JSON values, one line each, long lists cut short."""
    lines: list[str] = []
    for section in ("settings", "versions"):
        before, after = old.get(section, {}), new[section]
        lines += [
            f"{section}: {key} was {before.get(key)!r}, now {after.get(key)!r}"
            for key in sorted({*before, *after})
            if before.get(key) != after.get(key)
        ]
    before, after = old.get("samples", {}), new["samples"]
    changes = [f"gone: {name}" for name in sorted(set(before) - set(after))]
    changes += [f"new: {name}" for name in sorted(set(after) - set(before))]
    changes += [
        f"changed: {name} was {before[name]}, now {after[name]}"
        for name in sorted(set(before) & set(after))
        if before[name] != after[name]
    ]
    lines += changes[:_SHOWN] + ([f"and {len(changes) - _SHOWN} more samples"] if len(changes) > _SHOWN else [])
    for key in ("inputs", "tasks", "refused", "excluded", "duplicates", "ignored", "names"):
        if old.get(key) != new[key]:
            lines.append(f"{key}: was {_brief(old.get(key))}, now {_brief(new[key])}")
    return lines


def _without_copies(raw: Path, source: Source, samples: tuple[Sample, ...]) -> tuple[list[Sample], int]:
    """Keep the first of each name; all copies must have the same bytes."""
    kept: list[Sample] = []
    reader = source.reader(raw)
    try:
        for name, group in groupby(samples, key=lambda sample: sample.name):
            copies = list(group)
            if len(copies) > 1:
                _check_copies(name, copies, [_digest(reader.read, sample) for sample in copies])
            kept.append(copies[0])
    finally:
        reader.close()
    return kept, len(samples) - len(kept)


def _digest(read: Any, sample: Sample) -> str:
    try:
        return hashlib.sha256(read(sample)).hexdigest()
    except BadRecording as error:
        raise DataError(f"{sample.where}: a second copy of a sample, and it {error.message}; remove one") from error


def _check_copies(name: str, copies: list[Sample], digests: list[str]) -> None:
    if len(set(digests)) > 1:
        listed = "; ".join(
            f"{copy.where} (SHA-256 {digest[:12]})" for copy, digest in zip(copies, digests, strict=True)
        )
        raise DataError(f"sample {name} occurs with different contents: {listed}; remove the wrong one")


def _first_refused(inventory: Inventory) -> str:
    return f" (such as {inventory.refused[0]})" if inventory.refused else ""


def _brief(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) else str(value)[:200]
