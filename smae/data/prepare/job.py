"""One run over a plan: tasks to the workers, results written down as they come, then the checks, then the store."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from smae.data.prepare.executors import make_executor
from smae.data.prepare.plan import Plan
from smae.data.prepare.summary import PrepareSummary, Progress, Tally
from smae.data.prepare.worker import TaskResult, Transform
from smae.data.prepare.workspace import Workplace
from smae.data.store.clip_table import build_table
from smae.data.store.shards import offsets
from smae.data.store.writer import Header, finish_store
from smae.errors import DataError

ALWAYS_TOLERATED = 3
"""Bad files that a run survives however few files there are; 1 % of 50 files would be none."""


class Job:
    """What is left of a plan, and the store that comes of it.

    Args:
        raw: the raw folder or zip.
        plan: what is to be done.
        work: the unfinished store.
        finished: what an earlier run did.
        began: ``time.monotonic()`` at the start of this run.
        progress: told after each task.
    """

    def __init__(
        self,
        *,
        raw: Path,
        plan: Plan,
        work: Workplace,
        finished: Iterable[TaskResult],
        began: float,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.raw, self.plan, self.work, self.began, self.progress = raw, plan, work, began, progress
        self.tally = Tally(plan)
        for result in finished:
            self.tally.add(result)
        self._earlier, self._earlier_bytes = self.tally.samples, self.tally.read

    def run(self, *, executor: str, workers: int | None, scheduler: str | None, max_bad: float) -> PrepareSummary:
        """Do what is left and publish."""
        done = {result.task for result in self.tally.results}
        todo = [task for task in self.plan.tasks() if task.number not in done]
        raw = Path(os.path.abspath(self.raw))  # workers may have another current folder
        shared = (raw, *self.work.shared)
        pool = make_executor(executor, workers=workers, tasks=max(len(todo), 1), scheduler=scheduler, shared=shared)
        make = partial(Transform, raw, self.work.root, self.plan.settings, self.plan.layout, safe=executor == "dask")
        with closing(pool.run(make, todo)) as results:
            for result in results:
                self._take(result)
        self._check_quarantine(max_bad)
        fingerprint = self._finish()
        self.work.publish()
        return self._summary(fingerprint)

    def _take(self, result: TaskResult) -> None:
        self.work.record(result)
        self.tally.add(result)
        if self.plan.settings.strict and self.tally.bad:
            raise DataError(f"{self.tally.bad[0]} (--strict stops at the first bad file)")
        if self.progress is not None:
            seconds = time.monotonic() - self.began
            total, bad, read = len(self.plan.samples), len(self.tally.bad), self.tally.read - self._earlier_bytes
            self.progress(Progress(self.tally.samples, total, read, seconds, bad, self._earlier))

    def _check_quarantine(self, max_bad: float) -> None:
        bad, samples = len(self.tally.bad), len(self.plan.samples) + len(self.plan.refused)
        allowed = max(math.floor(max_bad * samples), ALWAYS_TOLERATED) if max_bad > 0 else 0
        if bad <= allowed and self.tally.clips:
            return
        listed = self.work.show_quarantine(self.tally.quarantine())
        shown = "".join(f"\n  {refused}" for refused in self.tally.bad[:5])
        if bad > allowed:
            raise DataError(
                f"{bad} of {samples} recordings are bad, more than --max-bad {max_bad:g} allows ({allowed}): nothing "
                f"is published. All of them are listed in {listed}; the first:{shown}\nmend or remove "
                "them and begin again with --overwrite, or allow more with --max-bad and --resume"
            )
        raise DataError(
            f"none of {samples} recordings can be used ({bad} bad, listed in {listed}; the others show "
            f"nobody): nothing is published{shown}"
        )

    def _finish(self) -> str:
        clips, shards, plan = self.tally.clips, self.tally.shards, self.plan
        facts = {fact.name: fact for fact in plan.facts}
        table = build_table(
            [facts[clip.name] for clip in clips],
            offset=offsets(shards, [clip.rows for clip in clips]),
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
            codec=plan.settings.codec,
            frames=plan.settings.frames,
            origin=plan.origin(),
            counts=self.tally.counts(),
        )
        splits = {
            name: np.array([roles.get(clip.name, 0) for clip in clips], np.uint8) for name, roles in plan.splits.items()
        }
        quarantine = self.tally.quarantine()
        return finish_store(self.work.root, header, table, shards=shards, splits=splits, quarantine=quarantine)

    def _summary(self, fingerprint: str) -> PrepareSummary:
        counts, clips = self.tally.counts(), self.tally.clips
        counts["quarantined"] = tuple(self.tally.bad)
        return PrepareSummary(
            store=self.work.out,
            fingerprint=fingerprint,
            dataset=self.plan.dataset,
            frames=sum(clip.frames for clip in clips),
            rows=sum(clip.rows for clip in clips),
            seconds=time.monotonic() - self.began,
            bytes_read=self.tally.read - self._earlier_bytes,
            codec=self.plan.settings.codec,
            largest_error=max(shard.error for shard in self.tally.shards),
            **counts,
        )
