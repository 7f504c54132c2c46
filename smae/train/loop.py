"""THE loop. It owns device, precision, accumulation, schedule, checkpoints and logging, and knows no method.

Nothing in it waits for the device: a step's loss is read some steps later, and a step that is not finite takes itself
back on the device, as do all after it, until that is read.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from smae import interrupts
from smae.data.loader.batch import Batch
from smae.data.loader.loader import Loader
from smae.errors import DataError, Interrupted, NonFiniteError
from smae.train.average import Average
from smae.train.checkpoint import Checkpoint, load_weights, save_checkpoint, unpack_optimizer
from smae.train.config import Optim, Train
from smae.train.distributed import ALONE, Ranks
from smae.train.metrics_log import Log
from smae.train.micro_batches import portions
from smae.train.objectives import Objective
from smae.train.optim import adamw, resume_schedule, warmup_cosine
from smae.train.peak_memory import footprint
from smae.train.pending_metrics import Late
from smae.train.progress import Clock, Progress
from smae.train.run_folder import Run

LATE = 8
"""Steps that the host may be ahead of a GPU before it reads a step's loss. On the CPU there is nothing to wait for."""


@dataclass(frozen=True)
class Position:
    """Where a run stands: finished steps, the epoch under way, and its clips consumed by finished steps."""

    step: int = 0
    epoch: int = 0
    consumed: int = 0


@dataclass(frozen=True)
class Step:
    """A step that was given to the device.

    Attributes:
        position: after it.
        clips: that it took, of all ranks.
        lr: its learning rate.
        index: int64 [B], numbers of this rank's clips.
        names: ``loss`` and the objective's metrics.
        numbers: the gradient's norm, then what ``names`` names.
    """

    position: Position
    clips: int
    lr: float
    index: Tensor
    names: tuple[str, ...]
    numbers: Late


