"""THE loop. It owns device, precision, accumulation, schedule, checkpoints and logging, and knows no method."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from smae.data.loading.batch import Batch
from smae.data.loading.loader import Loader
from smae.errors import DataError, Interrupted, NonFiniteError
from smae.train.checkpoint import Checkpoint, load_weights, save_checkpoint, unpack_optimizer
from smae.train.config import Optim, Train
from smae.train.log import Log
from smae.train.objectives import Objective
from smae.train.optim import adamw, resume_schedule, warmup_cosine
from smae.train.run import Run
from smae.train.signals import StopFlag


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


@dataclass(frozen=True)
class Position:
    """Where a run stands: finished steps, the epoch under way, and its clips consumed by finished steps."""

    step: int = 0
    epoch: int = 0
    consumed: int = 0


class Loop:
    """Trains an objective on a loader's batches.

    Args:
        objective: the method, on its device.
        loader: gives the batches of an epoch.
        optim: optimiser settings.
        train: portions, precision and safety.
        seed: of all noise.
        run: where log and checkpoints go.
        identity: settings that a resumed run must share; they are kept in every checkpoint.
    """

    def __init__(
        self,
        objective: Objective,
        loader: Loader,
        *,
        optim: Optim,
        train: Train,
        seed: int,
        run: Run,
        identity: dict[str, Any],
    ) -> None:
        self.objective, self.loader, self.run = objective, loader, run
        self.settings, self.seed, self.identity, self.clip = train, seed, identity, optim.clip
        per_epoch = len(loader)
        self.steps = train.epochs * per_epoch
        if train.max_steps:
            self.steps = min(self.steps, train.max_steps)
        self.epochs = math.ceil(self.steps / per_epoch)
        self.optimizer = adamw(
            objective, lr=optim.lr, weight_decay=optim.weight_decay, betas=(optim.beta1, optim.beta2)
        )
        self.schedule = warmup_cosine(
            self.optimizer,
            steps=self.steps,
            warmup=round(optim.warmup * per_epoch),
            floor=min(1.0, optim.min_lr / optim.lr),
        )
        self.position = Position()
        device = next(objective.parameters()).device
        half = train.precision == "bf16" or (train.precision == "auto" and device.type == "cuda")
        self.autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue exactly where a checkpoint stands.

        Raises:
            DataError: it was written under other identity settings; each difference is listed.
        """
        theirs = checkpoint.state.get("identity", {})
        differences = [
            f"{key}: {theirs.get(key)!r} there, {self.identity.get(key)!r} here"
            for key in sorted({*theirs, *self.identity})
            if theirs.get(key) != self.identity.get(key)
        ]
        if differences:
            raise DataError(
                f"{checkpoint.path}: cannot resume under other settings:\n  " + "\n  ".join(differences)
                + "\nresume with the settings of the run, or start another one with --out"
            )  # fmt: skip
        load_weights(self.objective, checkpoint.model, where=str(checkpoint.path))
        unpack_optimizer(self.optimizer, checkpoint.optimizer, where=str(checkpoint.path))
        self.position = Position(*(checkpoint.state[key] for key in ("step", "epoch", "consumed")))
        resume_schedule(self.schedule, self.position.step)

    def train(self, *, log: Log, report: Callable[[Progress], None], stop: StopFlag) -> None:
        """Train to the end, or until ``stop`` is raised; either way the last step is in a checkpoint.

        Raises:
            Interrupted: stopped by a signal; resumable.
            NonFiniteError: a loss or gradient is not finite; the step was not taken.
        """
        self.objective.train()
        clock = _Clock(self.position.step)
        for epoch in range(self.position.epoch, self.epochs):
            skip = self.position.consumed if epoch == self.position.epoch else 0
            self.position = Position(self.position.step, epoch, skip)
            for batch in self._batches(epoch, skip):
                loss, metrics = self._step(batch)
                self.position = Position(self.position.step + 1, epoch, self.position.consumed + batch.clips)
                lr = self.optimizer.param_groups[0]["lr"]
                log.step(self.position.step, epoch=epoch, loss=loss, lr=lr, clips=batch.clips, metrics=metrics)
                self.schedule.step()
                self.objective.after_step(self.position.step / self.steps)
                clock.count(batch.clips, loss)
                last = self.position.step == self.steps
                if last or self.position.step % self.settings.log_every == 0:
                    report(clock.progress(self, lr))
                if stop.signal and not last:
                    self.save()
                    raise Interrupted(
                        f"stopped after step {self.position.step} of {self.steps}; --resume continues", stop.signal
                    )
            self.position = Position(self.position.step, epoch + 1, 0)
            if self.position.step == self.steps or clock.since_save() >= self.settings.save_seconds:
                self.save()
                clock.saved()

    def _batches(self, epoch: int, skip: int) -> Iterator[Batch]:
        batches = self.loader.epoch(epoch, skip=skip)
        for _ in range(self.steps - self.position.step):
            batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _step(self, batch: Batch) -> tuple[float, dict[str, float]]:
        """Take one optimiser step and return its loss and metrics."""
        # Dropout draws from torch's generator: seeding it by step makes a resumed run draw alike.
        torch.manual_seed(((self.seed << 20) + self.position.step) % 2**64)
        total, metrics = 0.0, dict[str, float]()
        for portion in portions(batch, self.settings.accumulate):
            weight = len(portion.x) / len(batch.x)
            with self.autocast:
                output = self.objective(portion, portion.noise(self.seed))
            (output.loss * weight).backward()
            total += float(output.loss.detach()) * weight
            for name, value in output.metrics.items():
                metrics[name] = metrics.get(name, 0.0) + float(value) * weight
        norm = torch.nn.utils.clip_grad_norm_(self.objective.parameters(), self.clip or math.inf)
        if not (math.isfinite(total) and bool(torch.isfinite(norm))):
            self.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteError(
                f"step {self.position.step + 1} (epoch {batch.epoch}): loss {total}, gradient norm {float(norm)}: the "
                "step was not taken. The last checkpoint is sound; try a lower optim.lr, or --set "
                f"train.precision=float32. Clips: {', '.join(str(int(i)) for i in batch.index[:8])}, ..."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total, metrics

    def save(self) -> None:
        """Write a checkpoint of the current position."""
        state = {
            "step": self.position.step,
            "epoch": self.position.epoch,
            "consumed": self.position.consumed,
            "steps": self.steps,
            "identity": self.identity,
        }
        save_checkpoint(self.run.checkpoints, model=self.objective, optimizer=self.optimizer, state=state)


def portions(batch: Batch, count: int) -> Iterator[Batch]:
    """Cut a batch into at most ``count`` batches of whole clips, for gradient accumulation."""
    size = math.ceil(batch.clips / count)
    if size >= batch.clips:
        yield batch
        return
    for start in range(0, batch.clips, size):
        stop = min(start + size, batch.clips)
        items = (batch.clip >= start) & (batch.clip < stop)
        yield Batch(
            x=batch.x[items],
            clip=batch.clip[items] - start,
            body=batch.body[items],
            index=batch.index[start:stop],
            label=batch.label[start:stop],
            epoch=batch.epoch,
        )


class _Clock:
    """Measures pace: since the last report for the rate, since the start for the time left."""

    def __init__(self, step: int) -> None:
        self.first, self.begun = step, time.monotonic()
        self.marked, self.clips, self.losses = self.begun, 0, list[float]()
        self.last_save = self.begun

    def count(self, clips: int, loss: float) -> None:
        self.clips += clips
        self.losses.append(loss)

    def progress(self, loop: Loop, lr: float) -> Progress:
        now, position = time.monotonic(), loop.position
        pace = (now - self.begun) / max(1, position.step - self.first)
        progress = Progress(
            step=position.step,
            steps=loop.steps,
            epoch=position.epoch + 1,
            epochs=loop.epochs,
            loss=sum(self.losses) / len(self.losses),
            lr=lr,
            clips_per_second=self.clips / max(1e-9, now - self.marked),
            seconds_left=pace * (loop.steps - position.step),
        )
        self.marked, self.clips, self.losses = now, 0, []
        return progress

    def since_save(self) -> float:
        return time.monotonic() - self.last_save

    def saved(self) -> None:
        self.last_save = time.monotonic()
