"""Where the rows of a loader's clips live: all in RAM or on the device (resident), or a few blocks (streaming)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from smae.data.loader.facing import Trunk, facing
from smae.data.loader.memory import in_words
from smae.data.loader.row_kernels import centre, hold, spans, take
from smae.data.loader.sampler import block_of
from smae.errors import EnvironmentFault
from smae.skeleton import Layout

Ints = NDArray[np.int64]
Read = Callable[[], None]


class Columns(Protocol):
    """The columns of a store's clip table that loading needs, one entry per clip."""

    @property
    def offset(self) -> NDArray[np.integer]:
        """First row of each clip."""

    @property
    def frames(self) -> NDArray[np.integer]:
        """Rows of each of its bodies."""

    @property
    def bodies(self) -> NDArray[np.integer]:
        """Its bodies, 1 or 2."""

    @property
    def label(self) -> NDArray[np.integer]:
        """Index into the store's classes."""


class Readable(Protocol):
    """The part of ``Store`` that loading needs."""

    @property
    def fingerprint(self) -> str:
        """Digest of the store's content."""

    @property
    def layout(self) -> Layout:
        """The store's joints."""

    @property
    def mode(self) -> str:
        """How its clips were cleaned: ``reference`` or ``exact``."""

    @property
    def clips(self) -> Columns:
        """The clip table."""

    def __len__(self) -> int: ...

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return float32 [stop - start, V, 3], metres."""


class Held(NamedTuple):
    """The rows of a step's clips, in memory.

    ``rows`` float32 [R, V, 3] and ``present`` uint8 [R] hold them and others; ``start`` int64 [B] is each clip's first
    row there; its crop is taken from ``valid`` int64 [B] frames, of which ``begin`` int64 [B] is the first. ``axes``
    float32 [B, 3, 3] turns each person one way, where that is asked for.
    """

    rows: NDArray[np.float32]
    present: NDArray[np.uint8]
    start: Ints
    begin: Ints
    valid: Ints
    axes: NDArray[np.float32] | None


class Chosen:
    """A loader's clips, ascending: where each lies in the store, and the blocks they fall into.

    Attributes:
        offset, frames, bodies: int64 [n], from the clip table.
        rows: int64 [n], each clip's rows, all bodies together.
        block: int64 [n], 0-based among the blocks in use.
        edges: int64 [blocks + 1]; block k holds the clips edges[k] to edges[k + 1].
        trunk: the joints by which clips are turned one way, or None where they stay as they are.
    """

    def __init__(self, store: Readable, index: Ints, *, block_rows: int, trunk: Trunk | None) -> None:
        columns = store.clips
        self.store, self.trunk = store, trunk
        self.offset, self.frames, self.bodies = (
            np.asarray(column)[index].astype(np.int64) for column in (columns.offset, columns.frames, columns.bodies)
        )
        self.rows = self.frames * self.bodies
        self.number = block_of(self.offset, block_rows=block_rows)
        _, first, self.block = np.unique(self.number, return_index=True, return_inverse=True)
        self.edges = np.append(first, len(index)).astype(np.int64)

    @property
    def nbytes(self) -> int:
        """Size of all chosen rows."""
        return int(self.rows.sum()) * len(self.store.layout) * 12

    def rows_of(self, block: int) -> int:
        """Return the number of rows that the chosen clips of a block have."""
        return int(self.rows[self.edges[block] : self.edges[block + 1]].sum())


class Shelf:
    """Arrays for a number of rows, and what is known of the clips that were read into them."""

    def __init__(self, chosen: Chosen, rows: int) -> None:
        try:
            self.rows = np.empty((rows, len(chosen.store.layout), 3), np.float32)
        except MemoryError:
            need = in_words(rows * len(chosen.store.layout) * 12)
            raise EnvironmentFault(
                f"loading needs {need} of memory for rows, more than there is: stream them"
            ) from None
        self.chosen = chosen
        self.present = np.empty(rows, np.uint8)
        self.start, self.begin, self.valid = (np.zeros(len(chosen.offset), np.int64) for _ in range(3))
        self.axes = np.empty((len(chosen.offset), 3, 3), np.float32) if chosen.trunk else None

    def read(self, block: int, *, at: int) -> None:
        """Read a block in one piece and put its chosen clips end to end from row ``at``; gaps (NaN) are filled."""
        chosen, clips = self.chosen, slice(int(self.chosen.edges[block]), int(self.chosen.edges[block + 1]))
        offset, count = chosen.offset[clips], chosen.rows[clips]
        first = int(offset[0])
        raw = chosen.store.rows(first, int(offset[-1] + count[-1]))
        start = self.start[clips] = at + np.cumsum(count) - count
        stop = int(at + count.sum())
        gaps = take(raw, offset - first, count, self.rows[at:stop], self.present[at:stop])
        frames, bodies = chosen.frames[clips], chosen.bodies[clips]
        # What was cleaned here is centred; what others cleaned may lie anywhere.
        centre(self.rows, self.present, start, frames, bodies, chosen.store.layout.centre)
        if gaps:
            track = np.repeat(frames, bodies)
            hold(self.rows, at + np.cumsum(track) - track, track)
        if chosen.trunk and self.axes is not None:
            across, spine, upright = chosen.trunk.across, chosen.trunk.spine, chosen.trunk.upright
            facing(self.rows, self.present, start, count, across, spine, upright, self.axes[clips])
        # Frames of an exact store keep their time, so counting frames would cut off the end of a clip with a pause.
        prefix = chosen.store.mode != "exact"
        spans(self.present, start, frames, bodies, prefix, self.begin[clips], self.valid[clips])

    def held(self, step: Ints) -> Held:
        """Return the clips at the positions of a step."""
        axes = None if self.axes is None else self.axes[step]
        return Held(self.rows, self.present, self.start[step], self.begin[step], self.valid[step], axes)


class Resident:
    """All rows of the chosen clips, read once, on first use."""

    def __init__(self, chosen: Chosen, *, workers: int) -> None:
        self._chosen, self._workers = chosen, workers
        self._shelf: Shelf | None = None

    def serve(self, steps: list[Ints]) -> Generator[Held, None, None]:
        """Yield the rows of each step's clips."""
        self._shelf = self._shelf or self._fill()
        for step in steps:
            yield self._shelf.held(step)

    def _fill(self) -> Shelf:
        shelf = Shelf(self._chosen, int(self._chosen.rows.sum()))
        with _readers(self._workers) as submit:
            at, reads = 0, []
            for block in range(len(self._chosen.edges) - 1):
                reads.append(submit(_reading(shelf, block, at)))
                at += self._chosen.rows_of(block)
            for read in reads:
                read()
        return shelf


