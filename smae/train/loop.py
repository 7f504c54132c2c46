"""The training loop: precision, accumulation, schedule, checkpoints and logging for any objective.

It never waits for the device. Metrics are copied to the host asynchronously and read some steps
later. Non-finite steps, and all steps after them, are skipped on the device.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from smae import interrupts
from smae.data.loader import Batch
from smae.data.loader.loader import Loader
from smae.errors import ConfigError, DataError, Interrupted, NonFiniteError
from smae.progress import Task, task
from smae.tables import clock
from smae.train.checkpoint import Checkpoint, load_optimizer, load_weights, save_checkpoint
from smae.train.config import Optim, Train
from smae.train.distributed import SINGLE_PROCESS, DistributedContext, uses_bf16
from smae.train.metrics_log import MetricsLog, peak_memory
from smae.train.objectives import Objective
from smae.train.optim import EMA, adamw, resume_schedule, warmup_cosine
from smae.train.run_folder import Run

logger = logging.getLogger(__name__)

MEASURED = 60.0
"""Seconds of training after which the time of the whole is estimated."""
MAX_PENDING = 8
"""Steps whose metrics may be pending on a GPU. On the CPU there is nothing to wait for."""


@dataclass(frozen=True)
class Position:
    """Progress of a run: finished steps, the current epoch, and its clips consumed so far."""

    step: int = 0
    epoch: int = 0
    consumed: int = 0


class PendingMetrics:
    """Step metrics being copied from the device asynchronously."""

    def __init__(self, values: Tensor) -> None:
        # From a GPU, a non-blocking copy goes to page-locked memory. The event marks its end, so
        # reading waits for this step's work only, not for any that was queued after it.
        self._values = values.detach().to("cpu", non_blocking=True)
        self._copied = None
        if values.is_cuda:
            self._copied = torch.cuda.current_stream(values.device).record_event()

    def read(self) -> list[float]:
        """Wait for the copy and return the values."""
        if self._copied is not None:
            self._copied.synchronize()
        values: list[float] = self._values.tolist()
        return values


@dataclass(frozen=True)
class PendingStep:
    """A step queued on the device.

    Attributes:
        position: after the step.
        clips: their number on all ranks.
        lr: learning rate.
        index: int64 [B], this rank's clips.
        names: ``loss`` and the objective's metrics.
        metrics: the gradient norm, then the values of ``names``.
    """

    position: Position
    clips: int
    lr: float
    index: Tensor
    names: tuple[str, ...]
    metrics: PendingMetrics


class Loop:
    """Trains an objective on a loader's batches.

    Args:
        objective: the method, on its device.
        loader: this rank's batches of an epoch.
        optim: optimiser settings.
        train: batch, precision and checkpoint settings.
        seed: of all noise.
        run: folder for checkpoints.
        identity: settings that a resumed run must share; kept in every checkpoint.
        dist: the processes that train together; gradients and losses are those of the whole batch.

    Attributes:
        max_pending: steps between queueing a step and reading its metrics; changes no number.
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
        dist: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        if objective.compares_clips and train.accumulate > 1:
            raise ConfigError(
                f"train.accumulate={train.accumulate}: this objective compares the clips of a step with one "
                "another, so a step cannot be split: choose 1, and a smaller train.batch if memory is short"
            )
        self.objective, self.loader, self.run, self.dist = objective, loader, run, dist
        self.settings, self.seed, self.identity = train, seed, identity
        self.max_grad_norm = optim.clip or math.inf
        steps_per_epoch = len(loader)
        self.steps = train.epochs * steps_per_epoch
        if train.max_steps:
            self.steps = min(self.steps, train.max_steps)
        self.epochs = math.ceil(self.steps / steps_per_epoch)
        self.position = Position()
        self.optimizer = adamw(
            objective,
            lr=optim.lr,
            weight_decay=optim.weight_decay,
            betas=(optim.beta1, optim.beta2),
            scale=objective.lr_scale,
        )
        self.schedule = warmup_cosine(
            self.optimizer,
            steps=self.steps,
            warmup=round(optim.warmup * steps_per_epoch),
            floor=min(1.0, optim.min_lr / optim.lr),
        )
        self.device = next(objective.parameters()).device
        self.max_pending = MAX_PENDING if self.device.type == "cuda" else 0
        half = uses_bf16(train.precision, self.device)
        self.autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half)
        self.ddp = DistributedDataParallel(objective) if dist.world_size > 1 else None
        self.ema = EMA(objective, decay=train.ema) if train.ema else None
        # torch's fused optimisers skip their step where found_inf is 1. GradScaler uses this for
        # overflows in float16; here it skips non-finite steps without asking the host.
        self.found_inf = torch.zeros((), device=self.device)
        self.optimizer.found_inf = self.found_inf  # type: ignore[attr-defined]
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue exactly where a checkpoint was written, also on another number of ranks.

        Raises:
            DataError: it was written under other identity settings; each difference is listed.
        """
        saved = checkpoint.state.get("identity", {})
        differences = [
            f"{key}: {saved.get(key)!r} there, {self.identity.get(key)!r} here"
            for key in sorted({*saved, *self.identity})
            if saved.get(key) != self.identity.get(key)
        ]
        if differences:
            raise DataError(
                "\n  ".join([f"{checkpoint.path}: cannot resume under other settings:", *differences])
                + "\nresume with the settings of the run, or start another one with --out"
            )
        position = Position(*(checkpoint.state[key] for key in ("step", "epoch", "consumed")))
        end = Position(self.steps, self.epochs, self.loader.per_epoch)
        if not all(0 <= value <= limit for value, limit in zip(astuple(position), astuple(end), strict=True)):
            raise DataError(f"{checkpoint.path}: {position} is beyond the run's end, {end}: it is damaged")
        load_weights(self.objective, checkpoint.model, where=str(checkpoint.path))
        if self.ema is not None:
            load_weights(self.ema.module, checkpoint.average, where=f"{checkpoint.path}, average")
        load_optimizer(self.optimizer, checkpoint.optimizer, where=str(checkpoint.path))
        resume_schedule(self.schedule, position.step)
        self.position = position

    def train(self, log: MetricsLog) -> None:
        """Train to the end, or until a signal reaches any rank; then save a checkpoint.

        Raises:
            Interrupted: stopped by a signal; resumable.
            NonFiniteError: a loss or gradient is not finite; no step was taken since.
        """
        self.objective.train()
        pending: deque[PendingStep] = deque()
        last_save = time.monotonic()

        with task("pretrain", total=self.steps, unit="steps") as steps:
            progress = _Progress(steps, self.epochs)

            def read_metrics(*, leave: int) -> None:
                while len(pending) > leave:
                    self._read(pending.popleft(), log, progress)

            for epoch in range(self.position.epoch, self.epochs):
                skip = self.position.consumed if epoch == self.position.epoch else 0
                self.position = Position(self.position.step, epoch, skip)
                for batch in self._batches(epoch, skip):
                    pending.append(self.step(batch))
                    read_metrics(leave=self.max_pending)
                    # Every rank stops after the same step, whichever of them was signalled.
                    signal = self.dist.all_reduce_max(interrupts.pending())
                    if signal and self.position.step < self.steps:
                        read_metrics(leave=0)
                        self.save()
                        raise Interrupted(
                            f"stopped after step {self.position.step} of {self.steps}; --resume continues", signal
                        )
                self.position = Position(self.position.step, epoch + 1, 0)
                finished = self.position.step == self.steps
                if finished or time.monotonic() - last_save >= self.settings.save_seconds:
                    # A checkpoint must not include steps whose loss has not been checked yet.
                    read_metrics(leave=0)
                    self.save()
                    last_save = time.monotonic()

    def close(self) -> None:
        """Let go of the process group, whose threads end only when nothing holds it; the loop trains no more."""
        self.ddp = None

    def _batches(self, epoch: int, skip: int) -> Iterator[Batch]:
        """Yield an epoch's batches, up to the run's last step."""
        batches = self.loader.epoch(epoch, skip=skip)
        for _ in range(self.steps - self.position.step):
            batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def step(self, batch: Batch) -> PendingStep:
        """Queue one step on the device without waiting for it."""
        sums = self._gradients(batch)
        norm = torch.nn.utils.clip_grad_norm_(self.objective.parameters(), self.max_grad_norm)
        # It is never reset, so no step is taken after a non-finite one.
        self.found_inf.logical_or_((sums["loss"] + norm).isfinite().logical_not())
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.objective, first=self.position.step == 0)
        metrics = PendingMetrics(torch.stack([norm.double(), *sums.values()]))
        clips = min(self.settings.batch, self.loader.per_epoch - self.position.consumed)
        lr = self.optimizer.param_groups[0]["lr"]
        self.position = Position(self.position.step + 1, self.position.epoch, self.position.consumed + clips)
        self.schedule.step()
        self.objective.after_step(self.position.step / self.steps)
        return PendingStep(self.position, clips, lr, batch.index, tuple(sums), metrics)

    def _gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the gradients of the whole batch; return loss and metrics, float64 scalars."""
        # Dropout draws from torch's generator: seeded by step, a resumed run draws the same.
        torch.manual_seed((((self.seed << 20) + self.position.step) * self.dist.world_size + self.dist.rank) % 2**64)
        forward = self.ddp or self.objective
        # A part, of a rank or a micro-batch, counts by its share of what the loss averages: bodies, or compared clips.
        counted = "index" if self.objective.compares_clips else "x"
        total = torch.full((), len(getattr(batch, counted)), dtype=torch.float64, device=self.device)
        total = self.dist.all_reduce_sum(total)
        parts = list(micro_batches(batch, self.settings.accumulate))
        sums: dict[str, Tensor] = {}
        for part in parts:
            share = len(getattr(part, counted)) / total
            # DDP reduces gradients once a step, in the backward pass of the last micro-batch.
            with self.ddp.no_sync() if self.ddp is not None and part is not parts[-1] else nullcontext():
                with self.autocast:
                    output = forward(part, part.noise(self.seed))
                # DDP averages gradients over ranks, where the sum is needed.
                (output.loss * (share * self.dist.world_size).to(output.loss.dtype)).backward()
            for name, value in {"loss": output.loss, **output.metrics}.items():
                sums[name] = sums.get(name, 0.0) + value.detach().double().reshape(()) * share
        reduced = self.dist.all_reduce_sum(torch.stack(list(sums.values())))
        return dict(zip(sums, reduced.unbind(), strict=True))

    def _read(self, step: PendingStep, log: MetricsLog, progress: _Progress) -> None:
        """Wait for a step's metrics, check, log and report them."""
        position = step.position
        norm, *values = step.metrics.read()
        metrics = dict(zip(step.names, values, strict=True))
        loss = metrics.pop("loss")
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NonFiniteError(
                f"step {position.step} (epoch {position.epoch}): loss {loss}, gradient norm {norm}: the "
                "step was not taken. The last checkpoint is sound; try a lower optim.lr, or --set "
                f"train.precision=float32. Clips: {', '.join(str(int(i)) for i in step.index[:8])}, ..."
            )
        due = position.step == self.steps or position.step % self.settings.log_every == 0
        memory = peak_memory(self.device) if due else {}
        line = {"step": position.step, "epoch": position.epoch, "loss": loss, "lr": step.lr, "clips": step.clips}
        log.write({**line, **metrics}, memory)
        progress.add(step.clips, loss)
        if due:
            progress.report(position, step.lr)

    def save(self) -> None:
        """Write a checkpoint of the current position, on rank 0."""
        if not self.dist.is_main:
            return
        save_checkpoint(
            self.run.checkpoints,
            model=self.objective,
            optimizer=self.optimizer,
            average=self.ema.module if self.ema is not None else None,
            state={**asdict(self.position), "steps": self.steps, "identity": self.identity},
        )


