"""What a preparation did: counts that add up, the quarantine list, progress, and the exit code."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from smae.data.prepare.outcome import Outcome
from smae.data.prepare.plan import Plan
from smae.data.prepare.worker import TaskResult
from smae.data.raw.source import Refused
from smae.data.store.manifest import QUARANTINE
from smae.data.store.shards import Shard
from smae.errors import EXIT_DONE, EXIT_QUARANTINED, DataError


@dataclass(frozen=True)
class Progress:
    """How far a preparation is.

    Attributes:
        done: samples finished.
        total: samples planned.
        bytes: read so far in this run.
        seconds: since this run began.
        quarantined: bad files so far.
        earlier: of those done, samples that an interrupted run had finished.
    """

    done: int
    total: int
    bytes: int
    seconds: float
    quarantined: int
    earlier: int = 0

    @property
    def files_per_second(self) -> float:
        """Samples finished by this run, a second."""
        return (self.done - self.earlier) / max(1e-9, self.seconds)


@dataclass(frozen=True)
class PrepareSummary:
    """What a preparation did; ``ok`` + all ``excluded`` + ``quarantined`` + ``ignored`` = ``found``.

    Attributes:
        store: the store.
        fingerprint: SHA-256, hex, of its manifest.
        dataset: name of the data set.
        found: files found, and members of zips.
        ok: samples that became clips.
        noted: clips with something accepted but worth counting, by kind; ``duplicate`` counts second copies.
        excluded: samples left out by rule, by reason (``missing-list``, ``no-body``).
        quarantined: bad files.
        ignored: files that are no samples, and second copies.
        frames: frames of all clips together.
        rows: body-frames of all clips together.
        seconds: this run took.
        bytes_read: raw bytes read in this run, unpacked.
        codec: how joints are kept.
        largest_error: of a coordinate, metres, that the codec made.
    """

    store: Path | str
    fingerprint: str
    dataset: str
    found: int
    ok: int
    noted: dict[str, int]
    excluded: dict[str, int]
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
        """0, or 3 where files are in quarantine."""
        return EXIT_QUARANTINED if self.quarantined else EXIT_DONE


@dataclass
class Tally:
    """Counts the outcomes of a plan as its tasks are done.

    Attributes:
        plan: what is being done.
        results: so far, in any order.
        samples: finished so far.
        read: bytes read so far.
        bad: quarantined so far, those that were refused unread first.
    """

    plan: Plan
    results: list[TaskResult] = field(default_factory=list)
    samples: int = 0
    read: int = 0
    bad: list[Refused] = field(init=False)

    def __post_init__(self) -> None:
        self.bad = list(self.plan.refused)

    def add(self, result: TaskResult) -> None:
        """Take the result of a task."""
        self.results.append(result)
        self.samples += len(result.outcomes)
        self.read += result.size
        self.bad += [outcome.refused for outcome in result.outcomes if outcome.refused is not None]

    @property
    def ordered(self) -> list[TaskResult]:
        """The results in store order."""
        return sorted(self.results, key=attrgetter("task"))

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes in store order."""
        return [outcome for result in self.ordered for outcome in result.outcomes]

    @property
    def clips(self) -> list[Outcome]:
        """The outcomes that are clips, in store order."""
        return [outcome for outcome in self.outcomes if outcome.rows]

    @property
    def shards(self) -> list[Shard]:
        """The shards, in the order of their clips."""
        return [shard for result in self.ordered for shard in result.shards]

    def counts(self) -> dict[str, Any]:
        """Return the counts that the store keeps."""
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

    def quarantine(self) -> bytes:
        """Return the lines of ``quarantine.jsonl``, sorted by path."""
        return b"".join(encode_refused(refused) for refused in sorted(self.bad, key=lambda bad: (bad.path, bad.code)))


def encode_refused(refused: Refused) -> bytes:
    """Return one line of ``quarantine.jsonl``."""
    return json.dumps(asdict(refused), sort_keys=True).encode("ascii") + b"\n"


def decode_refused(lines: bytes) -> tuple[Refused, ...]:
    """Return what ``quarantine.jsonl`` holds.

    Raises:
        DataError: lines that are no records of bad files.
    """
    try:
        return tuple(Refused(**json.loads(line)) for line in lines.splitlines())
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"{QUARANTINE}: not a list of bad files ({str(error)[:80]}): prepare the store again"
        ) from error
