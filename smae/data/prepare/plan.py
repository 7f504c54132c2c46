"""The plan of a preparation: samples in store order, settings, tasks; made before any work.

Two plans are equal exactly when they give the same store: no paths, times or machine names.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

from smae import __version__, interrupts
from smae.data.clean import Mode
from smae.data.prepare import PrepareSettings
from smae.data.raw.labels import load_class_names
from smae.data.raw.source import Inventory, Refused, Sample, SampleReader, Source, check_unit, make_source
from smae.data.store.clips import UNLABELLED, ClipFacts
from smae.data.store.format import STORE_VERSION
from smae.data.store.own_splits import splits_of_file
from smae.errors import BadRecording, ConfigError, DataError
from smae.skeleton import Layout, load_layout

logger = logging.getLogger(__name__)

TASK_BYTES = 88 * 2**20
"""Raw bytes in a task: as NTU text, 40,000 to 60,000 rows, which fit one shard."""
TASK_SAMPLES = 4096
_MAX_LISTED = 10


@dataclass(frozen=True)
class Task:
    """The unit of work: consecutive samples of the plan, whose clips share a shard.

    Attributes:
        number: 0-based, in store order.
        samples: in store order.
    """

    number: int
    samples: tuple[Sample, ...]

    @property
    def size(self) -> int:
        """Unpacked bytes to read."""
        return sum(sample.size for sample in self.samples)


@dataclass(frozen=True)
class Plan:
    """Samples and settings of a preparation.

    Attributes:
        settings: see ``PrepareSettings``.
        layout: joint layout of the samples.
        dataset: name of the data set.
        classes: sorted action ids of all samples; label = index.
        samples: to be read, in store order.
        facts: subject, camera, action and so on of each sample.
        splits: splits that come with the data: name -> sample name -> 1 (train) or 2 (test).
        refused: files found but not read.
        left_out: samples that are left out by rule before they are read, with the rule as code.
        duplicates: number of second copies of samples, with the same bytes.
        ignored: number of files that are not samples.
        names: class names by action id, where data or user provide them.
    """

    settings: PrepareSettings
    layout: Layout
    dataset: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    facts: tuple[ClipFacts, ...]
    splits: Mapping[str, Mapping[str, int]]
    refused: tuple[Refused, ...]
    left_out: tuple[Refused, ...]
    duplicates: int
    ignored: int
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def excluded(self) -> dict[str, int]:
        """Number of samples left out by rule, by rule."""
        return dict(Counter(refused.code for refused in self.left_out))

    @property
    def found(self) -> int:
        """Number of files found, second copies and files that are not samples included."""
        return len(self.samples) + len(self.refused) + len(self.left_out) + self.duplicates + self.ignored

    def tasks(self) -> list[Task]:
        """Return the samples in tasks of about 90 MB, in order: equal plans have equal tasks."""
        cut: list[list[Sample]] = []
        size = 0
        for sample in self.samples:
            if not cut or size + sample.size > TASK_BYTES or len(cut[-1]) == TASK_SAMPLES:
                cut.append([])
                size = 0
            cut[-1].append(sample)
            size += sample.size
        return [Task(number, tuple(samples)) for number, samples in enumerate(cut)]

    def encode(self) -> bytes:
        """Return the content of ``plan.json``."""
        # With software versions, because others could write other bytes.
        content = {
            "settings": self.settings.recorded(),
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
        return json.dumps(content, sort_keys=True).encode("ascii")

    def origin(self) -> dict[str, Any]:
        """Return what the store records: settings, digest of the samples, class names if any."""
        origin = self.settings.recorded() | {"inputs": self.digest}
        if self.names:
            origin["names"] = dict(self.names)
        return origin

    @cached_property
    def digest(self) -> str:
        """SHA-256, hex, of the samples' sizes, facts and splits."""
        lines = [f"{sample.size} {fact}" for sample, fact in zip(self.samples, self.facts, strict=True)]
        lines += [f"{name} {sorted(roles.items())}" for name, roles in sorted(self.splits.items())]
        return hashlib.sha256("\n".join(lines).encode("ascii", "backslashreplace")).hexdigest()


