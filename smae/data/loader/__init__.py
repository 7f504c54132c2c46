"""Batches of a store's clips, and how they are made of rows; a plain dataset for other training code.

Rows become items on the CPU, through staging buffers, or where they lie on the device.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from smae.data.loader.augment import BatchPlan, Floats, Ints, ItemFormat
from smae.rng import Noise

SPARE_BUFFERS = 4
"""Batches whose memory is kept for later ones: one in use, the others prefetched."""


@dataclass(frozen=True)
class Batch:
    """The present bodies of B clips in V views, all on one device. An absent body is not in it.

    Views of a clip are augmented independently. Items are ordered by view, then clip, then body.

    Attributes:
        x: float32 [N, T, V, C], one item per present body: cropped, resized, augmented; metres.
        clip: int64 [N], which of the B clips the item belongs to; in each view ascending from 0.
        body: int64 [N], 0 or 1: which body of its clip.
        index: int64 [B], clip numbers in the store.
        label: int64 [B], index into the store's classes.
        epoch: 0-based epoch that the batch was drawn in.
        views: V.
        view: int64 [N], which view the item is; None: all are of view 0.
        missing: bool [N, V], joints that an item's recording lacks: they were not measured, so they
            must be neither seen nor predicted; None where the store has all joints of all clips.
        least_joints: with ``missing``, the smallest number of joints that a clip of the store has.
    """

    x: Tensor
    clip: Tensor
    body: Tensor
    index: Tensor
    label: Tensor
    epoch: int
    views: int = 1
    view: Tensor | None = None
    missing: Tensor | None = None
    least_joints: int = 0

    @property
    def clips(self) -> int:
        """Number of clips, B."""
        return int(self.index.shape[0])

    def noise(self, seed: int) -> Noise:
        """Return the noise of the N items, each keyed by its clip number, body and view."""
        view = 0 if self.view is None else self.view
        return Noise(seed, self.epoch, clip=self.index[self.clip], body=self.body, view=view)

    def clip_means(self, features: Tensor) -> Tensor:
        """Return [V, B, ...], the means over bodies of the items' features [N, ...]."""
        group = self.clip if self.view is None else self.view * self.clips + self.clip
        groups, shape = self.views * self.clips, features.shape[1:]
        sums = features.new_zeros(groups, *shape).index_add(0, group, features)
        count = features.new_zeros(groups).index_add(0, group, features.new_ones(len(features)))
        return (sums / count.view(-1, *[1] * len(shape))).view(self.views, self.clips, *shape)


class Assembler(Protocol):
    """Crops, resizes and varies the items of a batch."""

    def __call__(self, rows: Floats, plan: BatchPlan) -> Tensor:
        """Return float32 [N, frames, V, 3] on the device.

        Args:
            rows: float32 [R, V, 3], which hold the windows; they may change once this returns.
            plan: the items.
        """


