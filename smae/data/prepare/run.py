"""Turns raw recordings into a store: plan, tasks, one shard a task, publish; resumable at every moment."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

from smae import interrupts
from smae.data.prepare.executors import make_executor, warm_up
from smae.data.prepare.folder_workspace import FolderWork
from smae.data.prepare.job import Job
from smae.data.prepare.object_workspace import ObjectWork
from smae.data.prepare.plan import Plan, Settings, make_plan
from smae.data.prepare.summary import PrepareSummary, Progress, decode_refused
from smae.data.prepare.workspace import Workplace
from smae.data.store.codecs import joint_codec
from smae.data.store.file_store import locate
from smae.data.store.format import MODES
from smae.data.store.manifest import QUARANTINE, read_checked
from smae.data.store.store import Store, open_store
from smae.errors import ConfigError, DataError, EnvironmentFault

__all__ = ["PrepareSummary", "Progress", "prepare"]


def prepare(
    raw: Path,
    out: Path | str,
    *,
    source: str = "ntu",
    mode: str = "reference",
    frames: int | None = None,
    workers: int | None = None,
    executor: str = "processes",
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    strict_names: bool = False,
    max_bad: float = 0.01,
    max_range: float = 20.0,
    missing_list: bool = True,
    codec: str = "float32",
    classes: Path | str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> PrepareSummary:
    """Read every recording under ``raw`` and write the store ``out``.

    The store's bytes depend on the recordings, the settings and the software only: not on workers, restarts, listing
    order, or where the recordings lie.

    Args:
        raw: folder with recordings and zips of recordings in it, at any depth, or one zip.
        out: the store's folder, or its URL in an object store; appears when it is complete. Its neighbour
            ``<out>.wip`` holds unfinished work.
        source: registered source that knows the raw data.
        mode: ``reference``, the pipeline that published numbers rest on, or ``exact``.
        frames: resample every clip to so many frames.
        workers: processes; one a usable core when left out. Changes no byte.
        executor: ``processes``, ``inline`` or ``dask``.
        scheduler: address of a Dask scheduler, for ``dask``, whose workers see ``raw`` and ``out`` under these paths.
        resume: go on with unfinished work; with none there, simply start.
        overwrite: replace a store, or throw unfinished work away; in a folder, the old store stays until the new one
            is complete.
        strict: refuse what is merely tolerated, and stop at the first bad file.
        strict_names: ``.skeleton`` files with other names than NTU's are bad, not ignored.
        max_bad: largest share of bad files with which a store is published; 3 bad files always pass, unless it is 0.
        max_range: metres; a coordinate beyond makes a file bad.
        missing_list: leave out the samples that published results leave out.
        codec: how joints are kept: ``float32``, or ``int16`` steps of 2^-12 m, which take less than half the room.
        classes: text file that names the classes, one a line or ``number,name``; ``classes.txt`` in ``raw``, if it is
            there, when left out.
        progress: told after each task.

    Raises:
        ConfigError: a setting is wrong, ``raw`` is missing, or ``out`` is in the way; nothing was started.
        DataError: nothing to prepare, too many bad files, or unfinished work of other inputs or settings.
        EnvironmentFault: disk, memory or permission; run the same command with ``resume``.
        LockedError: another process writes the same output.
        Interrupted: Ctrl-C or SIGTERM; run the same command with ``resume``.
    """
    settings = Settings(source, mode, frames, strict, strict_names, float(max_range), missing_list, codec)
    _check_settings(settings, workers=workers, max_bad=max_bad)
    out = locate(out)
    _check_raw(raw)
    if isinstance(out, Path):
        out = Path(os.path.abspath(out))
        _check_apart(raw, out)
    # A wrong name or number, or a cluster that cannot do it, fails before any work.
    make_executor(executor, workers=workers, tasks=1, scheduler=scheduler, shared=(raw,))
    began = time.monotonic()
    work = FolderWork(out) if isinstance(out, Path) else ObjectWork(out)
    kept = work.files.name.rpartition("/")[2]
    try:
        with interrupts.deferred(f"{kept} keeps what is done: run the same command with --resume"), work.lock():
            going_on = _check_output(work, resume=resume, overwrite=overwrite)
            warm_up(executor, workers=workers)
            plan = make_plan(raw, settings, names=Path(classes) if classes is not None else None)
            if resume and work.occupied:
                # Also where a run was killed between publishing and clearing up.
                done = _already_done(open_store(out), plan, began, replace=overwrite or going_on)
                if done is not None:
                    work.remove()
                    return done
            finished = work.resume(plan) if going_on else []
            if not going_on:
                work.start(plan)
            job = Job(raw=raw, plan=plan, work=work, finished=finished, began=began, progress=progress)
            return job.run(executor=executor, workers=workers, scheduler=scheduler, max_bad=max_bad)
    except MemoryError as error:
        raise EnvironmentFault("out of memory: use fewer --workers, and run again with --resume") from error


def _check_settings(settings: Settings, *, workers: int | None, max_bad: float) -> None:
    checks = {
        f"mode '{settings.mode}': expected one of {', '.join(MODES)}": settings.mode in MODES,
        f"--frames {settings.frames}: expected at least 1": settings.frames is None or settings.frames >= 1,
        f"--workers {workers}: expected at least 1": workers is None or workers >= 1,
        f"--max-bad {max_bad:g}: expected a share from 0 to 1": 0 <= max_bad <= 1,
        f"--max-range {settings.max_range:g}: expected metres above 0": 0 < settings.max_range < math.inf,
    }
    joint_codec(settings.codec)
    for message, fine in checks.items():
        if not fine:
            raise ConfigError(message)


def _check_raw(raw: Path) -> None:
    if not raw.exists():
        raise ConfigError(f"no input at {raw}: give a folder or zip of recordings")
    if raw.is_dir() and not any(raw.iterdir()):
        raise ConfigError(f"the input folder {raw} is empty")


def _check_apart(raw: Path, out: Path) -> None:
    try:
        source, target = raw.resolve(), out.resolve()
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{out}: a link that leads in circles: choose another --out") from error
    if target == source or source in target.parents:
        raise ConfigError(f"the output {out} lies inside the input {raw}: choose another --out")
    if target in source.parents:
        raise ConfigError(f"the input {raw} lies inside the output {out}: choose another --out")


def _check_output(work: Workplace, *, resume: bool, overwrite: bool) -> bool:
    """Return whether there is work to go on with; refuse where something is in the way."""
    work.put_back()
    going_on = resume and work.unfinished
    if work.occupied:
        if not resume and not overwrite:
            raise ConfigError(f"{work.out} is there already: add --overwrite to replace it, or choose another --out")
        if not work.published:
            raise ConfigError(f"{work.out} is not a store, so it is not replaced: remove it, or choose another --out")
    if work.unfinished and not resume and not overwrite:
        raise ConfigError(
            f"{work.files.name} holds unfinished work: add --resume to go on, or --overwrite to begin again"
        )
    return going_on


def _already_done(store: Store, plan: Plan, began: float, *, replace: bool) -> PrepareSummary | None:
    """Return the summary of a finished store if it is what the plan asks for; None where it is to be replaced."""
    now, then = plan.origin(), store.attributes.origin
    changed = [f"{key} was {then.get(key)!r}, now {value!r}" for key, value in now.items() if then.get(key) != value]
    if changed and replace:
        return None
    if changed:
        raise DataError(
            f"{store.path} is complete, but of other inputs or settings: {'; '.join(changed)}; "
            "add --overwrite to replace it"
        )
    quarantine = read_checked(store.root, store.files[QUARANTINE])
    return PrepareSummary(
        store=store.path,
        fingerprint=store.fingerprint,
        dataset=store.dataset,
        frames=int(store.clips.frames.sum()),
        rows=int(store.clips.rows.sum()),
        seconds=time.monotonic() - began,
        codec=store.codec.name,
        **{**store.attributes.counts, "quarantined": decode_refused(quarantine)},
    )
