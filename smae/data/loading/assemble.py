"""From crop windows lying in RAM to one tensor of items on the device: fused on the CPU, staged for an accelerator."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smae.data.loading import augment_fast
from smae.data.loading.augment import resample_and_map

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Assemble(Protocol):
    """Crop, resize and map the windows of a batch."""

    def __call__(self, rows: Floats, first: Ints, length: Ints, *, map: Floats, joint: Ints) -> Tensor:
        """Return float32 [N, frames, V, 3] on the device.

        Args:
            rows: float32 [R, V, 3], where the windows lie; free to change once this returns.
            first: int64 [N], each window's first row.
            length: int64 [N], each window's rows.
            map: float32 [N, 3, 3], linear map of space.
            joint: int64 [N, V], the joint each output joint is taken from.
        """


class Fused:
    """On the CPU: one kernel from the resident rows straight into the batch."""

    def __init__(self, *, frames: int) -> None:
        self._frames = frames

    def __call__(self, rows: Floats, first: Ints, length: Ints, *, map: Floats, joint: Ints) -> Tensor:
        """Return float32 [N, frames, V, 3]; see ``Assemble``."""
        x = torch.empty((len(first), self._frames, *rows.shape[1:]), dtype=torch.float32)
        augment_fast.resample_and_map(rows, first, length, map, joint, x.numpy())
        return x


class Staged:
    """For an accelerator: copy the windows, ragged, into a page-locked buffer, send that, and do the rest over there.

    The buffers are used in turn; one is written again only after its last copy to the device has finished. Runs on
    the current stream of the caller.
    """

    def __init__(self, *, frames: int, device: torch.device, buffers: int = 3) -> None:
        self._frames, self._device, self._turn = frames, device, 0
        self._buffers = [torch.empty(0)] * buffers
        self._sent: list[torch.cuda.Event | None] = [None] * buffers

    def __call__(self, rows: Floats, first: Ints, length: Ints, *, map: Floats, joint: Ints) -> Tensor:
        """Return float32 [N, frames, V, 3]; see ``Assemble``."""
        buffer = self._free_buffer((int(length.sum()), *rows.shape[1:]))
        augment_fast.copy_windows(rows, first, length, buffer.numpy())
        ragged = buffer.to(self._device, non_blocking=True)
        if self._device.type == "cuda":
            self._sent[self._turn] = torch.cuda.current_stream(self._device).record_event()
        place, extent, space, source = (
            torch.from_numpy(array).to(self._device) for array in (np.cumsum(length) - length, length, map, joint)
        )
        return resample_and_map(ragged, place, extent, frames=self._frames, map=space, joint=source)

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
