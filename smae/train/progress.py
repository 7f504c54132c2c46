"""How training gets on, for people: pace, mean loss, time left."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where training stands, for people.

    Attributes:
        step: optimiser steps done, of ``steps``.
        epoch: epochs begun, of ``epochs``.
        loss: mean over the steps since the last report.
        lr: learning rate of the last step.
        clips_per_second: since the last report.
        seconds_left: at the pace of this process so far.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    lr: float
    clips_per_second: float
    seconds_left: float


class Clock:
    """Measures pace: since the last report for the rate, since the start for the time left.

    Args:
        step: steps that were done before.
        steps, epochs: in all.
    """

    def __init__(self, step: int, *, steps: int, epochs: int) -> None:
        self._first, self._steps, self._epochs = step, steps, epochs
        self._begun = self._marked = self._last_save = time.monotonic()
        self._clips, self._losses = 0, list[float]()

    def count(self, clips: int, loss: float) -> None:
        """Note a finished step."""
        self._clips += clips
        self._losses.append(loss)

    def progress(self, step: int, *, epoch: int, lr: float) -> Progress:
        """Return where training stands after ``step``, and begin the next stretch."""
        now = time.monotonic()
        pace = (now - self._begun) / max(1, step - self._first)
        progress = Progress(
            step=step,
            steps=self._steps,
            epoch=epoch + 1,
            epochs=self._epochs,
            loss=sum(self._losses) / len(self._losses),
            lr=lr,
            clips_per_second=self._clips / max(1e-9, now - self._marked),
            seconds_left=pace * (self._steps - step),
        )
        self._marked, self._clips, self._losses = now, 0, []
        return progress

    def since_save(self) -> float:
        """Return seconds since the last checkpoint, or since the start."""
        return time.monotonic() - self._last_save

    def saved(self) -> None:
        """Note a checkpoint."""
        self._last_save = time.monotonic()
