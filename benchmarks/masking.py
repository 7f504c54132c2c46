"""Masks, naive, by torch and by one kernel, against copying what they hold: `python -m benchmarks.masking`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import click
import torch
from torch import Tensor

from benchmarks import devices
from benchmarks.harness import Case, Figure, Report, Row, machine, measure, present
from benchmarks.naive import masking as naive
from benchmarks.picture import Bar, shares
from smae.models import Grid, patchify
from smae.models.masking import mask_tokens, maskings
from smae.rng import Noise
from smae.skeleton import NTU25
from smae.testing.models import bodies

COPY = "copy"
KINDS: dict[str, tuple[str, dict[str, float]]] = {
    "random": ("random", {}),
    "joint-level": ("spatial-temporal", {"keep_frames": 1}),
    "frame-level": ("spatial-temporal", {"keep_joints": 1}),
    "spatial-temporal": ("spatial-temporal", {}),
    "tube": ("tube", {}),
    "body-part": ("body-part", {}),
    "motion-aware": ("motion-aware", {}),
}


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Attributes:
        items: bodies in a batch.
        device: where.
        frames: of a clip.
        repeats: masks drawn in a round.
    """

    items: int
    device: torch.device
    frames: int = 120
    repeats: int = 10

    @property
    def grid(self) -> Grid:
        """How clips are cut."""
        return Grid.cut(self.frames, joints=len(NTU25), patch=4)

    @cached_property
    def tokens(self) -> Tensor:
        """Float32 [N, L, P]."""
        return patchify(bodies(NTU25, items=self.items, frames=self.frames), self.grid).to(self.device)

    @property
    def ways(self) -> tuple[str, ...]:
        """Ways to draw smae's masks that work here."""
        return ("torch", "triton") if self.device.type == "cuda" else ("torch",)

    def cases(self) -> list[Case]:
        """Return everything that is timed."""
        made = []
        for kind in KINDS:
            draws = {way: self.draw(kind, way) for way in self.ways}
            visible, keep = draws["torch"]()
            size = self.bytes_of(kind, visible, keep)
            if kind in ("random", "motion-aware"):
                draws = {"naive": self.naive(kind, keep.shape[1]), **draws}
            made += [self.case(f"{kind}, {way}", draw, size) for way, draw in draws.items()]
        moved = 2**33 if self.device.type == "cuda" else 2**28
        return [*made, Case(COPY, devices.copies(moved, device=self.device), 0, moved)]

    def draw(self, kind: str, way: str) -> Callable[[], tuple[Tensor, Tensor]]:
        """Return what draws smae's mask and takes the visible tokens: those, and where they are."""
        name, settings = KINDS[kind]
        cls = maskings.get(name)
        masking = cls(cls.Config(kernel=way, **settings), self.grid, NTU25)
        number = torch.arange(self.items, device=self.device)
        noise = Noise(0, 0, number, number % 2)

        def run() -> tuple[Tensor, Tensor]:
            mask, visible = mask_tokens(masking, self.tokens, noise)
            return visible, mask.keep

        return run

    def naive(self, kind: str, keep: int) -> Callable[[], object]:
        """Return what draws the naive mask."""
        if kind == "random":
            return partial(naive.random, self.tokens, keep=keep)
        return partial(naive.motion_aware, self.tokens, keep=keep, joints=self.grid.joints, tau=0.8)

    def bytes_of(self, kind: str, visible: Tensor, keep: Tensor) -> int:
        """Return the bytes that must be read and written: three index lists, visible tokens, all of them for motion."""
        lists = 2 * self.items * self.grid.tokens * keep.element_size()
        read = self.tokens.nbytes if kind == "motion-aware" else visible.nbytes
        return lists + read + visible.nbytes

    def case(self, name: str, draw: Callable[[], object], size: int) -> Case:
        """Return a case of ``repeats`` masks; on a GPU as one graph, so that what Python takes to start them is out."""
        draw()
        if self.device.type != "cuda":
            return Case(name, partial(_repeat, draw, self.repeats), self.repeats * self.items, self.repeats * size)
        devices.finish(self.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            _repeat(draw, self.repeats)

        def run() -> None:
            graph.replay()
            devices.finish(self.device)

        return Case(name, run, self.repeats * self.items, self.repeats * size)


def _repeat(draw: Callable[[], object], times: int) -> None:
    for _ in range(times):
        draw()


def ratios(rows: Sequence[Row], *, ways: Sequence[str]) -> list[Figure]:
    """Return the ratios of one run's rows."""
    by = {row.name: row for row in rows}
    figures = []
    for kind in KINDS:
        for way in ways:
            row = by[f"{kind}, {way}"]
            baseline = by.get(f"{kind}, naive")
            if baseline is not None:
                figures.append(Figure(f"{row.name} / naive", row.rate / baseline.rate))
            goal = 2 if way == "triton" else None
            times = by[COPY].byte_rate / row.byte_rate
            figures.append(Figure(f"{row.name}: times a copy of its bytes", times, goal=goal, at_most=True))
        if "triton" in ways:
            figures.append(Figure(f"{kind}, triton / torch", by[f"{kind}, triton"].rate / by[f"{kind}, torch"].rate))
    return figures


def run(bench: Bench, *, rounds: int, picture: Path | None = None) -> Report:
    """Measure everything and return the report; draw the picture where one is asked for."""
    head = machine("torch", "numpy") | devices.describe(bench.device)
    rows = measure(bench.cases(), rounds=rounds)
    grid = bench.grid
    about = (
        f"{bench.items:,} bodies, {grid.times} x {grid.joints} = {grid.tokens} tokens of {grid.values} numbers: kept, "
        "hidden and restore indices, and the visible tokens",
        "MB/s: of the bytes of these, each read or written once; naive: noise sorted twice",
        f"{rounds} rounds of {bench.repeats} masks, interleaved; medians"
        + ("; each case one CUDA graph" if bench.device.type == "cuda" else ""),
        *(() if "triton" in bench.ways else ("the fused kernel is not timed: there is no GPU here",)),
    )
    report = Report("masking", "bodies", head, about, rows, tuple(ratios(rows, ways=bench.ways)))
    if picture is not None:
        bars = [Bar(row.name, row.byte_rate) for row in rows if row.name != COPY]
        limit = report.row(COPY).byte_rate
        shares(picture, bars, limit=limit, unit="GB a second", title=f"Masking, {head['device']}")
    return report


@click.command(help=__doc__)
@click.option("--bodies", "items", type=click.IntRange(min=1), help="Bodies in a batch: 128, or 1,024 on a GPU.")
@click.option("--repeats", default=10, show_default=True, help="Masks drawn in a round.")
@click.option("--rounds", default=5, show_default=True, help="Rounds, interleaved.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the processor; all by default.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw each case below its limit (.png or .svg).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--write", is_flag=True, help="Write benchmarks/results/masking.md.")
def main(
    items: int | None, repeats: int, rounds: int, device: str, threads: int | None, picture: Path | None,
    as_json: bool, write: bool,
) -> None:  # fmt: skip
    if threads is not None:
        torch.set_num_threads(threads)
    where = devices.pick(device)
    bench = Bench(items or (1024 if where.type == "cuda" else 128), where, repeats=repeats)
    present(run(bench, rounds=rounds, picture=picture), as_json=as_json, write=write)


if __name__ == "__main__":
    main()