def make_plan(raw: Path, settings: PrepareSettings, *, names: Path | None = None, split: Path | None = None) -> Plan:
    """List everything under ``raw`` and plan what to do with it.

    Reads only the class names, and samples that occur twice, to compare their bytes.

    Args:
        raw: folder or zip of recordings.
        settings: see ``PrepareSettings``.
        names: file of class names; by default ``classes.txt`` in ``raw`` if there is one.
        split: file that lists clips by part, see ``own_splits.read_lists``.

    Raises:
        ConfigError: ``raw`` is missing or cannot be listed, its data were cleaned in another mode,
            or the class names cannot be read.
        UnknownNameError: no such source.
        DataError: no sample at all, a damaged archive, or one name with two different contents.
        Interrupted: a signal arrived.
    """
    given = None
    if settings.layout is not None:
        given = load_layout(settings.layout)
        # Recorded by its name: paths mean nothing in a store.
        settings = replace(settings, layout=given.name)
    source = make_source(settings.source, given)
    if source.cleaned == "reference" and settings.mode != "reference":
        raise ConfigError(f"data of source '{settings.source}' were cleaned before: leave --mode {settings.mode} out")
    inventory = source.discover(raw, strict_names=settings.strict_names)
    interrupts.check()
    _check_samples_found(raw, inventory)
    if settings.unit is None:
        check_unit(source, raw, inventory.samples)
    samples = _without_copies(raw, source, inventory.samples)
    missing: frozenset[str] = frozenset()
    if settings.missing_list:
        missing = source.missing()
    kept = tuple(sample for sample in samples if sample.name not in missing)
    left_out = tuple(
        Refused(sample.where, "missing-list", "on the official list of missing skeletons", sample.size)
        for sample in samples
        if sample.name in missing
    )
    if not kept:
        raise DataError(f"all {len(samples)} recordings in {raw} are on the list of missing skeletons: nothing is left")
    facts = [source.facts(sample.name) for sample in kept]
    unlabelled = sum(fact.action == UNLABELLED for fact in facts)
    if unlabelled:
        logger.info(
            f"{unlabelled:,} recordings have names of their own, which carry no label and no subject: their class "
            f"is '{UNLABELLED}' (names as S001C002P003R002A013 carry both; see also smae split)"
        )
    interrupts.check()
    classes = tuple(sorted({fact.action for fact in facts}))
    return Plan(
        settings=replace(settings, mode=cast("Mode", source.cleaned or settings.mode)),
        layout=source.layout,
        dataset=source.dataset(facts),
        classes=classes,
        samples=kept,
        facts=tuple(facts),
        splits=_splits(source, samples, split),
        refused=inventory.refused,
        left_out=left_out,
        duplicates=len(inventory.samples) - len(samples),
        ignored=inventory.ignored,
        names=load_class_names(raw, classes, given=names),
    )


def _splits(source: Source, samples: Sequence[Sample], file: Path | None) -> dict[str, Mapping[str, int]]:
    """Return the splits of the data and those of a file, which must have other names."""
    splits = dict(source.splits())
    if file is None:
        return splits
    added = splits_of_file(file, (sample.name for sample in samples))
    taken = sorted(added.keys() & splits.keys())
    if taken:
        raise ConfigError(f"{file}: the data have a split {', '.join(taken)} of their own: name yours otherwise")
    return splits | added


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the differences between two decoded plans, one line each, long lists cut short."""
    lines: list[str] = []
    for section in ("settings", "versions"):
        lines += changed_values(old.get(section, {}), new[section], prefix=f"{section}: ")
    before, after = old.get("samples", {}), new["samples"]
    changes = [f"gone: {name}" for name in sorted(set(before) - set(after))]
    changes += [f"new: {name}" for name in sorted(set(after) - set(before))]
    changes += [
        f"changed: {name} was {before[name]}, now {after[name]}"
        for name in sorted(set(before) & set(after))
        if before[name] != after[name]
    ]
    lines += changes[:_MAX_LISTED]
    if len(changes) > _MAX_LISTED:
        lines.append(f"and {len(changes) - _MAX_LISTED} more samples")
    for key in ("inputs", "tasks", "refused", "excluded", "duplicates", "ignored", "names"):
        if old.get(key) != new[key]:
            lines.append(f"{key}: was {_brief(old.get(key))}, now {_brief(new[key])}")
    return lines


def changed_values(old: Mapping[str, Any], new: Mapping[str, Any], *, prefix: str = "") -> list[str]:
    """Return a line for each key whose value differs."""
    keys = sorted({*old, *new})
    return [f"{prefix}{key} was {old.get(key)!r}, now {new.get(key)!r}" for key in keys if old.get(key) != new.get(key)]


def _check_samples_found(raw: Path, inventory: Inventory) -> None:
    if inventory.samples:
        return
    refused = f"{len(inventory.refused)} that cannot be read"
    if inventory.refused:
        refused += f" (for example {inventory.refused[0]})"
    raise DataError(
        f"no recordings in {raw}: looked for {inventory.looked_for}, found {inventory.ignored} other "
        f"files and {refused}; files of other kinds need --source (smae prepare --help lists them)"
    )


def _without_copies(raw: Path, source: Source, samples: Sequence[Sample]) -> list[Sample]:
    """Keep the first sample of each name; all copies must have the same bytes."""
    kept: list[Sample] = []
    with closing(source.reader(raw)) as reader:
        for name, group in groupby(samples, key=attrgetter("name")):
            interrupts.check()
            copies = list(group)
            if len(copies) > 1:
                _check_copies(name, copies, reader)
            kept.append(copies[0])
    return kept


def _check_copies(name: str, copies: list[Sample], reader: SampleReader) -> None:
    digests = {}
    for copy in copies:
        try:
            digests[copy.where] = hashlib.sha256(reader.read(copy)).hexdigest()
        except BadRecording as error:
            raise DataError(f"{copy.where}: a second copy of a sample, and it {error.message}; remove one") from error
    if len(set(digests.values())) > 1:
        listed = "; ".join(f"{where} (SHA-256 {digest[:12]})" for where, digest in digests.items())
        raise DataError(f"sample {name} occurs with different contents: {listed}; remove the wrong one")


def _brief(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return str(value)[:200]
