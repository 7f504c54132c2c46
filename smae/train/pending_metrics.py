"""Numbers that the device is still working on: asked for now, read some steps later, without making it wait."""

from __future__ import annotations

import torch
from torch import Tensor


class Late:
    """A copy of a small tensor on its way to the host.

    Reading waits for the work that was given to the device before the copy, and not for any given to it since.
    """

    def __init__(self, values: Tensor) -> None:
        # From a GPU this copy goes to page-locked memory, and so by itself.
        self._values = values.detach().to("cpu", non_blocking=True)
        self._sent = torch.cuda.current_stream(values.device).record_event() if values.is_cuda else None

    def read(self) -> list[float]:
        """Return the numbers, once they are there."""
        if self._sent is not None:
            self._sent.synchronize()
        numbers: list[float] = self._values.tolist()
        return numbers
