"""The pre-training step against a naive one and against matrix products alone: `python -m benchmarks.step`."""

from __future__ import annotations

import math
import tempfile
import timeit
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import devices
from benchmarks.harness import Case, Figure, Report, Row, machine, measure, present
from benchmarks.naive.step import NaiveMAE, step
from benchmarks.picture import Point, roofline, traffic
from smae.data.loader import Batch
from smae.skeleton import NTU25
from smae.testing.models import bodies
from smae.train.config import RunConfig, build_objective, compile_blocks, resolve
from smae.train.distributed import has_native_bf16
from smae.train.loop import Loop
from smae.train.objectives import Objective
from smae.train.run_folder import Run

NAIVE, NAIVE_BF16 = "naive, float32", "naive, autocast to bf16"
PLAIN, BF16, COMPILED = "smae, float32", "smae, bf16", "smae, compiled"
LIMIT, LIMIT_BF16 = "products of as many operations, float32", "products of as many operations, bf16"
BASE: dict[str, Any] = {
    "decoder.depth": 5,
    "masking.name": "random",
    "masking.keep": 0.1,
    "train.ema": 0,
}
PAIRS = 5
"""One clip in so many has two bodies: about the share in NTU RGB+D."""


class Endless:
    """Stands for a loader in a loop that is given its batches."""

    per_epoch = 2**62

    def __len__(self) -> int:
        return 1


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Attributes:
        clips: in a step.
        steps: in a round.
        device: where.
        settings: merged over the base recipe.
        size: size of the naive model, where it is not the base recipe's.
        compile: also time the step with compiled blocks.
        plain_clips: clips that a step without fused attention or bf16 takes at a time, for its memory; all if left out.
    """

    clips: int
    steps: int
    device: torch.device
    settings: Mapping[str, Any] = field(default_factory=lambda: BASE)
    size: dict[str, int] | None = None
    compile: bool = False
    plain_clips: int | None = None

    @cached_property
    def batch(self) -> Batch:
        """The clips' present bodies."""
        clip = torch.tensor([n for n in range(self.clips) for _ in range(2 if n % PAIRS == 0 else 1)])
        body = torch.cat([clip.new_zeros(1), (clip[1:] == clip[:-1]).long()])
        x = bodies(NTU25, items=len(clip), frames=self.config("float32").augment.frames)
        columns = (x, clip, body, torch.arange(self.clips), torch.zeros(self.clips, dtype=torch.long))
        return Batch(*(column.to(self.device) for column in columns), epoch=0)

    @cached_property
    def padded(self) -> Tensor:
        """The naive step's clips as [B, 2, T, V, 3], bodies that are not there included."""
        batch = self.part(self.plain)
        x = batch.x.new_zeros(self.plain, 2, *batch.x.shape[1:])
        x[batch.clip, batch.body] = batch.x
        return x

    @property
    def plain(self) -> int:
        """Clips of a naive step."""
        return min(self.clips, self.plain_clips or self.clips)

    @property
    def fast(self) -> bool:
        """Whether bf16 is worth timing."""
        return has_native_bf16(self.device)

    def config(self, precision: str) -> RunConfig:
        """Return the settings of smae's step."""
        parts = math.ceil(self.clips / self.plain) if precision == "float32" else 1
        step = {"train.precision": precision, "train.batch": self.clips, "train.accumulate": parts}
        return resolve("base", {**self.settings, **step})

    def objective(self) -> Objective:
        """Return smae's model."""
        return build_objective(self.config("float32"), NTU25).to(self.device)

    def naive(self) -> NaiveMAE:
        """Return the naive model, with the same weights."""
        model = NaiveMAE(**(self.size or {}))
        model.load_state_dict(build_objective(self.config("float32"), NTU25).state_dict())
        return model.to(self.device)

    def loop(self, precision: str, *, compile: bool = False) -> Loop:
        """Return smae's loop."""
        config, objective = self.config(precision), self.objective()
        if compile:
            compile_blocks(objective)
        nowhere = Run(Path(tempfile.gettempdir()))
        return Loop(
            objective.train(), Endless(), optim=config.optim, train=config.train, seed=0, run=nowhere, identity={}
        )  # fmt: skip

    def cases(self) -> list[Case]:
        """Return everything that is timed."""
        made = [(NAIVE, self.naive_steps(autocast=False)), (PLAIN, partial(self.run_loop, self.loop("float32")))]
        if self.fast:
            made += [(NAIVE_BF16, self.naive_steps(autocast=True)), (BF16, partial(self.run_loop, self.loop("bf16")))]
        if self.compile:
            precision = "bf16" if self.fast else "float32"
            made.append((COMPILED, partial(self.run_loop, self.loop(precision, compile=True))))
        work = self.steps * self.operations
        made.append((LIMIT, devices.products(work, dtype=torch.float32, device=self.device)))
        if self.fast:
            made.append((LIMIT_BF16, devices.products(work, dtype=torch.bfloat16, device=self.device)))
        size = {True: (self.plain, self.part(self.plain).x.nbytes), False: (self.clips, self.batch.x.nbytes)}
        return [Case(name, run, *(self.steps * one for one in size[name.startswith("naive")])) for name, run in made]

    def run_loop(self, loop: Loop) -> None:
        """Take a round's steps and read the last one's loss."""
        for _ in range(self.steps):
            last = loop.step(self.batch)
        last.metrics.read()

    def naive_steps(self, *, autocast: bool) -> partial[None]:
        """Return what takes a round's naive steps."""
        model = self.naive()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)
        return partial(_naive, model, optimizer, self.padded, self.steps, autocast)

    @cached_property
    def operations(self) -> float:
        """Multiplications and additions of one of smae's steps, forwards and backwards, attention included."""
        model, one = self.objective(), self.part(1)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused kernels go uncounted
            model(one, one.noise(0)).loss.backward()
        return counter.get_total_flops() / len(one.x) * len(self.batch.x)

    @cached_property
    def naive_operations(self) -> float:
        """The same of a naive step."""
        model = self.naive()
        with FlopCounterMode(display=False) as counter:
            model(self.padded[:1]).backward()
        return counter.get_total_flops() * self.plain

    def part(self, clips: int) -> Batch:
        """Return the first clips of the batch."""
        batch, items = self.batch, int((self.batch.clip < clips).sum())
        return Batch(
            batch.x[:items], batch.clip[:items], batch.body[:items], batch.index[:clips], batch.label[:clips], epoch=0
        )


