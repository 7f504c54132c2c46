"""The loader against a naive one and against copying its batches: `python -m benchmarks.loader`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import click
import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks import corpus as corpora
from benchmarks.harness import Case, Figure, Report, Row, machine, measure, present
from benchmarks.naive.loader import NaiveClips
from benchmarks.picture import Bar, shares
from smae.data.loader.augment import Augment
from smae.data.loader.loader import Loader
from smae.data.prepare.run import prepare
from smae.data.store import Store, open_store
from smae.data.store.chunks import CHUNK_ROWS

MODES: tuple[Literal["resident", "streaming"], ...] = ("resident", "streaming")
WORKERS = (0, 1, 2)
NAIVE, COPY = "naive, in the caller's process", "copy of the batches"
UNPACK = "chunks read, checked and unpacked, in order"
"""The least that streaming must do: what one core reaches, without crops, batches and shuffling."""
LENGTHS: dict[str, int | None] = {"clips of 120 frames": 120, "clips as recorded": None}
"""Stores, by what their clips are; the goals are set for the first."""
FRAMES = 120
VARIED = {
    "noise": Augment(frames=FRAMES, noise=0.01),
    "bones, mirrored, scaled": Augment(frames=FRAMES, mirror=True, scale=0.1, stream="bone"),
    "motion": Augment(frames=FRAMES, stream="motion"),
    "shear, blanks and jitter": Augment(
        frames=FRAMES, shear=0.3, jitter=0.02, blank_joints=0.1, blank_limb=0.3, blank_frames=0.3
    ),
}
VIEWS = (2, 4)
"""Augmented views of a clip in a batch, beside the one of all other cases."""
GOAL, SHARE = {"goal": 25.0}, {"goal": 1 / 3, "stretch": 1 / 2}
_POOL = 128 * 2**20


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Attributes:
        stores: by what their clips are.
        batch: clips in a batch.
        sample: clips for the naive loader.
    """

    stores: Mapping[str, Store]
    batch: int
    sample: int

    def cases(self) -> list[Case]:
        """Return everything that is timed: an epoch each way, the naive loader on some clips, and the copy."""
        return [case for kind in self.stores for case in self._cases_of(kind)]

    def _cases_of(self, kind: str) -> list[Case]:
        store = self.stores[kind]
        index = np.arange(len(store))
        loaders = {f"{mode}, workers {workers}": self._loader(kind, mode, workers)
                   for mode in MODES for workers in WORKERS}  # fmt: skip
        if kind == next(iter(self.stores)):
            loaders |= {f"resident, {name}": self._loader(kind, "resident", 0, one) for name, one in VARIED.items()}
        for loader in loaders.values():  # the first epoch brings the rows into RAM, and kernels
            sizes = [item.x.nbytes for item in loader.epoch(1)]
        listed = [
            Case(f"{kind}: {name}", partial(_epoch, one), len(store), sum(sizes)) for name, one in loaders.items()
        ]
        for views in VIEWS:
            several = self._loader(kind, "resident", 0, views=views)
            _epoch(several)
            # Counted in views: each is as much work as a clip of one view.
            name = f"{kind}: resident, workers 0, {views} views"
            listed.append(Case(name, partial(_epoch, several), views * len(store), views * sum(sizes)))
        some = index[:: max(1, len(index) // self.sample)][: self.sample]
        naive = NaiveClips([store.clip(int(one)) for one in some], store.clips.label[some].tolist(), frames=FRAMES)
        by_clip = DataLoader(naive, batch_size=self.batch, shuffle=True)
        padded = len(some) * 2 * FRAMES * len(store.layout) * 12
        listed.append(Case(f"{kind}: {NAIVE}", partial(_exhaust, by_clip), len(some), padded))
        pool, target = torch.ones(max(_POOL, *sizes), dtype=torch.uint8), torch.ones(max(sizes), dtype=torch.uint8)
        listed.append(Case(f"{kind}: {COPY}", partial(_copy, pool, target, sizes), len(store), sum(sizes)))
        rows = int(store.clips.rows.sum())
        listed.append(Case(f"{kind}: {UNPACK}", partial(_unpack, store), len(store), rows * len(store.layout) * 12))
        return listed

    def _loader(
        self,
        kind: str,
        mode: Literal["resident", "streaming"],
        workers: int,
        augment: Augment | None = None,
        *,
        views: int = 1,
    ) -> Loader:
        store = self.stores[kind]
        return Loader(
            store, np.arange(len(store)), augment=augment or Augment(frames=FRAMES), batch=self.batch, seed=0,
            train=True, device=torch.device("cpu"), workers=workers, mode=mode, views=views,
        )  # fmt: skip


def ratios(rows: Sequence[Row]) -> list[Figure]:
    """Return the ratios of one run's rows, each to the naive loader and the copy of the same clips."""
    by, figures = {row.name: row for row in rows}, []
    for row in rows:
        kind, _, way = row.name.partition(": ")
        if way in (NAIVE, COPY, UNPACK):
            continue
        # What is promised is promised of one process with its rows in memory.
        goals = (GOAL, SHARE) if (kind, way) == (next(iter(LENGTHS)), "resident, workers 0") else ({}, {})
        naive, copy = by[f"{kind}: {NAIVE}"], by[f"{kind}: {COPY}"]
        figures.append(Figure(f"{row.name} / naive (clips)", row.rate / naive.rate, **goals[0]))
        figures.append(Figure(f"{row.name} / copy (bytes)", row.byte_rate / copy.byte_rate, "%", **goals[1]))
        if way.startswith("streaming"):
            unpack = by[f"{kind}: {UNPACK}"]
            figures.append(Figure(f"{row.name} / unpacking alone, one core (clips)", row.rate / unpack.rate, "%"))
    return figures


def run(bench: Bench, *, rounds: int, picture: Path | None = None) -> Report:
    """Measure everything and return the report; draw the picture where one is asked for."""
    head = machine("numpy", "numba", "torch")
    cases = bench.cases()
    rows = measure(cases, rounds=rounds)
    about = [
        f"{kind}: {len(store):,} clips, {store.clips.frames.mean():.0f} frames on average, "
        f"{store.clips.rows.sum() * len(store.layout) * 12 / 1e6:,.0f} MB of rows"
        for kind, store in bench.stores.items()
    ]
    about += [
        f"an epoch in batches of {bench.batch}: random crop, {FRAMES} frames, random rotation, on the CPU",
        f"naive: every clip as two bodies of 300 frames in RAM, up to {bench.sample:,} of the clips",
        f"{rounds} rounds, interleaved; medians; torch on one thread; one epoch of each before the first round",
    ]
    report = Report("loader", "clips", head, tuple(about), rows, tuple(ratios(rows)))
    if picture is not None:
        limit = next(row.byte_rate for row in rows if row.name.endswith(COPY))
        first = next(iter(bench.stores))
        bars = [
            Bar(row.name.removeprefix(f"{first}: "), row.byte_rate, f"{row.rate:,.0f} clips/s")
            for row in rows
            if row.name.startswith(first) and not row.name.endswith((COPY, UNPACK))
        ]
        shares(picture, bars, limit=limit, unit="GB of batches a second", title=f"Loading, {first}")
    return report


def store_of(files: int, *, work: Path, frames: int | None = None) -> Store:
    """Return a store of ``files`` recordings, resampled to ``frames`` if given, made anew by this software."""
    corpus = corpora.build(files, work=work)
    out = work / f"loader-{files}-{frames or 'as-recorded'}.zarr"
    shutil.rmtree(out, ignore_errors=True)
    prepare(corpus.folder, out, frames=frames, overwrite=True)
    return open_store(out)


def _epoch(loader: Loader) -> None:
    for _ in loader.epoch(1):
        pass


def _unpack(store: Store) -> None:
    for start in range(0, store.row_count, CHUNK_ROWS):
        store.rows(start, min(start + CHUNK_ROWS, store.row_count))


def _exhaust(batches: DataLoader[object]) -> None:
    for _ in batches:
        pass


def _copy(pool: torch.Tensor, target: torch.Tensor, sizes: Sequence[int]) -> None:
    """Copy as many bytes as an epoch's batches hold, from more than a cache holds, to memory that is there already."""
    at = 0
    for size in sizes:
        at = at if at + size <= len(pool) else 0
        target[:size] = pool[at : at + size]
        at += size


@click.command(help=__doc__)
@click.option("--files", default=8_000, show_default=True, help="Clips in the store.")
@click.option("--sample", default=1_000, show_default=True, help="Clips for the naive loader.")
@click.option("--batch", default=128, show_default=True, help="Clips in a batch.")
@click.option("--rounds", default=5, show_default=True, help="Rounds, interleaved.")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=corpora.WORK,
    show_default=True,
    help="Folder for corpora and stores.",
)
@click.option("--picture", type=click.Path(path_type=Path), help="Draw each case below a copy (.png or .svg).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--write", is_flag=True, help="Write benchmarks/results/loader.md.")
def main(
    files: int, sample: int, batch: int, rounds: int, work: Path, picture: Path | None, as_json: bool, write: bool
) -> None:
    torch.set_num_threads(1)
    stores = {kind: store_of(files, work=work, frames=frames) for kind, frames in LENGTHS.items()}
    report = run(Bench(stores, batch=batch, sample=sample), rounds=rounds, picture=picture)
    present(report, as_json=as_json, write=write)


if __name__ == "__main__":
    main()