class CpuAssembler:
    """One Numba kernel from the rows in memory straight into the batch.

    Memory is reused once no batch refers to it any more: fresh memory would cost a page fault every
    4 KB, up to half as much as the work itself.
    """

    def __init__(self, item_format: ItemFormat) -> None:
        self._format = item_format
        self._spare: deque[Floats] = deque(maxlen=SPARE_BUFFERS)

    def __call__(self, rows: Floats, plan: BatchPlan) -> Tensor:
        # Imported here, since every objective imports this module for ``Batch``, and Numba is slow
        # to import.
        from smae.data.loader.kernels import make_items as make_items_numba

        shape = (len(plan.first), self._format.frames, *rows.shape[1:])
        memory = self._memory(math.prod(shape))
        x = memory[: math.prod(shape)].reshape(shape)
        # The tensor and its views refer to x, so x is finalized when the last of them is gone, in
        # any thread.
        weakref.finalize(x, self._spare.append, memory).atexit = False
        make_items_numba(rows, plan, item_format=self._format, out=x)
        return torch.from_numpy(x)

    def _memory(self, size: int) -> Floats:
        with suppress(IndexError):
            memory = self._spare.popleft()
            if len(memory) >= size:
                return memory
        # A quarter more than needed, since batches differ a little.
        return np.empty(size * 5 // 4, np.float32)


class StagedAssembler:
    """For an accelerator: windows are sent through page-locked buffers; items are made there.

    The buffers take turns; one is written again only after its last copy to the device has
    finished. Runs on the caller's current stream.
    """

    def __init__(
        self, item_format: ItemFormat, *, device: torch.device, triton: bool = False, buffers: int = 3
    ) -> None:
        self._format, self._device, self._triton, self._turn = item_format, device, triton, 0
        self._buffers = [torch.empty(0)] * buffers
        self._sent: list[torch.cuda.Event | None] = [None] * buffers

    def __call__(self, rows: Floats, plan: BatchPlan) -> Tensor:
        from smae.data.loader.kernels import copy_windows

        buffer = self._free_buffer((int(plan.length.sum()), *rows.shape[1:]))
        copy_windows(rows, plan.first, plan.length, buffer.numpy())
        windows = buffer.to(self._device, non_blocking=True)
        if self._device.type == "cuda":
            self._sent[self._turn] = torch.cuda.current_stream(self._device).record_event()
        packed = replace(plan, first=np.cumsum(plan.length) - plan.length)
        return _make_items_on_device(windows, packed, item_format=self._format, triton=self._triton)

    def _free_buffer(self, shape: tuple[int, ...]) -> Tensor:
        """Return the next buffer, cut or enlarged to ``shape``, once its last copy has finished."""
        self._turn = (self._turn + 1) % len(self._buffers)
        event = self._sent[self._turn]
        if event is not None:
            event.synchronize()
        buffer = self._buffers[self._turn]
        if len(buffer) < shape[0]:
            # A quarter more than needed, since batches differ a little and page-locking is slow.
            size = (shape[0] * 5 // 4, *shape[1:])
            buffer = self._buffers[self._turn] = torch.empty(size, pin_memory=self._device.type == "cuda")
        return buffer[: shape[0]]


class DeviceAssembler:
    """For rows that fit on the accelerator: they are sent once, and then only plans.

    It must be called with the same rows every time.
    """

    def __init__(self, item_format: ItemFormat, *, device: torch.device, triton: bool = False) -> None:
        self._format, self._device, self._triton = item_format, device, triton
        self._rows: Tensor | None = None
        self._lock = Lock()

    def __call__(self, rows: Floats, plan: BatchPlan) -> Tensor:
        with self._lock:
            if self._rows is None:
                # Not through page-locked memory: the copy is complete on return, for the streams of
                # all iterators.
                self._rows = torch.from_numpy(rows).to(self._device)
        return _make_items_on_device(self._rows, plan, item_format=self._format, triton=self._triton)


def _make_items_on_device(rows: Tensor, plan: BatchPlan, *, item_format: ItemFormat, triton: bool) -> Tensor:
    if triton:
        from smae.data.loader.batch_triton import make_items as make_items_triton

        return make_items_triton(rows, plan, item_format=item_format)
    return make_items(rows, plan, item_format=item_format)


def make_items(rows: Tensor, plan: BatchPlan, *, item_format: ItemFormat) -> Tensor:
    """Return the items of a plan, float32 [N, T, V, 3], of rows [R, V, 3] by torch."""

    def send(array: object) -> Tensor:
        return torch.as_tensor(array).to(rows.device)

    first, length, transform, joint = map(send, (plan.first, plan.length, plan.transform, plan.joint))
    frames = item_format.frames
    x = resample_and_map(rows, first, length, frames=frames, transform=transform, joint=joint)
    present = None if plan.edits is None else (x != 0).flatten(2).any(2)[..., None, None]
    if plan.edits is not None and plan.edits.stretch.any():
        x = stretch_bones(x, send(plan.edits.stretch), bones=item_format.bones)
    if plan.noise is not None:
        clip, body, view = map(send, (plan.noise.clip, plan.noise.body, plan.noise.view))
        x = add_noise(x, replace(plan.noise, clip=clip, body=body, view=view), sigma=item_format.sigma)
    if plan.edits is not None and present is not None:
        x = torch.where(present, x + send(plan.edits.offset)[:, None], x)
    x = to_stream(x, stream=item_format.stream, origin=send(item_format.origin))
    if plan.edits is not None:
        blank = send(plan.edits.joint)[:, None] | send(plan.edits.frame)[:, :, None]
        x = x.masked_fill(blank[..., None], 0)
    return x


def resample_and_map(
    rows: Tensor, first: Tensor, length: Tensor, *, frames: int, transform: Tensor, joint: Tensor
) -> Tensor:
    """Return float32 [N, frames, V, 3]: each item's rows resized in time, then mapped in space.

    Half-pixel centres (``align_corners=False``): output frame i of a window of L frames is at
    (i + 1/2) L / frames - 1/2, not below 0; it is computed as a fraction of integers, so its two
    neighbours and weight are exact. The other arguments are those of ``BatchPlan``.
    """
    position = (2 * torch.arange(frames, device=rows.device) + 1) * length[:, None] - frames
    position = position.clamp_min(0)
    low = position // (2 * frames)
    high = torch.minimum(low + 1, length[:, None] - 1)
    weight = ((position % (2 * frames)).to(torch.float32) / (2 * frames))[..., None, None]
    below, above = rows[first[:, None] + low], rows[first[:, None] + high]
    x = below + weight * (above - below)
    x = torch.gather(x, 2, joint[:, None, :, None].expand_as(x))
    # Sums of three products, not matmul: a matmul may run in TF32, which has 10 bits.
    return (x[..., None, :] * transform[:, None, None]).sum(-1)


def stretch_bones(x: Tensor, change: Tensor, *, bones: Ints) -> Tensor:
    """Return x [N, T, V, C], bones longer by the shares ``change`` [N, V]; see ``Edits``."""
    shift = torch.zeros_like(x)
    for child, parent in bones.tolist():
        longer = change[:, None, child, None] * (x[:, :, child] - x[:, :, parent])
        shift[:, :, child] = shift[:, :, parent] + longer
    return x + shift


def add_noise(x: Tensor, noise: Noise, *, sigma: float) -> Tensor:
    """Add Gaussian noise of deviation ``sigma`` (metres) to non-empty frames of x [N, T, V, C].

    Box and Muller, 1958: sqrt(-2 ln u) (cos, sin)(2 pi v) of uniform u and v are both normal.
    """
    size = x[0].numel()
    pairs = noise.uniform("noise", size + size % 2).unflatten(1, (-1, 2))
    radius, angle = torch.sqrt(-2 * torch.log1p(-pairs[..., 0])), 2 * math.pi * pairs[..., 1]
    normal = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), -1)
    normal = normal.flatten(1)[:, :size].view(x.shape)
    present = (x != 0).flatten(2).any(2)[..., None, None]
    return torch.where(present, x + sigma * normal, x)