class Loop:
    """Trains an objective on a loader's batches.

    Args:
        objective: the method, on its device.
        loader: gives the batches of an epoch, or this rank's parts of them.
        optim: optimiser settings.
        train: portions, precision and safety.
        seed: of all noise.
        run: where log and checkpoints go; the first rank writes them.
        identity: settings that a resumed run must share; they are kept in every checkpoint.
        ranks: the processes that train together; gradients and losses are those of the whole batch on each.

    Attributes:
        late: steps between giving a step to the device and reading its loss; changes no number.
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
        ranks: Ranks = ALONE,
    ) -> None:
        self.objective, self.loader, self.run, self.ranks = objective, loader, run, ranks
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
        self.device = next(objective.parameters()).device
        half = train.precision == "bf16" or (train.precision == "auto" and self.device.type == "cuda")
        self.autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half)
        self.late = LATE if self.device.type == "cuda" else 0
        self.parallel = DistributedDataParallel(objective) if ranks.world > 1 else None
        self.average = Average(objective, decay=train.ema) if train.ema else None
        # The optimiser takes no step where found_inf is 1: how torch's GradScaler keeps it from spoiled gradients.
        self.optimizer.found_inf = torch.zeros((), device=self.device)  # type: ignore[attr-defined]
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue exactly where a checkpoint stands; on another number of ranks, with the very same clips and noise.

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
        position = Position(*(checkpoint.state[key] for key in ("step", "epoch", "consumed")))
        most = Position(self.steps, self.epochs, len(self.loader.index))
        if not all(0 <= value <= limit for value, limit in zip(astuple(position), astuple(most), strict=True)):
            raise DataError(f"{checkpoint.path}: stands at {position}, beyond the run's end, {most}: it is damaged")
        load_weights(self.objective, checkpoint.model, where=str(checkpoint.path))
        if self.average is not None:
            load_weights(self.average.module, checkpoint.average, where=f"{checkpoint.path}, average")
        unpack_optimizer(self.optimizer, checkpoint.optimizer, where=str(checkpoint.path))
        self.position = position
        resume_schedule(self.schedule, self.position.step)

    def train(self, *, log: Log, report: Callable[[Progress], None]) -> None:
        """Train to the end, or until a signal reaches any rank; either way the last step is in a checkpoint.

        Raises:
            Interrupted: stopped by a signal; resumable.
            NonFiniteError: a loss or gradient is not finite; neither that step was taken nor any after it.
        """
        self.objective.train()
        clock = Clock(self.position.step, steps=self.steps, epochs=self.epochs)
        under_way: deque[Step] = deque()

        def read(*, leave: int) -> None:
            while len(under_way) > leave:
                self._read(under_way.popleft(), log=log, clock=clock, report=report)

        for epoch in range(self.position.epoch, self.epochs):
            skip = self.position.consumed if epoch == self.position.epoch else 0
            self.position = Position(self.position.step, epoch, skip)
            for batch in self._batches(epoch, skip):
                under_way.append(self.step(batch))
                read(leave=self.late)
                signal = self.ranks.highest(interrupts.pending())
                if signal and self.position.step < self.steps:
                    read(leave=0)
                    self.save()
                    raise Interrupted(
                        f"stopped after step {self.position.step} of {self.steps}; --resume continues", signal
                    )
            self.position = Position(self.position.step, epoch + 1, 0)
            if self.position.step == self.steps or clock.since_save() >= self.settings.save_seconds:
                read(leave=0)
                self.save()
                clock.saved()

    def _batches(self, epoch: int, skip: int) -> Iterator[Batch]:
        batches = self.loader.epoch(epoch, skip=skip)
        for _ in range(self.steps - self.position.step):
            batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def step(self, batch: Batch) -> Step:
        """Give one step to the device: gradients, the optimiser's step, and all that follows it; wait for nothing."""
        sums = self._gradients(batch)
        norm = torch.nn.utils.clip_grad_norm_(self.objective.parameters(), self.clip or math.inf)
        numbers = torch.stack([norm.double(), *sums.values()])
        # Once a step is not finite, none is taken any more.
        spoiled = self.optimizer.found_inf  # type: ignore[attr-defined]
        spoiled.logical_or_((sums["loss"] + norm).isfinite().logical_not())
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.objective, first=self.position.step == 0)
        clips = min(self.settings.batch, len(self.loader.index) - self.position.consumed)
        lr = self.optimizer.param_groups[0]["lr"]
        self.position = Position(self.position.step + 1, self.position.epoch, self.position.consumed + clips)
        self.schedule.step()
        self.objective.after_step(self.position.step / self.steps)
        return Step(self.position, clips, lr, batch.index, tuple(sums), Late(numbers))

    def _gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the gradients of the whole batch; return its loss and metrics, float64."""
        # Dropout draws from torch's generator: seeding it by step makes a resumed run draw alike.
        torch.manual_seed((((self.seed << 20) + self.position.step) * self.ranks.world + self.ranks.rank) % 2**64)
        forward = self.parallel or self.objective
        items = self.ranks.total(torch.full((), len(batch.x), dtype=torch.float64, device=self.device))
        parts = list(portions(batch, self.settings.accumulate))
        sums: dict[str, Tensor] = {}
        for portion in parts:
            share = len(portion.x) / items
            # Gradients travel once a step, with the last portion's.
            early = self.parallel is not None and portion is not parts[-1]
            with self.parallel.no_sync() if self.parallel is not None and early else nullcontext():
                with self.autocast:
                    output = forward(portion, portion.noise(self.seed))
                # What travels is averaged over ranks, where a sum is wanted.
                (output.loss * (share * self.ranks.world).to(output.loss.dtype)).backward()
            for name, value in {"loss": output.loss, **output.metrics}.items():
                sums[name] = sums.get(name, 0.0) + value.detach().double().reshape(()) * share
        shared = self.ranks.total(torch.stack(list(sums.values())))
        return dict(zip(sums, shared.unbind(), strict=True))

    def _read(self, step: Step, *, log: Log, clock: Clock, report: Callable[[Progress], None]) -> None:
        """Wait for a step's numbers, log them and report them in turn."""
        norm, *numbers = step.numbers.read()
        metrics, at = dict(zip(step.names, numbers, strict=True)), step.position
        loss = metrics.pop("loss")
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NonFiniteError(
                f"step {at.step} (epoch {at.epoch}): loss {loss}, gradient norm {norm}: the "
                "step was not taken. The last checkpoint is sound; try a lower optim.lr, or --set "
                f"train.precision=float32. Clips: {', '.join(str(int(i)) for i in step.index[:8])}, ..."
            )
        due = at.step == self.steps or at.step % self.settings.log_every == 0
        memory = footprint(self.device) if due else None
        log.step(at.step, epoch=at.epoch, loss=loss, lr=step.lr, clips=step.clips, metrics=metrics, memory=memory)
        clock.count(step.clips, loss)
        if due:
            report(clock.progress(at.step, epoch=at.epoch, lr=step.lr))

    def save(self) -> None:
        """Write a checkpoint of the current position, on the first rank."""
        if not self.ranks.first:
            return
        state = {
            "step": self.position.step,
            "epoch": self.position.epoch,
            "consumed": self.position.consumed,
            "steps": self.steps,
            "identity": self.identity,
        }
        average = self.average.module if self.average is not None else None
        save_checkpoint(
            self.run.checkpoints, model=self.objective, optimizer=self.optimizer, average=average, state=state
        )
