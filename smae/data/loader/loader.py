"""The loader: blocks of a store, in the epoch's order, to batches of bodies on the device."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray

from smae.data.loader.assemble import Assemble, Fused, Gathered, Staged
from smae.data.loader.augment import Augment, Variation, vary, windows
from smae.data.loader.batch import Batch
from smae.data.loader.batch_plan import Plan, Style, origins
from smae.data.loader.facing import trunk_of
from smae.data.loader.memory import Mode, choose
from smae.data.loader.prefetch import ahead
from smae.data.loader.row_cache import Chosen, Held, Readable, Resident, Streaming
from smae.data.loader.row_kernels import list_items
from smae.data.loader.sampler import BLOCK_ROWS, Ints, shuffled, steps_of
from smae.errors import ConfigError
from smae.kernels import Choice, wanted
from smae.rng import Noise

AHEAD = 2
"""Batches prepared ahead of the one in use."""

DRAWN = 4096
"""Clips whose variations are drawn together: for a batch's few, most of the time would go into starting to."""


class Loader:
    """Batches of a store's clips, epoch by epoch.

    What a batch holds depends on the store, the clips, ``augment``, ``batch``, ``window``, ``seed`` and the epoch, and
    on nothing else: resident or streaming, with any number of workers, batches are equal bit for bit. Among several
    ranks, each gets its own part of every batch.

    Attributes:
        index: int64 [n], the clips, ascending.
        residency: whether rows are kept on the device, in RAM, or streamed, and why; prints as one line.
    """

    def __init__(
        self,
        store: Readable,
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
        mode: Mode = "auto",
        kernel: Choice = "torch",
        augmented: bool | None = None,
        block_rows: int = BLOCK_ROWS,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Plan the loading; nothing is read yet.

        Args:
            store: where the clips are.
            index: clip numbers, in any order, each once; taken in store order.
            augment: how clips are cropped, resized and varied.
            batch: clips in a batch, of all ranks together.
            seed: the run's seed, 0 <= seed < 2**64.
            train: shuffle, or keep store order.
            device: where batches go.
            workers: threads that read blocks, beside one that prepares batches; 0 does all in the caller's thread.
            window: blocks shuffled together, and kept in memory when streaming.
            drop_last: leave out a last batch that is not full.
            mode: keep the rows on the device, in RAM, stream them, or decide by the free memory.
            kernel: what makes items on a GPU: torch in several passes, or one Triton kernel; on the CPU it is Numba's.
            augmented: vary the clips at random, or take their centre as in testing; like ``train`` unless said.
            block_rows: rows of a block.
            rank: which process this is, from 0 on.
            world: how many there are.

        Raises:
            ConfigError: an empty index, numbers outside the store or given twice, a size below its least value, or a
                batch with fewer clips than ranks, or a layout without a trunk to align.
            EnvironmentFault: a Triton kernel is chosen outright, and cannot run here.
        """
        self.index = _checked(index, clips=len(store))
        for name, value, least in (("batch", batch, 1), ("workers", workers, 0), ("window", window, 1)):
            if value < least:
                raise ConfigError(f"loader: {name} must be at least {least}, found {value}")
        last = len(self.index) % batch if not drop_last else 0
        if min(batch, last or batch) < world:
            raise ConfigError(
                f"loader: {world} ranks cannot share a step of {min(batch, last or batch)} clips ({len(self.index):,} "
                f"clips in batches of {batch}): choose another train.batch, or fewer processes"
            )
        self.augment = augment
        self._rank, self._world = rank, world
        self._store, self._batch, self._seed, self._device = store, batch, seed, device
        self._train, self._augmented = train, train if augmented is None else augmented
        self._workers, self._window, self._drop_last = workers, window, drop_last
        trunk = trunk_of(store.layout, align=augment.align)
        self._chosen = Chosen(store, self.index, block_rows=block_rows, trunk=trunk)
        self.residency = choose(self._chosen.nbytes, mode=mode, device=device)
        self._source: Resident | Streaming = (
            Streaming(self._chosen, workers=workers, window=window)
            if self.residency.mode == "streaming"
            else Resident(self._chosen, workers=workers)
        )
        self._triton = wanted(kernel, on_gpu=device.type == "cuda", setting="train.kernel")
        sigma = augment.noise if self._augmented else 0.0
        self._style = Style(
            augment.frames, origins(store.layout, stream=augment.stream), sigma=sigma, stream=augment.stream
        )
        self._assemble = self._assembler()
        self._label = np.asarray(store.clips.label)[self.index].astype(np.int64)
        self._joint = _joint_tables(store)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self.index) // self._batch if self._drop_last else -(-len(self.index) // self._batch)

    def order(self, epoch: int) -> Ints:
        """Return int64 [n], the clip numbers in the order in which an epoch takes them."""
        return self.index[self._positions(epoch)]

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch.

        Args:
            epoch: 0-based.
            skip: clips that finished steps of this epoch have already taken; the rest follows exactly as it would have.

        Raises:
            ConfigError: ``skip`` is below 0 or beyond the clips there are.
            DataError: the store's rows fail their checksum (see ``Store.rows``); raised where the batch is asked for.
        """
        if not 0 <= skip <= len(self.index):
            raise ConfigError(f"loader: skip must be between 0 and the {len(self.index)} clips there are, found {skip}")
        steps = steps_of(
            self._positions(epoch),
            batch=self._batch,
            skip=skip,
            drop_last=self._drop_last,
            rank=self._rank,
            world=self._world,
        )
        made = self._make(steps, epoch)
        return self._hand_over(ahead(made, depth=AHEAD) if self._workers else made)

    def _assembler(self) -> Assemble | None:
        """Return what makes the items of all iterators, where one can."""
        if self._device.type == "cpu" and not self._triton:
            return Fused(self._style)
        if self.residency.mode == "device":
            return Gathered(self._style, device=self._device, triton=self._triton)
        return None

    def _positions(self, epoch: int) -> Ints:
        if not self._train:
            return np.arange(len(self.index))
        return shuffled(
            self.index,
            self._chosen.number,
            window=self._window,
            seed=self._seed,
            epoch=epoch,
            fingerprint=self._store.fingerprint,
        )

    def _make(self, steps: list[Ints], epoch: int) -> Generator[tuple[Batch, torch.cuda.Event | None], None, None]:
        """Yield each step's batch with the event that tells when the device has finished it (None on the CPU)."""
        cuda = self._device.type == "cuda"
        side = torch.cuda.Stream(self._device) if cuda else None  # type: ignore[no-untyped-call]
        # Staged has buffers that take turns, so each iterator has its own.
        assemble = self._assemble or Staged(self._style, device=self._device, triton=self._triton)
        with closing(self._source.serve(steps)) as held:
            for step, variation in self._variations(steps, epoch):
                with torch.cuda.stream(side) if side else nullcontext(), torch.no_grad():
                    batch = self._compose(next(held), step, epoch, variation, assemble)
                    done = side.record_event() if side else None
                yield batch, done

    def _variations(self, steps: list[Ints], epoch: int) -> Iterator[tuple[Ints, Variation]]:
        """Yield each step with its clips' variations, drawn for many steps at once."""
        group = max(1, DRAWN // self._batch)
        for first in range(0, len(steps), group):
            some = steps[first : first + group]
            clips = self.index[np.concatenate(some)]
            noise = Noise(self._seed, epoch, clips) if self._augmented else None
            drawn, at = vary(noise, len(clips), augment=self.augment), 0
            for step in some:
                yield step, drawn.part(at, at + len(step))
                at += len(step)

    def _hand_over(self, made: Generator[tuple[Batch, torch.cuda.Event | None], None, None]) -> Iterator[Batch]:
        """Make the consumer's stream wait for each batch, and keep its memory from being reused too early."""
        with closing(made):
            for batch, done in made:
                if done is not None:
                    stream = torch.cuda.current_stream(self._device)
                    stream.wait_event(done)
                    for tensor in (batch.x, batch.clip, batch.body, batch.index, batch.label):
                        tensor.record_stream(stream)
                yield batch

    def _compose(self, held: Held, step: Ints, epoch: int, variation: Variation, assemble: Assemble) -> Batch:
        """Return the batch of the clips at the positions of a step."""
        start, length = windows(held.valid, variation.crop, augment=self.augment)
        frames, bodies = self._chosen.frames[step], self._chosen.bodies[step]
        clip, body, first = list_items(held.present, held.start, frames, bodies, held.begin + start, length)
        joint = self._joint[variation.mirrored.astype(np.int64)]
        space = variation.space if held.axes is None else variation.space @ held.axes
        index = self.index[step]
        noise = Noise(self._seed, epoch, index[clip], body) if self._style.sigma else None
        x = assemble(held.rows, Plan(first, length[clip], space[clip], joint[clip], noise))
        columns = (clip, body, index, self._label[step])
        clip_t, body_t, index_t, label_t = (torch.from_numpy(column).to(self._device) for column in columns)
        return Batch(x, clip_t, body_t, index_t, label_t, epoch)


def _checked(index: NDArray[np.int64], *, clips: int) -> Ints:
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


def _joint_tables(store: Readable) -> Ints:
    """Return int64 [2, V]: the joint each joint is taken from, as it is and with left and right swapped."""
    tables = np.tile(np.arange(len(store.layout)), (2, 1))
    for left, right in store.layout.mirror:
        tables[1, [left, right]] = right, left
    return tables