def to_stream(x: Tensor, *, stream: str, origin: Tensor) -> Tensor:
    """Return joints x [N, T, V, C] as a stream; see ``Augment`` and ``ItemFormat``."""
    if stream in ("bone", "bone-motion", "relative"):
        x = x - x[:, :, origin].masked_fill((origin < 0)[:, None], 0)
    if stream in ("motion", "bone-motion"):
        return torch.cat((x[:, 1:] - x[:, :-1], torch.zeros_like(x[:, :1])), 1)
    return x


class ClipDataset(Dataset[dict[str, Tensor]]):
    """Some clips of a store, each as the tensors of ``StoreClip.tensors``.

    ``smae``'s own ``Loader`` is faster, augments, and gives bodies one by one; this one is for code
    that expects whole clips from a ``DataLoader``.

    Attributes:
        store: holds the clips.
        index: int64 [n], clip numbers in the store, in the order of the items.
        frames: T of every item; None: each clip's own.
    """

    def __init__(self, store: Any, index: NDArray[np.int64], *, frames: int | None) -> None:
        self.store, self.index, self.frames = store, index, frames

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = self.store[int(self.index[item])].tensors(self.frames)
        return tensors

    @property
    def labels(self) -> NDArray[np.int64]:
        """Int64 [n], label of each item, without reading the clips."""
        return np.asarray(self.store.clips.label)[self.index].astype(np.int64)

    def __repr__(self) -> str:
        return f"ClipDataset({len(self):,} clips of {self.store.path}, frames={self.frames})"
