"""``smae.prepare``: raw recordings to a store, shard by shard; ``smae.write_recordings``."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smae import interrupts, progress
from smae.atomic_io import check_output, locked
from smae.config import renamed
from smae.data.clean import MAX_FRAMES, MODES, Mode
from smae.data.prepare import EXECUTOR, MAX_BAD, MIN_BAD, UNITS, PrepareSettings
from smae.data.prepare.executors import make_executor, warm_up
from smae.data.prepare.plan import Plan, changed_values, make_plan
from smae.data.prepare.summary import PrepareSummary, Tally, encode_refused, read_refused
from smae.data.prepare.worker import TaskResult, Worker
from smae.data.prepare.workspace import FolderWorkspace, ObjectWorkspace, Workspace
from smae.data.raw.recordings import source_of
from smae.data.raw.source import SOURCES
from smae.data.store import Store, open_store
from smae.data.store.chunks import joint_codec
from smae.data.store.clips import ClipFacts, build_table
from smae.data.store.convert import layout_map
from smae.data.store.file_store import locate
from smae.data.store.shards import offsets
from smae.data.store.writer import Header, finish_store, write_store
from smae.errors import ConfigError, DataError, EnvironmentFault
from smae.skeleton import Layout, load_layout

if TYPE_CHECKING:
    # It loads the compiled kernels, which a process that only hands out tasks does not need.
    from smae.data.raw.keypoints import Keypoints


def prepare(
    raw: Path | str,
    out: Path | str,
    *,
    source: str = PrepareSettings.source,
    mode: Mode = PrepareSettings.mode,
    frames: int | None = PrepareSettings.frames,
    codec: str = PrepareSettings.codec,
    workers: int | None = None,
    executor: str = EXECUTOR,
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    strict: bool = PrepareSettings.strict,
    strict_names: bool = PrepareSettings.strict_names,
    max_bad: float = MAX_BAD,
    max_range: float = PrepareSettings.max_range,
    missing_list: bool = PrepareSettings.missing_list,
    classes: Path | str | None = None,
    split: Path | str | None = None,
    layout: str | None = PrepareSettings.layout,
    unit: str | None = PrepareSettings.unit,
    fps: float | None = PrepareSettings.fps,
) -> PrepareSummary:
    """Turn raw recordings into a store.

    The bytes of the store depend on recordings, settings and software only: not on workers,
    restarts, listing order, or where the recordings are.

    Args:
        raw: folder with recordings and zips of recordings in it, at any depth, or one zip.
        out: the store's folder, or its URL in an object store. It appears when it is complete;
            until then ``<out>.wip`` beside it holds unfinished work.
        source: registered source of the raw data.
        mode: cleaning mode: ``reference``, the pipeline behind published numbers, or ``exact``.
        frames: resample every clip to this many frames.
        codec: how joints are stored: ``float32``, or ``int16`` in steps of 2^-12 m, less than half
            the size.
        workers: processes; by default one per usable core. Changes no byte.
        executor: ``processes``, ``inline`` (this process) or ``dask``.
        scheduler: address of a Dask scheduler, for ``dask``; its workers see ``raw`` and ``out``
            under the same paths.
        resume: continue unfinished work; start if there is none.
        overwrite: replace a store, or discard unfinished work. In a folder, the old store stays
            until the new one is complete.
        strict: refuse oddities that are otherwise tolerated, and stop at the first bad file.
        strict_names: count ``.skeleton`` files without an NTU name as bad instead of ignoring them.
        max_bad: largest share of bad files with which a store is published; 3 bad files always
            pass, unless it is 0.
        max_range: metres; a file with larger coordinates is bad.
        missing_list: leave out the samples that published results leave out.
        classes: text file with class names, one per line or ``number,name``; by default
            ``classes.txt`` in ``raw`` if there is one.
        split: file that lists clips by part (train, val, test), for a protocol of one's own.
        layout: whose joints the files hold, where they do not say: a name or a ``.toml`` file.
        unit: of the coordinates: ``m``, ``cm`` or ``mm``; by default metres, and bodies that cannot
            be people in metres are refused.
        fps: frames a second of keypoints; recorded, no frame is added or left out.

    Raises:
        ConfigError: a setting is wrong, ``raw`` is missing, or ``out`` must not be replaced;
            nothing was started.
        DataError: nothing to prepare, too many bad files, or unfinished work with other inputs or
            settings.
        EnvironmentFault: disk, memory or permission; run the same command with ``resume``.
        LockedError: another process writes the same output.
        Interrupted: Ctrl-C or SIGTERM; run the same command with ``resume``.
    """
    raw, out = Path(raw), locate(out)
    source = source_of(raw, source)
    settings = PrepareSettings(
        source, mode, frames, strict, strict_names, float(max_range), missing_list, codec, layout, unit, fps
    )
    _check_settings(settings, workers=workers, max_bad=max_bad)
    _check_raw(raw)
    workspace: Workspace
    if isinstance(out, Path):
        workspace = FolderWorkspace(Path(os.path.abspath(out)))
        # Before the lock, which would be created beside the output: perhaps among the recordings.
        workspace.check(raw, overwrite=resume or overwrite)
    else:
        workspace = ObjectWorkspace(out)
    # A wrong name or number, or a cluster that cannot do the work, fails before anything is begun.
    make_executor(executor, workers=workers, tasks=1, scheduler=scheduler, shared=(raw,))
    if executor == "processes" and getattr(SOURCES.get(source), "one_reader", False):
        # Each process would hold all of the raw data: more memory, and no time gained.
        executor = "inline"
    began = time.monotonic()
    name = workspace.files.name.rpartition("/")[2]
    try:
        with interrupts.deferred(f"{name} keeps finished work: run the same command with --resume"), workspace.lock():
            workspace.restore()
            resuming = resume and workspace.unfinished
            _check_output(raw, workspace, resume=resume, overwrite=overwrite)
            warm_up(executor, workers=workers)
            given = {"names": classes, "split": split}
            files = {key: Path(path) for key, path in given.items() if path is not None}
            plan = make_plan(raw, settings, **files)
            if resume and workspace.occupied:
                # Complete already, or killed between publishing and cleaning up.
                store = open_store(workspace.out)
                if _is_current(store, plan, replace=overwrite or resuming):
                    workspace.remove()
                    return _summary_of(store, began)
            finished: list[TaskResult] = []
            if resuming:
                finished = workspace.resume(plan)
            else:
                workspace.start(plan)
            job = _Job(raw, plan, workspace, finished, began)
            return job.run(executor=executor, workers=workers, scheduler=scheduler, max_bad=max_bad)
    except MemoryError as error:
        raise EnvironmentFault("out of memory: use fewer --workers, and run again with --resume") from error


_NO_COUNTS: dict[str, Any] = {"found": 0, "ok": 0, "noted": {}, "excluded": {}, "ignored": 0}


def _check_settings(settings: PrepareSettings, *, workers: int | None, max_bad: float) -> None:
    checks = {
        f"mode '{settings.mode}': expected one of {', '.join(MODES)}": settings.mode in MODES,
        f"--frames {settings.frames}: expected 1 to {MAX_FRAMES:,}": settings.frames is None
        or 1 <= settings.frames <= MAX_FRAMES,
        f"--workers {workers}: expected at least 1": workers is None or workers >= 1,
        f"--max-bad {max_bad:g}: expected a share from 0 to 1": 0 <= max_bad <= 1,
        f"--unit {settings.unit}: expected one of {', '.join(UNITS)}": settings.unit in (None, *UNITS),
        f"--fps {settings.fps}: expected 1 to 1000": settings.fps is None or 1 <= settings.fps <= 1000,
        f"--max-range {settings.max_range:g}: expected metres above 0": 0 < settings.max_range < math.inf,
    }
    joint_codec(settings.codec)
    for message, valid in checks.items():
        if not valid:
            raise ConfigError(message)


def _check_raw(raw: Path) -> None:
    if not raw.exists():
        raise ConfigError(f"no input at {raw}: give a folder or zip of recordings")
    if raw.is_dir() and not any(raw.iterdir()):
        raise ConfigError(f"the input folder {raw} is empty")


def _check_output(raw: Path, workspace: Workspace, *, resume: bool, overwrite: bool) -> None:
    workspace.check(raw, overwrite=resume or overwrite)
    if workspace.unfinished and not resume and not overwrite:
        raise ConfigError(
            f"{workspace.files.name} holds unfinished work: add --resume to continue it, or --overwrite to begin again"
        )


def _is_current(store: Store, plan: Plan, *, replace: bool) -> bool:
    """Whether a complete store is what the plan asks for; False where it is to be replaced."""
    asked = plan.origin()
    recorded = {key: store.attributes.origin.get(key) for key in asked}
    changed = changed_values(recorded, asked)
    if changed and not replace:
        raise DataError(
            f"{store.path} is complete, but of other inputs or settings: {'; '.join(changed)}; "
            "add --overwrite to replace it"
        )
    return not changed


def _summary_of(store: Store, began: float) -> PrepareSummary:
    bad, left_out = read_refused(store)
    return PrepareSummary(
        store=store.path,
        fingerprint=store.fingerprint,
        dataset=store.dataset,
        frames=int(store.clips.frames.sum()),
        rows=int(store.clips.rows.sum()),
        seconds=time.monotonic() - began,
        codec=store.codec.name,
        **{**_NO_COUNTS, **store.attributes.counts, "quarantined": bad, "left_out": left_out},
    )


class _Job:
    """The unfinished tasks of a plan, and the store that they complete.

    Args:
        raw: the raw folder or zip.
        plan: the plan.
        workspace: the unfinished store.
        finished: results of earlier runs.
        began: ``time.monotonic()`` at the start of this run.
    """

    def __init__(
        self, raw: Path, plan: Plan, workspace: Workspace, finished: Iterable[TaskResult], began: float
    ) -> None:
        # Absolute, because workers may have another current folder.
        self.raw = Path(os.path.abspath(raw))
        self.plan, self.workspace, self.began = plan, workspace, began
        self.tally = Tally(plan)
        for result in finished:
            self.tally.add(result)
        self._earlier, self._earlier_bytes = self.tally.samples, self.tally.read

    def run(self, *, executor: str, workers: int | None, scheduler: str | None, max_bad: float) -> PrepareSummary:
        """Do the unfinished tasks and publish the store."""
        done = {result.task for result in self.tally.results}
        tasks = [task for task in self.plan.tasks() if task.number not in done]
        shared = (self.raw, *self.workspace.shared)
        pool = make_executor(executor, workers=workers, tasks=max(len(tasks), 1), scheduler=scheduler, shared=shared)
        settings, layout = self.plan.settings, self.plan.layout
        make_worker = partial(Worker, self.raw, self.workspace.root, settings, layout, durable=executor == "dask")
        with (
            progress.task("prepare", total=len(self.plan.samples), unit="files") as task,
            closing(pool.run(make_worker, tasks)) as results,
        ):
            for result in results:
                self._record(result)
                task.update(self.tally.samples, note=self._note())
                interrupts.check()
        self._check_quarantine(max_bad)
        fingerprint = self._finish()
        self.workspace.publish()
        return self._summary(fingerprint)

    def _record(self, result: TaskResult) -> None:
        self.workspace.record(result)
        self.tally.add(result)
        if self.plan.settings.strict and self.tally.bad:
            raise DataError(f"{self.tally.bad[0]} (--strict stops at the first bad file)")

    def _note(self) -> str:
        seconds = max(1e-9, time.monotonic() - self.began)
        samples, megabytes = self.tally.samples - self._earlier, self._bytes_read / 1e6
        note = f"{samples / seconds:,.0f} files/s  {megabytes / seconds:,.0f} MB/s"
        if self.tally.bad:
            note += f"  {len(self.tally.bad)} bad"
        return note

    @property
    def _bytes_read(self) -> int:
        return self.tally.read - self._earlier_bytes

    def _check_quarantine(self, max_bad: float) -> None:
        bad, samples = len(self.tally.bad), len(self.plan.samples) + len(self.plan.refused)
        allowed = 0
        if max_bad > 0:
            allowed = max(math.floor(max_bad * samples), MIN_BAD)
        if bad <= allowed and self.tally.clips:
            return
        listed = self.workspace.write_quarantine(encode_refused(self.tally.bad))
        first = "".join(f"\n  {refused}" for refused in self.tally.bad[:5])
        if bad > allowed:
            raise DataError(
                f"{bad} of {samples} recordings are bad, more than --max-bad {max_bad:g} allows ({allowed}): nothing "
                f"is published. All of them are listed in {listed}; the first:{first}\nrepair or remove "
                "them and begin again with --overwrite, or allow more with --max-bad and --resume"
            )
        raise DataError(
            f"none of {samples} recordings can be used ({bad} bad, listed in {listed}; the others "
            f"are empty): nothing is published{first}"
        )

    def _finish(self) -> str:
        """Write everything except the shards, the manifest last; return the fingerprint."""
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
        return finish_store(
            self.workspace.root,
            header,
            table,
            shards=shards,
            splits=splits,
            quarantine=encode_refused(self.tally.bad),
            excluded=encode_refused(self.tally.left_out()),
        )

    def _summary(self, fingerprint: str) -> PrepareSummary:
        counts, clips = self.tally.counts(), self.tally.clips
        counts |= {"quarantined": tuple(self.tally.bad), "left_out": tuple(self.tally.left_out())}
        return PrepareSummary(
            store=self.workspace.out,
            fingerprint=fingerprint,
            dataset=self.plan.dataset,
            frames=sum(clip.frames for clip in clips),
            rows=sum(clip.rows for clip in clips),
            seconds=time.monotonic() - self.began,
            bytes_read=self._bytes_read,
            codec=self.plan.settings.codec,
            largest_error=max(shard.error for shard in self.tally.shards),
            **counts,
        )


@renamed(to="layout")
def write_recordings(
    recordings: Sequence[Keypoints],
    out: Path | str,
    *,
    mode: Mode = PrepareSettings.mode,
    layout: Layout | str | None = None,
) -> Store:
    """Clean recordings and write them as a store, which is returned.

    Args:
        recordings: of one layout, with names of their own; their labels are the classes.
        out: the folder to write, which must not exist.
        mode: cleaning mode, as of ``prepare``.
        layout: map the joints to this layout, as ``convert`` does.

    Raises:
        ConfigError: ``out`` exists.
        DataError: no recording, different layouts, or a name twice.
        NoBody: a recording without a body.
        EnvironmentFault: the disk refused.
    """
    out = Path(out)
    check_output(out, kind="a store", is_kind=lambda path: False, overwrite=False)
    layouts = list(dict.fromkeys(one.layout.name for one in recordings))
    names = [one.name for one in recordings]
    if len(layouts) != 1:
        raise DataError(f"expected recordings of one layout, found {', '.join(layouts) or 'no recording'}")
    for name in names:
        if not (0 < len(name) <= 200 and name.isascii() and name.isprintable()) or names.count(name) > 1:
            raise DataError(f"the name {ascii(name)[:80]}: expected printable ASCII, each name once: name=...")
    own = recordings[0].layout
    rates = {one.fps for one in recordings}
    origin: dict[str, object] = {"source": "keypoints", "mode": mode}
    if len(rates) == 1 and None not in rates:
        origin["fps"] = recordings[0].fps
    target = load_layout(layout) if isinstance(layout, str) else layout or own
    if target != own:
        origin |= {"converted_from": own.name, "missing": list(layout_map(own, target).missing)}
    header = Header(
        layout=target,
        mode=mode,
        dataset="keypoints",
        classes=tuple(sorted({one.label for one in recordings})),
        origin=origin,
    )
    clips = ((ClipFacts(one.name, one.label), one.clip(target, mode=mode)) for one in recordings)
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out.with_name(f"{out.name}.lock")):
        write_store(out, header=header, clips=clips)
    return open_store(out)
