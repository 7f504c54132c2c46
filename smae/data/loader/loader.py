"""The loader: a store's clips, in the epoch's order, to batches of bodies on the device."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from smae.data.loader import Assembler, Batch, CpuAssembler, DeviceAssembler, StagedAssembler, sampler
from smae.data.loader.augment import (
    Augment,
    BatchPlan,
    ItemFormat,
    Variation,
    ViewCrop,
    concatenate_edits,
    crop_windows,
    draw_variation,
    mirror_tables,
    origin_joints,
    outward_bones,
    trunk_of,
)
from smae.data.loader.kernels import present_bodies
from smae.data.loader.row_cache import (
    ClipSelection,
    ReadableStore,
    ResidentRows,
    RowView,
    StreamedRows,
    choose_residency,
)
from smae.data.loader.sampler import Ints, RowMode
from smae.errors import ConfigError
from smae.jit import KernelChoice, use_triton
from smae.rng import MAX_CLIPS, MAX_VIEWS, Noise

T = TypeVar("T")
Made = Generator[tuple[Batch, torch.cuda.Event | None], None, None]

PREFETCH = 2
"""Batches prepared ahead of the one in use."""

DRAWN_CLIPS = 4096
"""Clips whose variations are drawn together: for one batch, calls would take most of the time."""


class Loader:
    """Batches of a store's clips, epoch by epoch.

    What a batch holds depends on the store, the clips, ``augment``, ``batch``, ``window``, ``seed``
    and the epoch, and on nothing else: resident or streaming, with any number of workers, batches
    are equal bit for bit. Among several ranks, each gets its own part of every batch.

    Attributes:
        index: int64 [n], the clips, ascending.
        per_epoch: number of clips that an epoch takes: all, unless ``shares`` leave some out.
        residency: where rows are kept (device, RAM, streamed) and why; prints as one line.
    """

    def __init__(
        self,
        store: ReadableStore,
        index: NDArray[np.int64],
        *,
        augment: Augment,
        batch: int,
        seed: int,
        train: bool,
        device: torch.device,
        workers: int = 1,
        window: int = 8,
        drop_last: bool = False,
        mode: RowMode = "auto",
        kernel: KernelChoice = "torch",
        augmented: bool | None = None,
        block_rows: int = sampler.BLOCK_ROWS,
        rank: int = 0,
        world: int = 1,
        views: int = 1,
        crops: Sequence[ViewCrop | None] = (),
        cameras: bool = False,
        shares: Sequence[float] = (),
        by_subject: bool = False,
    ) -> None:
        """Plan the loading; nothing is read yet.

        Args:
            store: holds the clips.
            index: clip numbers, in any order, each once; taken in store order.
            augment: how clips are cropped, resized and varied.
            batch: clips in a batch, of all ranks together.
            seed: the run's seed, 0 <= seed < 2**64.
            train: shuffle, or keep store order.
            device: of the batches.
            workers: threads that read, beside one that prepares batches; 0: the caller's alone.
            window: blocks shuffled together, and kept in memory when streaming.
            drop_last: leave out a last batch that is not full.
            mode: keep the rows on the device, in RAM, stream them, or decide by the free memory.
            kernel: on a GPU several passes of torch, or one of Triton; on the CPU it is Numba's.
            augmented: vary the clips at random, or take their centre; None: like ``train``.
            block_rows: rows of a block.
            rank: number of this process, from 0.
            world: number of processes.
            views: augmented views of each clip in a batch; the first is what one view gives.
            crops: how each view is cropped, or None for ``augment.crop``; empty: all by that.
            cameras: take the second and further views from other cameras' recordings of the act.
            shares: of the store's sources among the clips of an epoch; empty: all clips.
            by_subject: make each batch of clips of few subjects; unknown ones count as one.

        Raises:
            ConfigError: an empty index, numbers outside the store or given twice, a size below its
                least value, a batch with fewer clips than ranks, a layout without a trunk to
                align, or ``cameras`` without a second view, or for a store that does not say which
                recordings show one act.
            EnvironmentFault: ``kernel`` is ``triton``, which cannot run here.
        """
        self.index = _check_index(index, clips=len(store))
        self._member = np.asarray(store.member)[self.index]
        self._subject: Ints | None = None
        if by_subject:
            pairs = np.stack([self._member, store.clips.subject[self.index]], 1)
            self._subject = np.unique(pairs, axis=0, return_inverse=True)[1].ravel()
        self._taken: Ints | None = None
        if shares:
            self._taken = sampler.clips_by_share(np.bincount(self._member, minlength=len(shares)), shares)
        self.per_epoch = len(self.index) if self._taken is None else int(self._taken.sum())
        least = {"batch": (batch, 1), "workers": (workers, 0), "window": (window, 1), "views": (views, 1)}
        for name, (value, smallest) in least.items():
            if value < smallest:
                raise ConfigError(f"loader: {name} must be at least {smallest}, found {value}")
        if views > MAX_VIEWS or len(store) > MAX_CLIPS:
            raise ConfigError(
                f"loader: at most {MAX_VIEWS} views and {MAX_CLIPS:,} clips can be numbered, found {views} "
                f"and {len(store):,}"
            )
        smallest = batch
        if not drop_last:
            smallest = min(batch, self.per_epoch % batch or batch)
        if smallest < world:
            raise ConfigError(
                f"loader: {world} ranks cannot share a step of {smallest} clips ({self.per_epoch:,} "
                f"clips in batches of {batch}): choose another train.batch, or fewer processes"
            )
        if len(crops) not in (0, views):
            raise ConfigError(f"loader: expected a crop for each of {views} views, found {len(crops)}")
        self.augment, self._views = augment, [augment.of_view(view) for view in range(views)]
        self._within: list[int | None] = [None] * views
        for view, crop in enumerate(crops):
            if crop is not None:
                self._within[view] = crop.within
                changed = {"crop": crop.share, "min_frames": crop.min_frames}
                self._views[view] = self._views[view].model_copy(update=changed)
        # The positions that each view shows; a view in another's window shows the same recording.
        self._shown = np.arange(len(self.index))[None]
        if cameras:
            first = list(range(views))
            for view, within in enumerate(self._within):
                first[view] = view if within is None else first[within]
            self._shown = sampler.other_cameras(store.clips, self.index, views=views)[first]
        self._store, self._batch, self._seed, self._device = store, batch, seed, device
        self._train, self._augmented = train, train if augmented is None else augmented
        self._workers, self._window, self._drop_last = workers, window, drop_last
        self._rank, self._world = rank, world
        trunk = trunk_of(store.layout, align=augment.align)
        self._clips = ClipSelection(store, self.index, block_rows=block_rows, trunk=trunk)
        self.residency = choose_residency(self._clips.nbytes, mode=mode, device=device)
        self._rows: ResidentRows | StreamedRows
        if self.residency.mode == "streaming":
            self._rows = StreamedRows(self._clips, workers=workers, window=window)
        else:
            self._rows = ResidentRows(self._clips, workers=workers)
        self._triton = use_triton(kernel, on_gpu=device.type == "cuda", setting="train.kernel")
        sigma = augment.noise if self._augmented else 0.0
        origin = origin_joints(store.layout, stream=augment.stream)
        bones = outward_bones(store.layout)
        self._format = ItemFormat(augment.frames, origin, bones, sigma, augment.stream)
        self._assembler = self._shared_assembler()
        self._label = np.asarray(store.clips.label)[self.index].astype(np.int64)
        self._joint = mirror_tables(store.layout)
        self._missing = _missing_joints(np.asarray(store.missing), self._joint, self._format)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        if self._drop_last:
            return self.per_epoch // self._batch
        return -(-self.per_epoch // self._batch)

    def order(self, epoch: int) -> Ints:
        """Return int64 [``per_epoch``], the clip numbers in the order of an epoch."""
        return self.index[self._positions(epoch)]

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch.

        Args:
            epoch: 0-based.
            skip: clips that finished steps of this epoch have taken; the rest follows as it would.

        Raises:
            ConfigError: ``skip`` is below 0 or beyond the clips there are.
            DataError: the store's rows fail their checksum (see ``Store.rows``), for that batch.
        """
        if not 0 <= skip <= self.per_epoch:
            there = f"the {self.per_epoch} clips there are"
            raise ConfigError(f"loader: skip must be between 0 and {there}, found {skip}")
        batches = sampler.batches_of(
            self._positions(epoch),
            batch=self._batch,
            skip=skip,
            drop_last=self._drop_last,
            rank=self._rank,
            world=self._world,
        )
        made = self._make(batches, epoch)
        if self._workers:
            made = prefetch(made, depth=PREFETCH)
        return self._synchronised(made)

    def _shared_assembler(self) -> Assembler | None:
        """Return what makes the items of all iterators; None where each iterator needs its own."""
        if self._device.type == "cpu" and not self._triton:
            return CpuAssembler(self._format)
        if self.residency.mode == "device":
            return DeviceAssembler(self._format, device=self._device, triton=self._triton)
        return None

    def _positions(self, epoch: int) -> Ints:
        if not self._train:
            return np.arange(len(self.index))
        draws = sampler.EpochDraws(self._seed, epoch, self._store.fingerprint)
        order = sampler.shuffled(self.index, self._clips.block_number, window=self._window, draws=draws)
        if self._taken is not None:
            order = order[sampler.drawn_by_share(self.index, self._member, self._taken, draws)[order]]
        if self._subject is not None:
            order = sampler.by_subject(order, self._subject[order], batch=self._batch, draws=draws)
        return order

    def _make(self, batches: list[Ints], epoch: int) -> Made:
        """Yield each batch with the event of its end on the device (None on the CPU)."""
        stream = None
        if self._device.type == "cuda":
            stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        # Staging buffers take turns, so each iterator has its own.
        assembler = self._assembler or StagedAssembler(self._format, device=self._device, triton=self._triton)
        with closing(self._rows.views([self._shown[:, batch].ravel() for batch in batches])) as views:
            for batch, variations in self._variations(batches, epoch):
                with torch.cuda.stream(stream) if stream else nullcontext(), torch.no_grad():
                    made = self._compose(next(views), batch, epoch, variations, assembler)
                    done = stream.record_event() if stream else None
                yield made, done

    def _variations(self, batches: list[Ints], epoch: int) -> Iterator[tuple[Ints, list[Variation]]]:
        """Yield each batch with its clips' variation by view, drawn for many at once."""
        group = max(1, DRAWN_CLIPS // self._batch)
        for first in range(0, len(batches), group):
            some = batches[first : first + group]
            clips = self.index[np.concatenate(some)]
            drawn, at = [], 0
            for view, augment in enumerate(self._views):
                noise = Noise(self._seed, epoch, clips, view=view) if self._augmented else None
                drawn.append(draw_variation(noise, len(clips), augment=augment, layout=self._store.layout))
            for batch in some:
                yield batch, [variation.part(at, at + len(batch)) for variation in drawn]
                at += len(batch)

    def _synchronised(self, made: Made) -> Iterator[Batch]:
        """Make the consumer's stream wait for each batch, and its memory wait for that stream."""
        with closing(made):
            for batch, done in made:
                if done is not None:
                    stream = torch.cuda.current_stream(self._device)
                    stream.wait_event(done)
                    for tensor in vars(batch).values():
                        if isinstance(tensor, torch.Tensor):
                            tensor.record_stream(stream)
                yield batch

    def _compose(
        self, rows: RowView, batch: Ints, epoch: int, variations: list[Variation], assembler: Assembler
    ) -> Batch:
        """Return the batch of the clips at the positions ``batch``, one view for each variation."""
        index, shown, all_rows = self.index[batch], self._shown[:, batch], rows
        parts, edits = [], []
        windows: list[tuple[Ints, Ints]] = []
        for view, (augment, within, variation) in enumerate(zip(self._views, self._within, variations, strict=True)):
            at = view % len(shown)
            clips, rows = shown[at], all_rows.part(at * len(batch), (at + 1) * len(batch))
            frames, bodies = self._clips.frames[clips], self._clips.bodies[clips]
            valid = rows.valid if within is None else windows[within][1]
            start, length = crop_windows(valid, variation.crop, augment=augment)
            if within is not None:
                start = windows[within][0] + start
            windows.append((start, length))
            clip, body, first = present_bodies(rows.present, rows.start, frames, bodies, rows.begin + start, length)
            transform = variation.transform
            if rows.axes is not None:
                transform = transform @ rows.axes
            mirrored = variation.mirrored.astype(np.int64)
            missing = self._missing[self._member[clips], mirrored]
            joint = self._joint[mirrored]
            parts.append((clip, body, first, length[clip], transform[clip], joint[clip], missing[clip]))
            edits.append(None if variation.edits is None else variation.edits[clip])
        counts = [len(part[0]) for part in parts]
        view_column = np.repeat(np.arange(len(parts)), counts)
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        clip, body, first, length, transform, joint, missing = columns
        noise = Noise(self._seed, epoch, index[clip], body, view_column) if self._format.sigma else None
        joined = concatenate_edits(edits, counts)
        if joined is not None and missing.any():
            child, parent = self._format.bones.T
            joined.stretch[missing] = 0
            joined.stretch[:, child] *= ~missing[:, parent]
        plan = BatchPlan(first, length, transform, joint, noise, joined)
        x = assembler(rows.rows, plan)
        sent = (clip, body, index, self._label[batch], view_column)
        clip_t, body_t, index_t, label_t, view_t = (torch.from_numpy(column).to(self._device) for column in sent)
        made = Batch(x, clip_t, body_t, index_t, label_t, epoch, views=len(variations), view=view_t)
        if not self._missing.any():
            return made
        least = int((~self._missing).sum(-1).min())
        return replace(made, missing=torch.from_numpy(missing).to(self._device), least_joints=least)


def _missing_joints(missing: NDArray[np.bool_], joint: Ints, form: ItemFormat) -> NDArray[np.bool_]:
    """Return bool [S, 2, V], the joints that each source's items lack, plain and mirrored."""
    lost = missing[:, joint]
    if form.stream in ("bone", "bone-motion", "relative"):
        # What is measured from a missing joint is missing too.
        lost = lost | ((form.origin >= 0) & lost[:, :, form.origin])
    return lost


def _check_index(index: NDArray[np.int64], *, clips: int) -> Ints:
    """Return the clip numbers ascending, or raise ConfigError."""
    ordered, count = np.unique(np.asarray(index, np.int64), return_counts=True)
    if not len(ordered):
        raise ConfigError("loader: expected at least one clip, found none: the chosen split is empty")
    if ordered[0] < 0 or ordered[-1] >= clips:
        worst = ordered[-1] if ordered[-1] >= clips else ordered[0]
        raise ConfigError(
            f"loader: clip numbers must be 0 to {clips - 1}, found {worst}: is the split of another store?"
        )
    if count.max() > 1:
        raise ConfigError(f"loader: each clip may be given once, found clip {ordered[count.argmax()]} more often")
    return ordered


def prefetch(items: Generator[T, None, None], *, depth: int) -> Generator[T, None, None]:
    """Yield what ``items`` yields, made by one background thread at most ``depth`` items ahead.

    An exception in ``items`` is raised here, as it is. However this generator ends (used up,
    closed, garbage-collected, an error), ``items`` is closed by its own thread and the thread has
    ended.
    """
    slots = threading.Semaphore(depth)
    made: queue.SimpleQueue[tuple[str, T | BaseException | None]] = queue.SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        try:
            while slots.acquire() and not stop.is_set():
                made.put(("item", next(items)))
        except StopIteration:
            made.put(("end", None))
        except BaseException as error:
            made.put(("error", error))
        finally:
            items.close()

    # A daemon, so that an iterator still alive at the interpreter's end does not keep it from
    # ending.
    thread = threading.Thread(target=work, name="smae-loader", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = made.get()
            if kind == "end":
                return
            if isinstance(value, BaseException):
                raise value
            slots.release()
            yield value  # type: ignore[misc]
    finally:
        stop.set()
        slots.release()
        thread.join()
