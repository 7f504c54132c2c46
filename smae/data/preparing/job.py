"""One run over a plan: results from the workers to the writer, in plan order, then the checks, then the store."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from smae.data.clip_table import build_table
from smae.data.preparing.executors import make_executor
from smae.data.preparing.journal import Finished, ShardPair, Workplace
from smae.data.preparing.plan import Plan, batches
from smae.data.preparing.summary import PrepareSummary, Progress, Tally
from smae.data.preparing.transform import BatchResult, Transform
from smae.data.storage.atomic import place
from smae.data.storage.writer import Header, StoreWriter
from smae.errors import DataError

ALWAYS_TOLERATED = 3
"""Bad files that a run survives however few files there are; 1 % of 50 files would be none."""


class Job:
    """What is left of a plan, and the store that comes of it.

    Args:
        raw: the raw folder or zip.
        plan: what is to be done.
        work: the folder of the unfinished store.
        finished: what an earlier run left.
        began: ``time.monotonic()`` at the start of this run.
        progress: told after each batch.
    """

    def __init__(
        self,
        *,
        raw: Path,
        plan: Plan,
        work: Workplace,
        finished: Finished,
        began: float,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.raw, self.plan, self.work, self.began, self.progress = raw, plan, work, began, progress
        self.tally = Tally(plan)
        self.tally.add(finished.outcomes)
        self.writer = StoreWriter(work.store, layout=plan.layout, finished=finished.shards)
        self._earlier = self._journaled = len(finished.outcomes)
        self._journaled_rows = sum(outcome.rows for outcome in finished.outcomes)
        self._read = 0

    def run(self, *, executor: str, workers: int | None, max_bad: float) -> PrepareSummary:
        """Do what is left and publish."""
        todo = list(batches(self.plan.samples[self._journaled :]))
        pool = make_executor(executor, workers=workers, tasks=max(len(todo), 1))
        # The first of these rows may already lie in the last finished shard: a clip can straddle two.
        skip = self.writer.rows - self._journaled_rows
        with closing(pool.run(partial(Transform, self.raw, self.plan.settings, self.plan.layout), todo)) as results:
            for result in _without_rows(results, skip):
                self._take(result)
        self._check_quarantine(max_bad)
        fingerprint = self._finish()
        self.work.publish()
        return self._summary(fingerprint)

    def _take(self, result: BatchResult) -> None:
        self.tally.add(result.outcomes)
        shards = self.writer.append(result.joints, result.state)
        if shards:
            self._record(shards)
        self._read += result.size
        if self.plan.settings.strict and self.tally.bad:
            raise DataError(f"{self.tally.bad[0]} (--strict stops at the first bad file)")
        if self.progress is not None:
            seconds = time.monotonic() - self.began
            total, bad = len(self.plan.samples), len(self.tally.bad)
            self.progress(Progress(len(self.tally.outcomes), total, self._read, seconds, bad, self._earlier))

    def _record(self, shards: Sequence[ShardPair]) -> None:
        """Note finished shards with the samples that end in them; one that goes on in the next is read again."""
        safe_rows = self.writer.full_rows
        covered = []
        for outcome in self.tally.outcomes[self._journaled :]:
            if self._journaled_rows + outcome.rows > safe_rows:
                break
            covered.append(outcome)
            self._journaled_rows += outcome.rows
        self._journaled += len(covered)
        self.work.record(shards, covered)

    def _check_quarantine(self, max_bad: float) -> None:
        bad, samples = len(self.tally.bad), len(self.plan.samples) + len(self.plan.refused)
        allowed = max(math.floor(max_bad * samples), ALWAYS_TOLERATED) if max_bad > 0 else 0
        if bad <= allowed and self.tally.clips:
            return
        place(self.work.quarantine, self.tally.quarantine())
        shown = "".join(f"\n  {refused}" for refused in self.tally.bad[:5])
        if bad > allowed:
            raise DataError(
                f"{bad} of {samples} recordings are bad, more than --max-bad {max_bad:g} allows ({allowed}): nothing "
                f"is published. All of them are listed in {self.work.quarantine}; the first:{shown}\nmend or remove "
                "them and begin again with --overwrite, or allow more with --max-bad and --resume"
            )
        raise DataError(
            f"none of {samples} recordings can be used ({bad} bad, listed in {self.work.quarantine}; the others show "
            f"nobody): nothing is published{shown}"
        )

    def _finish(self) -> str:
        clips, plan = self.tally.clips, self.plan
        facts = {fact.name: fact for fact in plan.facts}
        table = build_table(
            [facts[clip.name] for clip in clips],
            frames=[clip.frames for clip in clips],
            bodies=[clip.bodies for clip in clips],
            source=[bytes.fromhex(clip.source) for clip in clips],
            classes=plan.classes,
        )
        header = Header(
            layout=plan.layout,
            mode=plan.settings.mode,
            dataset=plan.dataset,
            classes=plan.classes,
            frames=plan.settings.frames,
            origin=plan.origin(),
            counts=self.tally.counts(),
        )
        splits = {
            name: np.array([roles.get(clip.name, 0) for clip in clips], np.uint8) for name, roles in plan.splits.items()
        }
        return self.writer.finish(header, table, splits=splits, quarantine=self.tally.quarantine())

    def _summary(self, fingerprint: str) -> PrepareSummary:
        counts = self.tally.counts()
        counts["quarantined"] = tuple(self.tally.bad)
        return PrepareSummary(
            store=self.work.out,
            fingerprint=fingerprint,
            dataset=self.plan.dataset,
            frames=sum(clip.frames for clip in self.tally.clips),
            rows=sum(clip.rows for clip in self.tally.clips),
            seconds=time.monotonic() - self.began,
            bytes_read=self._read,
            **counts,
        )


def _without_rows(results: Iterator[BatchResult], skip: int) -> Iterator[BatchResult]:
    """Drop the first ``skip`` rows of all results together, and no outcome."""
    for result in results:
        drop = min(skip, len(result.joints))
        skip -= drop
        yield BatchResult(result.joints[drop:], result.state[drop:], result.outcomes, result.size)
