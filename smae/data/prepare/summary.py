"""What a preparation did: counts that add up, the quarantine list, and the exit code."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from smae.atomic_io import parse_json
from smae.data.prepare.plan import Plan
from smae.data.prepare.worker import SampleOutcome, TaskResult
from smae.data.raw.source import Refused
from smae.data.store import Store
from smae.data.store.format import EXCLUDED, MAX_JSON_BYTES, QUARANTINE, read_checked
from smae.data.store.shards import Shard
from smae.errors import EXIT_DONE, EXIT_QUARANTINED, DataError
from smae.tables import Grid, Table


@dataclass(frozen=True)
class PrepareSummary(Table):
    """A preparation's result: ``ok`` + ``excluded`` + ``quarantined`` + ``ignored`` = ``found``.

    Attributes:
        store: path or URL of the store.
        fingerprint: SHA-256, hex, of its manifest.
        dataset: name of the data set.
        found: number of files found, members of zips included.
        ok: number of samples that became clips.
        noted: number of clips with an accepted oddity, by kind; ``duplicate`` counts second copies.
        excluded: number of samples left out by rule (``missing-list``, ``no-body``).
        left_out: the samples left out by rule, each with the rule as code.
        quarantined: bad files.
        ignored: number of files that are not samples, and of second copies.
        frames: frames of all clips.
        rows: body-frames of all clips.
        seconds: duration of this run.
        bytes_read: raw bytes read in this run, unpacked.
        codec: how joints are stored.
        largest_error: largest error of a coordinate made by the codec, metres.
    """

    store: Path | str
    fingerprint: str
    dataset: str
    found: int
    ok: int
    noted: dict[str, int]
    excluded: dict[str, int]
    left_out: tuple[Refused, ...]
    quarantined: tuple[Refused, ...]
    ignored: int
    frames: int
    rows: int
    seconds: float = 0.0
    bytes_read: int = 0
    codec: str = "float32"
    largest_error: float = 0.0

    @property
    def exit_code(self) -> int:
        """0, or 3 if there are quarantined files."""
        if self.quarantined:
            return EXIT_QUARANTINED
        return EXIT_DONE

    def tables(self) -> list[Grid]:
        bad = self.quarantined
        rows = [
            ("ok", f"{self.frames:,} frames, {self.rows:,} body-frames", f"{self.ok:,}"),
            ("  noted", _counts(self.noted), ""),
            ("excluded", _counts(self.excluded), f"{sum(self.excluded.values()):,}"),
            ("quarantined", "see quarantine.jsonl in the store" * bool(bad), f"{len(bad):,}"),
            ("ignored", "not samples, or second copies" * bool(self.ignored), f"{self.ignored:,}"),
            ("found", "", f"{self.found:,}"),
        ]
        title = f"{self.store} ({self.dataset}): {self.seconds:.1f} s, {self.bytes_read / 1e6:,.0f} MB read"
        return [Grid(("", "", "files"), rows, title)]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.items())


@dataclass
class Tally:
    """Outcomes of a plan, counted as its tasks finish.

    Attributes:
        plan: the plan.
        results: of finished tasks, in any order.
        samples: number of finished samples.
        read: bytes read.
        bad: quarantined files; first those that the plan already refused.
    """

    plan: Plan
    results: list[TaskResult] = field(default_factory=list)
    samples: int = 0
    read: int = 0
    bad: list[Refused] = field(init=False)

    def __post_init__(self) -> None:
        self.bad = list(self.plan.refused)

    def add(self, result: TaskResult) -> None:
        self.results.append(result)
        self.samples += len(result.outcomes)
        self.read += result.size
        self.bad += [outcome.refused for outcome in result.outcomes if outcome.refused is not None]

    @property
    def ordered(self) -> list[TaskResult]:
        """The results in store order."""
        return sorted(self.results, key=attrgetter("task"))

    @property
    def outcomes(self) -> list[SampleOutcome]:
        """The outcomes in store order."""
        return [outcome for result in self.ordered for outcome in result.outcomes]

    @property
    def clips(self) -> list[SampleOutcome]:
        """The outcomes that are clips, in store order."""
        return [outcome for outcome in self.outcomes if outcome.rows]

    @property
    def shards(self) -> list[Shard]:
        """The shards, in the order of their clips."""
        return [shard for result in self.ordered for shard in result.shards]

    def counts(self) -> dict[str, Any]:
        """Return the counts that the store records."""
        outcomes, clips = self.outcomes, self.clips
        noted = Counter(note for outcome in clips for note, count in (outcome.notes or {}).items() if count)
        if self.plan.duplicates:
            noted["duplicate"] = self.plan.duplicates
        excluded = Counter(self.plan.excluded)
        excluded.update(outcome.excluded for outcome in outcomes if outcome.excluded)
        return {
            "found": self.plan.found,
            "ok": len(clips),
            "noted": dict(sorted(noted.items())),
            "excluded": dict(sorted(excluded.items())),
            "quarantined": len(self.bad),
            "ignored": self.plan.ignored + self.plan.duplicates,
        }

    def left_out(self) -> list[Refused]:
        """Return the samples left out by rule, those without a body included."""
        rules = {outcome.name: outcome.excluded for outcome in self.outcomes if outcome.excluded}
        empty = [
            Refused(sample.where, rules[sample.name], "no body in any frame", sample.size)
            for sample in self.plan.samples
            if sample.name in rules
        ]
        return [*self.plan.left_out, *empty]


def encode_refused(refused: Iterable[Refused]) -> bytes:
    """Return the content of ``quarantine.jsonl`` or ``excluded.jsonl``, sorted by path."""
    listed = sorted(refused, key=attrgetter("path", "code"))
    return b"".join(json.dumps(asdict(one), sort_keys=True).encode("ascii") + b"\n" for one in listed)


def read_refused(store: Store) -> tuple[tuple[Refused, ...], tuple[Refused, ...]]:
    """Return a store's bad files, and its samples left out by rule where it lists them."""
    bad = b""
    if QUARANTINE in store.files:
        bad = read_checked(store.root, store.files[QUARANTINE])
    left_out = b""
    if EXCLUDED in store.root.sizes():
        left_out = store.root.read(EXCLUDED, limit=MAX_JSON_BYTES)
    return decode_refused(bad), decode_refused(left_out, name=EXCLUDED)


def find_refused(store: Store, name: str) -> Refused | None:
    """Return why a store holds no clip of a sample; None if the sample is not in its lists."""
    bad, left_out = read_refused(store)
    return next((refused for refused in (*bad, *left_out) if refused.concerns(name)), None)


def _refused(line: bytes) -> Refused:
    refused = Refused(**parse_json(line))
    for one in fields(refused):
        value, kind = getattr(refused, one.name), {"str": str, "int": int}[str(one.type)]
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise ValueError(f"{one.name}: {ascii(value)[:40]}")
    return refused


def decode_refused(lines: bytes, *, name: str = QUARANTINE) -> tuple[Refused, ...]:
    """Parse ``quarantine.jsonl`` or ``excluded.jsonl``; a ``DataError`` for another line."""
    try:
        return tuple(map(_refused, lines.splitlines()))
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"{name}: not a list of files with reasons ({str(error)[:80]}): prepare the store again"
        ) from error
