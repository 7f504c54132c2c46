"""The rows of a loader's clips in memory: all (resident), or a few blocks (streaming)."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from smae.data.loader.augment import Trunk
from smae.data.loader.kernels import centre_clips, copy_clips, facing_axes, fill_gaps, valid_frames
from smae.data.loader.sampler import RowMode, block_of
from smae.errors import ConfigError, EnvironmentFault
from smae.skeleton import Layout

Ints = NDArray[np.int64]
Read = Callable[[], None]


class ReadableStore(Protocol):
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
    def clips(self) -> Any:
        """The clip table: arrays ``offset``, ``frames``, ``bodies``, ``label``, by clip."""

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Bool [S, V], the joints that the recordings of each of its S sources lack."""

    @property
    def member(self) -> Ints:
        """Int64 [B], which of the S sources each clip is of."""

    def __len__(self) -> int: ...

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return float32 [stop - start, V, 3], metres."""


@dataclass(frozen=True)
class Residency:
    """Where a loader keeps its rows and why; ``str()`` is one line for people.

    Attributes:
        mode: ``device``: all rows in the accelerator's memory; ``resident``: all in RAM;
            ``streaming``: a few blocks.
        why: the sizes that decided, or that it was asked for.
    """

    mode: Literal["device", "resident", "streaming"]
    why: str

    def __str__(self) -> str:
        name = {"device": "resident on the device"}.get(self.mode, self.mode)
        return f"{name}: {self.why}"


def choose_residency(need: int, *, mode: RowMode, device: torch.device) -> Residency:
    """Decide where to keep ``need`` bytes of rows: as ``mode`` says, or by free memory.

    Rows fit if they take no more than a quarter of the memory that is free now. Those kept on an
    accelerator are kept in RAM too, where batches are planned. The CPU is no ``device``: a ``ConfigError``.
    """
    if mode == "device" and device.type == "cpu":
        raise ConfigError("loader: train.rows=device needs a GPU, found the CPU: choose auto, resident or streaming")
    if mode != "auto":
        return Residency(mode, f"as asked; the rows take {format_bytes(need)}")
    free = free_memory()
    why = f"in a quarter of the {format_bytes(free)} of free memory"
    if need > free // 4:
        return Residency("streaming", f"{format_bytes(need)} of rows do not fit {why}")
    why = f"{format_bytes(need)} of rows fit {why}"
    if device.type != "cuda":
        return Residency("resident", why)
    on_device = free_device_memory(device)
    if need <= on_device // 4:
        return Residency("device", f"{why}, and of the device's {format_bytes(on_device)}")
    return Residency("resident", f"{why}, but not of the device's {format_bytes(on_device)}")


def free_device_memory(device: torch.device) -> int:
    """Return the bytes that are free on a GPU."""
    return int(torch.cuda.mem_get_info(device)[0])


def free_memory() -> int:
    """Return the free bytes of the machine, or of this process's control group if less."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    group = Path("/sys/fs/cgroup")
    limit, used = _lines(group / "memory.max"), _lines(group / "memory.current")
    if limit and used and limit[0].isdigit():
        free = min(free, max(0, int(limit[0]) - int(used[0])))
    return free


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split("\n")
    except OSError:
        return []


def format_bytes(count: int) -> str:
    """Return a number of bytes in GB or MB."""
    return f"{count / 1e9:.1f} GB" if count >= 10**8 else f"{count / 1e6:.1f} MB"


class RowView(NamedTuple):
    """The rows of a batch's clips, in memory.

    Attributes:
        rows: float32 [R, V, 3], with other clips' rows among them.
        present: uint8 [R], whether a row shows a body.
        start: int64 [B], each clip's first row.
        begin: int64 [B], the first frame to crop from.
        valid: int64 [B], the frames to crop from.
        axes: float32 [B, 3, 3], each clip's view normalisation, if any.
    """

    rows: NDArray[np.float32]
    present: NDArray[np.uint8]
    start: Ints
    begin: Ints
    valid: Ints
    axes: NDArray[np.float32] | None

    def part(self, first: int, stop: int) -> RowView:
        """Return the view of the clips ``first`` to ``stop`` - 1 of the batch."""
        axes = None if self.axes is None else self.axes[first:stop]
        start, begin, valid = (column[first:stop] for column in (self.start, self.begin, self.valid))
        return RowView(self.rows, self.present, start, begin, valid, axes)


class ClipSelection:
    """A loader's clips, ascending: where each is in the store, and the blocks that hold them.

    Attributes:
        offset, frames, bodies: int64 [n], from the clip table.
        rows: int64 [n], each clip's rows, all bodies together.
        block_number: int64 [n], each clip's block in the store.
        block: int64 [n], 0-based among the blocks in use.
        edges: int64 [blocks + 1]; block k holds the clips edges[k] to edges[k + 1].
        trunk: the joints of view normalisation, or None.
    """

    def __init__(self, store: ReadableStore, index: Ints, *, block_rows: int, trunk: Trunk | None) -> None:
        self.store, self.trunk, table = store, trunk, store.clips
        self.offset, self.frames, self.bodies = (
            np.asarray(column)[index].astype(np.int64) for column in (table.offset, table.frames, table.bodies)
        )
        self.rows = self.frames * self.bodies
        self.block_number = block_of(self.offset, block_rows=block_rows)
        _, first, self.block = np.unique(self.block_number, return_index=True, return_inverse=True)
        self.edges = np.append(first, len(index)).astype(np.int64)

    @property
    def nbytes(self) -> int:
        return int(self.rows.sum()) * len(self.store.layout) * 12

    def rows_of(self, block: int) -> int:
        """Return the number of rows that the selected clips of a block have."""
        return int(self.rows[self.edges[block] : self.edges[block + 1]].sum())