def _naive(model: NaiveMAE, optimizer: torch.optim.Optimizer, x: Tensor, steps: int, autocast: bool) -> None:
    for _ in range(steps):
        step(model, optimizer, x, autocast=autocast)


def ratios(rows: Sequence[Row], *, cuda: bool) -> list[Figure]:
    """Return the ratios of one run's rows."""
    by = {row.name: row for row in rows}
    best = by.get(COMPILED, by.get(BF16))
    figures = [
        Figure("smae / naive, both float32", by[PLAIN].rate / by[NAIVE].rate, goal=None if cuda else 2),
        Figure("the same by processor time", by[NAIVE].cpu / by[PLAIN].cpu),
        Figure("smae, float32 / products of as many operations (MFU)", by[PLAIN].rate / by[LIMIT].rate, "%"),
    ]
    if BF16 in by and best is not None:
        figures += [
            Figure("smae, bf16 / naive, float32", by[BF16].rate / by[NAIVE].rate, goal=8 if cuda else 3),
            Figure("smae, bf16 / naive, autocast", by[BF16].rate / by[NAIVE_BF16].rate, goal=2.5 if cuda else None),
            Figure("smae, bf16 / products in bf16 (MFU)", by[BF16].rate / by[LIMIT_BF16].rate, "%",
                   goal=0.3 if cuda else None),
            Figure("smae, bf16 / smae, float32, by processor time", by[PLAIN].cpu / by[BF16].cpu),
        ]  # fmt: skip
    if COMPILED in by:
        figures.append(Figure("compiled / not", by[COMPILED].rate / by[BF16 if BF16 in by else PLAIN].rate))
    return figures