class Streaming:
    """Whole blocks, read ahead in the order of their first use and dropped after their last."""

    def __init__(self, chosen: Chosen, *, workers: int, window: int) -> None:
        self._chosen, self._workers, self._window = chosen, workers, window

    def serve(self, steps: list[Ints]) -> Generator[Held, None, None]:
        """Yield the rows of each step's clips; what was yielded is valid until the next is asked for.

        At most ``window`` + 1 blocks are in memory, or as many as one step's clips need at once, if more.
        """
        uses = [np.unique(self._chosen.block[step]).tolist() for step in steps]
        last = {block: i for i, blocks in enumerate(uses) for block in blocks}
        waiting = list(dict.fromkeys(block for blocks in uses for block in blocks))[::-1]
        if not waiting:
            return
        slots = min(max(self._window + 1, _most_open(uses, last)), len(waiting))
        height = max(map(self._chosen.rows_of, waiting))
        shelf = Shelf(self._chosen, slots * height)
        free, slot_of, reads = list(range(slots)), dict[int, int](), dict[int, Read]()
        with _readers(self._workers) as submit:
            for i, step in enumerate(steps):
                while free and waiting:
                    block = waiting.pop()
                    slot_of[block] = free.pop()
                    reads[block] = submit(_reading(shelf, block, slot_of[block] * height))
                for block in uses[i]:
                    reads.pop(block, _nothing)()
                yield shelf.held(step)
                free.extend(slot_of.pop(block) for block in uses[i] if last[block] == i)


def _most_open(uses: list[list[int]], last: dict[int, int]) -> int:
    """Return the largest number of blocks between their first and last use at any step."""
    opened: set[int] = set()
    most = 0
    for i, blocks in enumerate(uses):
        opened.update(blocks)
        most = max(most, len(opened))
        opened.difference_update(block for block in blocks if last[block] == i)
    return most


def _nothing() -> None:
    """Stand for the read of a block that has been read."""


def _reading(shelf: Shelf, block: int, at: int) -> Read:
    return lambda: shelf.read(block, at=at)


@contextmanager
def _readers(workers: int) -> Iterator[Callable[[Read], Read]]:
    """Give a function that starts a read and returns how to wait for it; without workers, waiting does the reading."""
    if workers == 0:
        yield lambda read: read
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="smae-reader")
    try:
        yield lambda read: pool.submit(read).result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