class RowBuffer:
    """Memory for a number of rows, and what was computed of the clips read into it."""

    def __init__(self, clips: ClipSelection, rows: int) -> None:
        joints = len(clips.store.layout)
        try:
            self.rows = np.empty((rows, joints, 3), np.float32)
        except MemoryError:
            raise EnvironmentFault(
                f"loading needs {format_bytes(rows * joints * 12)} of memory for rows, more than there is: stream them"
            ) from None
        self.clips = clips
        self.present = np.empty(rows, np.uint8)
        self.start, self.begin, self.valid = (np.zeros(len(clips.offset), np.int64) for _ in range(3))
        self.axes = np.empty((len(clips.offset), 3, 3), np.float32) if clips.trunk else None

    def read(self, block: int, *, at: int) -> None:
        """Read a block and put its selected clips end to end from row ``at``, gaps filled."""
        clips = self.clips
        part = slice(int(clips.edges[block]), int(clips.edges[block + 1]))
        offset, count = clips.offset[part], clips.rows[part]
        frames, bodies = clips.frames[part], clips.bodies[part]
        first = int(offset[0])
        raw = clips.store.rows(first, int(offset[-1] + count[-1]))
        start = self.start[part] = at + np.cumsum(count) - count
        stop = int(at + count.sum())
        gaps = copy_clips(raw, offset - first, count, self.rows[at:stop], self.present[at:stop])
        # smae's own clips are centred already; clips that others cleaned may be anywhere.
        centre_clips(self.rows, self.present, start, frames, bodies, clips.store.layout.centre)
        if gaps:
            track = np.repeat(frames, bodies)
            fill_gaps(self.rows, at + np.cumsum(track) - track, track)
        if clips.trunk and self.axes is not None:
            across, spine, upright = clips.trunk.across, clips.trunk.spine, clips.trunk.upright
            facing_axes(self.rows, self.present, start, count, across, spine, upright, self.axes[part])
        # Frames of an exact store keep their time: counting frames would cut off the end of a clip
        # with a pause.
        counted = clips.store.mode != "exact"
        valid_frames(self.present, start, frames, bodies, counted, self.begin[part], self.valid[part])

    def view(self, batch: Ints) -> RowView:
        """Return the clips at the positions of a batch."""
        axes = None if self.axes is None else self.axes[batch]
        return RowView(self.rows, self.present, self.start[batch], self.begin[batch], self.valid[batch], axes)


class ResidentRows:
    """All rows of the selected clips, read once, on first use."""

    def __init__(self, clips: ClipSelection, *, workers: int) -> None:
        self._clips, self._workers = clips, workers
        self._buffer: RowBuffer | None = None

    def views(self, batches: list[Ints]) -> Generator[RowView, None, None]:
        """Yield the rows of each batch's clips."""
        self._buffer = self._buffer or self._read_all()
        for batch in batches:
            yield self._buffer.view(batch)

    def _read_all(self) -> RowBuffer:
        buffer = RowBuffer(self._clips, int(self._clips.rows.sum()))
        with _readers(self._workers) as submit:
            at, reads = 0, []
            for block in range(len(self._clips.edges) - 1):
                reads.append(submit(_reading(buffer, block, at)))
                at += self._clips.rows_of(block)
            for read in reads:
                read()
        return buffer


class StreamedRows:
    """Whole blocks, read ahead in the order of their first use and dropped after their last."""

    def __init__(self, clips: ClipSelection, *, workers: int, window: int) -> None:
        self._clips, self._workers, self._window = clips, workers, window

    def views(self, batches: list[Ints]) -> Generator[RowView, None, None]:
        """Yield the rows of each batch's clips, each valid until the next is asked for.

        At most ``window`` + 1 blocks are in memory, or those that one batch needs, if more.
        """
        uses = [np.unique(self._clips.block[batch]).tolist() for batch in batches]
        last_use = {block: i for i, blocks in enumerate(uses) for block in blocks}
        waiting = list(dict.fromkeys(block for blocks in uses for block in blocks))[::-1]
        if not waiting:
            return
        slots = min(max(self._window + 1, _most_open(uses, last_use)), len(waiting))
        height = max(map(self._clips.rows_of, waiting))
        buffer = RowBuffer(self._clips, slots * height)
        free, slot_of, reads = list(range(slots)), dict[int, int](), dict[int, Read]()
        with _readers(self._workers) as submit:
            for i, batch in enumerate(batches):
                # A slot that became free is filled at once, so that reading stays ahead of use.
                while free and waiting:
                    block = waiting.pop()
                    slot_of[block] = free.pop()
                    reads[block] = submit(_reading(buffer, block, slot_of[block] * height))
                for block in uses[i]:
                    if block in reads:
                        reads.pop(block)()
                yield buffer.view(batch)
                free.extend(slot_of.pop(block) for block in uses[i] if last_use[block] == i)


def _most_open(uses: list[list[int]], last_use: dict[int, int]) -> int:
    """Return the largest number of blocks between their first and last use at any batch."""
    opened: set[int] = set()
    most = 0
    for i, blocks in enumerate(uses):
        opened.update(blocks)
        most = max(most, len(opened))
        opened.difference_update(block for block in blocks if last_use[block] == i)
    return most


def _reading(buffer: RowBuffer, block: int, at: int) -> Read:
    return lambda: buffer.read(block, at=at)


@contextmanager
def _readers(workers: int) -> Iterator[Callable[[Read], Read]]:
    """Give a function that starts a read and returns how to wait for it (without workers: read)."""
    if workers == 0:
        yield lambda read: read
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="smae-reader")
    try:
        yield lambda read: pool.submit(read).result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
