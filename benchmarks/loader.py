"""The loader against a naive one and against copying its batches: `python -m benchmarks.loader`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
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
from smae.data.loading.augment import Augment
from smae.data.loading.loader import Loader
from smae.data.preparing.prepare import prepare
from smae.data.storage.store import Store, open_store

MODES: tuple[Literal["resident", "streaming"], ...] = ("resident", "streaming")
WORKERS = (0, 1, 2)
NAIVE, COPY = "naive, in the caller's process", "copy of the batches"
FRAMES = 120
GOAL, SHARE = {"goal": 25.0}, {"goal": 1 / 3, "stretch": 1 / 2}
_POOL = 128 * 2**20


def cases(store: Store, *, batch: int, sample: int) -> list[Case]:
    """Return everything that is timed: an epoch each way, the naive loader on ``sample`` clips, and the copy."""
    index = np.arange(len(store))
    loaders = {
        _name(mode, workers): Loader(
            store, index, augment=Augment(frames=FRAMES), batch=batch, seed=0, train=True,
            device=torch.device("cpu"), workers=workers, mode=mode,
        )
        for mode in MODES for workers in WORKERS
    }  # fmt: skip
    for loader in loaders.values():  # the first epoch brings the rows into RAM, and kernels
        sizes = [item.x.nbytes for item in loader.epoch(1)]
    listed = [Case(name, partial(_epoch, loader), len(store), sum(sizes)) for name, loader in loaders.items()]
    some = index[:: max(1, len(index) // sample)][:sample]
    naive = NaiveClips([store.clip(int(one)) for one in some], store.clips.label[some].tolist(), frames=FRAMES)
    by_clip = DataLoader(naive, batch_size=batch, shuffle=True)
    listed.append(Case(NAIVE, partial(_exhaust, by_clip), len(some), len(some) * 2 * FRAMES * 25 * 12))
    pool, target = torch.ones(max(_POOL, *sizes), dtype=torch.uint8), torch.ones(max(sizes), dtype=torch.uint8)
    listed.append(Case(COPY, partial(_copy, pool, target, sizes), len(store), sum(sizes)))
    return listed


def ratios(rows: Sequence[Row]) -> list[Figure]:
    """Return the ratios of one run's rows."""
    by = {row.name: row for row in rows}
    figures = []
    for mode in MODES:
        for workers in WORKERS:
            row = by[_name(mode, workers)]
            # What is promised is promised of one process with its rows in memory.
            goals = (GOAL, SHARE) if (mode, workers) == ("resident", 0) else ({}, {})
            figures.append(Figure(f"{row.name} / naive (clips)", row.rate / by[NAIVE].rate, **goals[0]))
            figures.append(Figure(f"{row.name} / copy (bytes)", row.byte_rate / by[COPY].byte_rate, "%", **goals[1]))
    return figures


def run(store: Store, *, batch: int, sample: int, rounds: int) -> Report:
    """Measure everything and return the report."""
    head = machine("numpy", "numba", "torch")
    clips = cases(store, batch=batch, sample=sample)
    rows = measure(clips, rounds=rounds)
    size = store.clips.rows.sum() * 300
    about = (
        f"an epoch of {len(store):,} clips ({size / 1e6:,.0f} MB of rows) in batches of {batch}: random crop, "
        f"{FRAMES} frames, random rotation, on the CPU",
        f"naive: every clip as two bodies of 300 frames in RAM, {clips[-2].items:,} of the clips",
        f"{rounds} rounds, interleaved; medians; torch on one thread; one epoch of each before the first round",
    )
    return Report("loader", "clips", head, about, rows, tuple(ratios(rows)))


def store_of(files: int, *, work: Path) -> Store:
    """Return a store of ``files`` recordings, made anew so that it is this software's."""
    corpus = corpora.build(files, work=work)
    out = work / f"loader-{files}.zarr"
    shutil.rmtree(out, ignore_errors=True)
    prepare(corpus.folder, out, overwrite=True)
    return open_store(out)


def _name(mode: str, workers: int) -> str:
    return f"{mode}, workers {workers}"


def _epoch(loader: Loader) -> None:
    for _ in loader.epoch(1):
        pass


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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--write", is_flag=True, help="Write benchmarks/results/loader.md.")
def main(files: int, sample: int, batch: int, rounds: int, work: Path, as_json: bool, write: bool) -> None:
    torch.set_num_threads(1)
    report = run(store_of(files, work=work), batch=batch, sample=sample, rounds=rounds)
    present(report, as_json=as_json, write=write)


if __name__ == "__main__":
    main()
