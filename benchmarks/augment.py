"""Crop, resize, map, noise and streams by torch and by one kernel, against a copy: `python -m benchmarks.augment`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks import devices
from benchmarks.harness import Case, Figure, Report, Row, machine, measure, present
from benchmarks.picture import Bar, shares
from smae.data.loader import Assembler, CpuAssembler, DeviceAssembler
from smae.data.loader.augment import (
    Augment,
    BatchPlan,
    Floats,
    ItemFormat,
    Stream,
    crop_windows,
    draw_variation,
    origin_joints,
    outward_bones,
)
from smae.rng import Noise
from smae.skeleton import NTU25
from smae.testing.models import bodies

COPY = "copy"
FRAMES = 120
SIGMA = 0.01
KINDS: dict[str, tuple[float, Stream]] = {
    "joints": (0.0, "joint"),
    "noise": (SIGMA, "joint"),
    "bones": (0.0, "bone"),
    "motion": (0.0, "motion"),
}


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Attributes:
        items: bodies in a batch.
        clips: bodies of 120 frames with rows on the device, more than a cache holds.
        device: where.
        repeats: batches made in a round.
    """

    items: int
    clips: int
    device: torch.device
    repeats: int = 10

    @cached_property
    def rows(self) -> Floats:
        """Float32 [R, V, 3]."""
        some = bodies(NTU25, items=min(self.clips, 64), frames=FRAMES).flatten(0, 1).numpy()
        return np.resize(some, (self.clips * FRAMES, len(NTU25), 3))

    def plan(self, kind: str) -> BatchPlan:
        """Return a batch's plan, as training draws it."""
        number = np.random.default_rng(0).integers(0, self.clips, self.items)
        noise = Noise(0, 0, number)
        variation = draw_variation(noise, self.items, augment=Augment(), layout=NTU25)
        start, length = crop_windows(np.full(self.items, FRAMES), variation.crop, augment=Augment())
        joint = np.tile(np.arange(len(NTU25)), (self.items, 1))
        keyed = noise if KINDS[kind][0] else None
        return BatchPlan(FRAMES * number + start, length, variation.transform, joint, keyed)

    def ways(self, kind: str) -> dict[str, Assembler]:
        """Return what makes batches here, by name: torch in several passes, and one kernel."""
        sigma, stream = KINDS[kind]
        origin = origin_joints(NTU25, stream=stream)
        item_format = ItemFormat(FRAMES, origin, outward_bones(NTU25), sigma, stream)
        if self.device.type == "cuda":
            return {
                way: DeviceAssembler(item_format, device=self.device, triton=way == "triton")
                for way in ("torch", "triton")
            }
        return {"torch": DeviceAssembler(item_format, device=self.device), "numba": CpuAssembler(item_format)}

    def cases(self) -> list[Case]:
        """Return everything that is timed."""
        made = []
        for kind in KINDS:
            plan = self.plan(kind)
            size = (int(plan.length.sum()) + self.items * FRAMES) * len(NTU25) * 12
            for way, assemble in self.ways(kind).items():
                run = partial(self._repeat, assemble, plan)
                run()
                made.append(Case(f"{kind}, {way}", run, self.repeats * self.items, self.repeats * size))
        moved = 2**33 if self.device.type == "cuda" else 2**28
        return [*made, Case(COPY, devices.copies(moved, device=self.device), 0, moved)]

    def _repeat(self, assemble: Assembler, plan: BatchPlan) -> None:
        for _ in range(self.repeats):
            assemble(self.rows, plan)
        devices.finish(self.device)


def ratios(rows: Sequence[Row]) -> list[Figure]:
    """Return the ratios of one run's rows."""
    by, figures = {row.name: row for row in rows}, []
    for row in rows:
        kind, _, way = row.name.partition(", ")
        if row.name == COPY:
            continue
        # What is promised is promised of a GPU, and of joints alone.
        promised = (kind, way) == ("joints", "triton")
        if way != "torch":
            figures.append(Figure(f"{row.name} / torch", row.rate / by[f"{kind}, torch"].rate))
        share = row.byte_rate / by[COPY].byte_rate
        figures.append(Figure(f"{row.name} / copy (bytes)", share, "%", goal=0.4 if promised else None))
        if promised:
            figures.append(Figure("bodies a second", row.rate / 1e6, "M", goal=10))
    return figures


def run(bench: Bench, *, rounds: int, picture: Path | None = None) -> Report:
    """Measure everything and return the report; draw the picture where one is asked for."""
    head = machine("torch", "numpy", "numba") | devices.describe(bench.device)
    rows = measure(bench.cases(), rounds=rounds)
    about = (
        f"{bench.items:,} bodies a batch, windows of {bench.rows.nbytes / 1e6:,.0f} MB of rows on the device, to "
        f"{FRAMES} frames: crop, resize, rotation; with noise; as bones; as motion",
        "MB/s: rows read once and items written once",
        f"{rounds} rounds of {bench.repeats} batches, interleaved; medians; sending the plan is in it",
    )
    report = Report("augment", "bodies", head, about, rows, tuple(ratios(rows)))
    if picture is not None:
        bars = [Bar(row.name, row.byte_rate, f"{row.rate:,.0f} bodies/s") for row in rows if row.name != COPY]
        limit = report.row(COPY).byte_rate
        shares(picture, bars, limit=limit, unit="GB a second", title=f"Augmentation, {head['device']}")
    return report


@click.command(help=__doc__)
@click.option("--bodies", "items", type=click.IntRange(min=1), help="Bodies in a batch: 160, or 8,192 on a GPU.")
@click.option("--repeats", default=10, show_default=True, help="Batches made in a round.")
@click.option("--rounds", default=5, show_default=True, help="Rounds, interleaved.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--threads", default=1, show_default=True, help="Threads of the processor.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw each case below its limit (.png or .svg).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--write", is_flag=True, help="Write benchmarks/results/augment.md.")
def main(
    items: int | None, repeats: int, rounds: int, device: str, threads: int, picture: Path | None, as_json: bool,
    write: bool,
) -> None:  # fmt: skip
    torch.set_num_threads(threads)
    where = devices.pick(device)
    cuda = where.type == "cuda"
    bench = Bench(items or (8192 if cuda else 160), 20_000 if cuda else 4_000, where, repeats=repeats)
    present(run(bench, rounds=rounds, picture=picture), as_json=as_json, write=write)


if __name__ == "__main__":
    main()