class _Progress:
    """Mean loss and throughput since the last progress report."""

    def __init__(self, task: Task, epochs: int) -> None:
        self._task, self._epochs = task, epochs
        self._start, self._clips, self._losses = time.monotonic(), 0, list[float]()
        self._began, self._first, self._said = self._start, -1, False

    def add(self, clips: int, loss: float) -> None:
        self._clips += clips
        self._losses.append(loss)

    def report(self, position: Position, lr: float) -> None:
        now, epoch = time.monotonic(), position.epoch + 1
        self._say_time(position.step, now)
        loss = sum(self._losses) / len(self._losses)
        speed = self._clips / max(1e-9, now - self._start)
        self._task.update(
            position.step,
            note=f"epoch {epoch}/{self._epochs}  loss {loss:.4f}  lr {lr:.2e}  {speed:.0f} clips/s",
            values={"epoch": epoch, "loss": loss, "lr": lr, "clips_per_second": speed},
        )
        self._start, self._clips, self._losses = now, 0, []

    def _say_time(self, step: int, now: float) -> None:
        """Say once, after a minute, how long the whole training takes at this pace."""
        if self._first < 0:
            # The first steps compile kernels and fill caches.
            self._began, self._first = now, step
        elif not self._said and now - self._began >= MEASURED:
            each = (now - self._began) / (step - self._first)
            left = clock(each * ((self._task.total or step) - step))
            logger.info("measured: %.3g s a step on this device, so %s for what is left", each, left)
            self._said = True


