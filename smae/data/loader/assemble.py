"""From a batch's plan to one tensor of items on the device: fused on the CPU, staged for a GPU, or gathered on it."""

from __future__ import annotations

import math
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from smae.data.loader import batch_numba as items_fast
from smae.data.loader.batch_plan import Floats, Plan, Style
from smae.data.loader.batch_torch import make_items
from smae.data.loader.row_kernels import copy_windows

KEPT = 4
"""Batches whose memory is kept for the next: one in use, the others ahead of it."""


class Assemble(Protocol):
    """Crop, resize and vary the items of a batch."""

    def __call__(self, rows: Floats, plan: Plan) -> Tensor:
        """Return float32 [N, frames, V, 3] on the device.

        Args:
            rows: float32 [R, V, 3], where the windows lie; free to change once this returns.
            plan: the items.
        """


class Fused:
    """On the CPU: one kernel from the resident rows straight into the batch.

    A batch that nobody holds any more gives its memory to the next: fresh memory would cost a page fault every 4 KB,
    up to half as much as the work itself.
    """

    def __init__(self, style: Style) -> None:
        self._style = style
        self._given_back: deque[Floats] = deque(maxlen=KEPT)

    def __call__(self, rows: Floats, plan: Plan) -> Tensor:
        """Return float32 [N, frames, V, 3]; see ``Assemble``."""
        shape = (len(plan.first), self._style.frames, *rows.shape[1:])
        memory = self._memory(math.prod(shape))
        x = memory[: math.prod(shape)].reshape(shape)
        # The tensor and all its views hold x, and x alone knows when the last of them is gone, in whatever thread.
        weakref.finalize(x, self._given_back.append, memory).atexit = False
        items_fast.make_items(rows, plan, style=self._style, out=x)
        return torch.from_numpy(x)

    def _memory(self, size: int) -> Floats:
        with suppress(IndexError):
            memory = self._given_back.popleft()
            if len(memory) >= size:
                return memory
        # A quarter more than asked for, since batches differ a little.
        return np.empty(size * 5 // 4, np.float32)


class Staged:
    """For an accelerator: copy the windows, ragged, into a page-locked buffer, send that, and do the rest over there.

    The buffers are used in turn; one is written again only after its last copy to the device has finished. Runs on
    the current stream of the caller.
    """

    def __init__(self, style: Style, *, device: torch.device, triton: bool = False, buffers: int = 3) -> None:
        self._style, self._device, self._triton, self._turn = style, device, triton, 0
        self._buffers = [torch.empty(0)] * buffers
        self._sent: list[torch.cuda.Event | None] = [None] * buffers

    def __call__(self, rows: Floats, plan: Plan) -> Tensor:
        """Return float32 [N, frames, V, 3]; see ``Assemble``."""
        buffer = self._free_buffer((int(plan.length.sum()), *rows.shape[1:]))
        copy_windows(rows, plan.first, plan.length, buffer.numpy())
        ragged = buffer.to(self._device, non_blocking=True)
        if self._device.type == "cuda":
            self._sent[self._turn] = torch.cuda.current_stream(self._device).record_event()
        here = replace(plan, first=np.cumsum(plan.length) - plan.length)
        return on_device(ragged, here, style=self._style, triton=self._triton)

    def _free_buffer(self, shape: tuple[int, ...]) -> Tensor:
        """Return the next buffer, cut to ``shape``, once its last copy is over; make a larger one if need be."""
        self._turn = (self._turn + 1) % len(self._buffers)
        event = self._sent[self._turn]
        if event is not None:
            event.synchronize()
        buffer = self._buffers[self._turn]
        if len(buffer) < shape[0]:
            # A quarter more than asked for, since batches differ a little and page-locking is slow.
            size = (shape[0] * 5 // 4, *shape[1:])
            buffer = self._buffers[self._turn] = torch.empty(size, pin_memory=self._device.type == "cuda")
        return buffer[: shape[0]]


class Gathered:
    """For rows that fit into an accelerator's memory: sent there once, at the first batch; what travels then is a plan.

    Whoever uses it gives the same rows every time.
    """

    def __init__(self, style: Style, *, device: torch.device, triton: bool = False) -> None:
        self._style, self._device, self._triton = style, device, triton
        self._rows: Tensor | None = None
        self._sending = Lock()

    def __call__(self, rows: Floats, plan: Plan) -> Tensor:
        """Return float32 [N, frames, V, 3]; see ``Assemble``."""
        with self._sending:
            if self._rows is None:
                # Not through page-locked memory, so the rows are there on return, for the streams of all iterators.
                self._rows = torch.from_numpy(rows).to(self._device)
        return on_device(self._rows, plan, style=self._style, triton=self._triton)


def on_device(rows: Tensor, plan: Plan, *, style: Style, triton: bool) -> Tensor:
    """Return float32 [N, frames, V, 3] from rows on a device: by torch, or by one Triton kernel."""
    if triton:
        from smae.data.loader import batch_triton as items_triton

        return items_triton.make_items(rows, plan, style=style)
    return make_items(rows, plan, style=style)