def without_bf16(device: torch.device) -> str:
    """Return a line that says what bf16 costs on a device that has no such arithmetic."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.randn(256, 256, device=device).to(dtype) for _ in range(2))
        seconds[dtype] = min(timeit.repeat(partial(torch.mm, left, right), number=1, repeat=5))
    slower = seconds[torch.bfloat16] / seconds[torch.float32]
    return f"bf16 is not timed: this processor has no such arithmetic, a matrix product takes {slower:,.0f} x as long"


def run(bench: Bench, *, rounds: int, picture: Path | None = None) -> Report:
    """Measure everything and return the report; draw the picture where one is asked for."""
    head = machine("torch", "numpy") | devices.describe(bench.device)
    listed = bench.cases()
    for case in listed:  # the first step allocates, and compiles what is compiled
        case.run()
    rows = measure(listed, rounds=rounds)
    items, two = len(bench.batch.x), 2 * bench.plain
    about = (
        f"{bench.clips} clips a step, {items} bodies present; naive: {bench.plain} clips, {two} bodies",
        f"base recipe with 5 decoder blocks: {bench.operations / items / 1e9:,.1f} GFLOP a body forwards and backwards "
        f"({bench.naive_operations / two / 1e9:,.1f} in the naive one); random masking, 10 % kept",
        f"{rounds} rounds of {bench.steps} steps, interleaved; medians; MB/s is of joints read",
        *(() if bench.fast else (without_bf16(bench.device),)),
    )
    report = Report("step", "clips", head, about, rows, tuple(ratios(rows, cuda=bench.device.type == "cuda")))
    if picture is not None:
        draw(bench, report, picture)
    return report


def draw(bench: Bench, report: Report, path: Path) -> None:
    """Draw each case's operations a second over its operations a byte, below what the device can do."""
    moved = 2**31 if bench.device.type == "cuda" else 2**29
    copy = measure([Case("copy", devices.copies(moved, device=bench.device), 1, moved)], rounds=3)[0]
    work = {True: bench.naive_operations, False: bench.operations}
    loop, naive = bench.loop("float32"), bench.naive_steps(autocast=False)
    bytes_of = {
        True: traffic(naive) / bench.steps,
        False: traffic(lambda: loop.step(bench.batch)),
    }
    points = []
    for row in report.rows:
        if row.name not in (LIMIT, LIMIT_BF16):
            kind = row.name.startswith("naive")
            rate = row.rate / (bench.plain if kind else bench.clips) * work[kind]
            points.append(Point(row.name, work[kind] / bytes_of[kind], rate))
    peaks = {
        name: report.row(name).rate / bench.clips * bench.operations
        for name in (LIMIT, LIMIT_BF16)
        if any(row.name == name for row in report.rows)
    }
    roofline(
        path, points, peaks=peaks, bandwidth=copy.byte_rate, title=f"Pre-training step, {report.machine['device']}"
    )


@click.command(help=__doc__)
@click.option(
    "--clips", type=click.IntRange(min=1), help="Clips in a step; 5 on a processor, 853 (1,024 bodies) on a GPU."
)
@click.option("--steps", type=click.IntRange(min=1), help="Steps in a round: 1, or 10 on a GPU.")
@click.option("--rounds", default=5, show_default=True, help="Rounds, interleaved.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the processor; all by default.")
@click.option("--compile/--no-compile", "compiled", default=None, help="Time compiled blocks too; so on a GPU.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw a roofline (.png or .svg).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--write", is_flag=True, help="Write benchmarks/results/step.md.")
def main(
    clips: int | None, steps: int | None, rounds: int, device: str, threads: int | None, compiled: bool | None,
    picture: Path | None, as_json: bool, write: bool,
) -> None:  # fmt: skip
    if threads is not None:
        torch.set_num_threads(threads)
    where = devices.pick(device)
    cuda = where.type == "cuda"
    compiled = cuda if compiled is None else compiled
    bench = Bench(clips or (853 if cuda else 5), steps or (10 if cuda else 1), where, compile=compiled,
                  plain_clips=64 if cuda else None)  # fmt: skip
    present(run(bench, rounds=rounds, picture=picture), as_json=as_json, write=write)


if __name__ == "__main__":
    main()