def micro_batches(batch: Batch, count: int) -> Iterator[Batch]:
    """Split a batch into at most ``count`` batches of whole clips, which share its memory.

    Above a ``count`` of 1 the host waits for a GPU, which alone knows where a clip's bodies start.
    """
    size = math.ceil(batch.clips / count)
    if size >= batch.clips:
        yield batch
        return
    if batch.view is not None and batch.views > 1:
        for start in range(0, batch.clips, size):
            items = (batch.clip >= start) & (batch.clip < start + size)
            columns = {name: getattr(batch, name)[items] for name in ("x", "body", "view")}
            if batch.missing is not None:
                columns["missing"] = batch.missing[items]
            clips = {name: getattr(batch, name)[start : start + size] for name in ("index", "label")}
            yield replace(batch, clip=batch.clip[items] - start, **columns, **clips)
        return
    starts = list(range(0, batch.clips, size))
    edges = torch.searchsorted(batch.clip, torch.tensor([*starts, batch.clips], device=batch.clip.device)).tolist()
    for start, first, last in zip(starts, edges, edges[1:], strict=False):
        yield replace(
            batch,
            x=batch.x[first:last],
            clip=batch.clip[first:last] - start,
            body=batch.body[first:last],
            index=batch.index[start : start + size],
            label=batch.label[start : start + size],
            views=1,
            view=None,
            missing=None if batch.missing is None else batch.missing[first:last],
        )
