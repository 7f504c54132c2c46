"""Probes of three seeds with features shared and kept, against each probe alone: `python -m benchmarks.evaluate`."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import click
import torch

import smae
from benchmarks.harness import Case, Figure, Report, machine, measure, present
from smae.config import expand_modes
from smae.data.store import Store, open_store
from smae.eval.features import cache_folder
from smae.eval.probes import ProbeContext
from smae.eval.probes import probes as PROBES
from smae.eval.run_probes import run_probes
from smae.models.encoders import Encoder
from smae.train.config import random_encoder, resolve

ALONE, SHARED, KEPT = "each probe and seed alone", "all of them in one command", "the same again, features kept on disk"


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Attributes:
        store: whose clips are encoded.
        probes: evaluated with each seed, beside their baselines.
        seeds: number of seeds.
        recipe: whose encoder and probes are taken; the weights are random, which takes as long.
        epochs: of probes that train an encoder; their recipe's if None.
    """

    store: Store
    probes: Sequence[str]
    seeds: int
    recipe: str
    epochs: int | None = None

    @cached_property
    def context(self) -> ProbeContext:
        """Data and settings."""
        sections = ("finetune", "scratch") if self.epochs else ()
        config = resolve(self.recipe, {name: {"epochs": self.epochs} for name in sections})
        return ProbeContext(self.store, self.store.training_split(config.protocol), config, torch.device("cpu"))

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that is evaluated."""
        config = self.context.config.model_copy(update={"seed": 1_000})
        return random_encoder(config, self.store.layout)

    @property
    def units(self) -> list[tuple[int, str]]:
        """Seeds and probes, seed by seed."""
        return [(seed, probe) for seed in range(self.seeds) for probe in self.probes]

    def evaluate(self, units: Sequence[tuple[int, str]], *, reuse: bool) -> list[float]:
        """Return the accuracy of each row of the units, as one command computes them."""
        chosen = {probe: PROBES.get(probe) for probe in self.probes}
        context = replace(self.context, reuse=reuse, cache={})
        outcomes = run_probes(self.encoder, context, chosen, units)
        return [row.top1 for outcome in outcomes for row in outcome.rows]

    def alone(self) -> list[float]:
        """Evaluate each unit as a command of its own, as if nothing had been kept."""
        return [top1 for unit in self.units for top1 in self.evaluate([unit], reuse=False)]

    def cases(self) -> list[Case]:
        """Return everything that is timed."""
        clips, units = len(self.context.split.train) + len(self.context.split.test), self.units
        expected = self.evaluate(units, reuse=False)
        assert self.alone() == expected, "the same figures, in any order"
        assert self.evaluate(units, reuse=True) == expected, "the same figures from kept features"
        items = clips * len(units)
        return [
            Case(ALONE, self.alone, items, 0),
            Case(SHARED, lambda: self.evaluate(units, reuse=False), items, 0),
            Case(KEPT, lambda: self.evaluate(units, reuse=True), items, 0),
        ]


def run(bench: Bench, *, rounds: int) -> Report:
    """Measure everything and return the report."""
    head = machine("torch", "numpy", "numba")
    rows = measure(bench.cases(), rounds=rounds)
    alone, shared, kept = rows
    split, config = bench.context.split, bench.context.config
    figures = (
        Figure("alone / in one command (processor time)", alone.cpu / shared.cpu),
        Figure("alone / features kept (processor time)", alone.cpu / kept.cpu, goal=3.0),
        Figure("in one command / features kept (processor time)", shared.cpu / kept.cpu),
        Figure("features kept on disk", sum(path.stat().st_size for path in cache_folder().iterdir()) / 2**20, "MiB"),
    )
    about = (
        f"{bench.store.dataset}, {len(split.train):,} clips to train on and {len(split.test):,} to test; the encoder "
        f"of recipe {bench.recipe}",
        f"{', '.join(bench.probes)}, {bench.seeds} seeds, each beside a random encoder and raw coordinates; "
        f"linear: {config.linear.epochs} epochs over {config.linear.views} views",
        "all three give the same figures; start-up is not in them",
        f"{rounds} rounds, interleaved; medians; one thread, so that processor time is what an idle core would take",
    )
    return Report("evaluate", "clips", head, about, rows, figures)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), help="Store; a small synthetic one by default.")
@click.option("--recipe", default="cpu", show_default=True, help="Recipe whose encoder and probes are taken.")
@click.option("--probe", "probes", multiple=True, default=("linear", "knn"), help="Probe; repeatable, or all.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1), help="Number of seeds.")
@click.option("--epochs", type=click.IntRange(min=1), help="Of training probes; the recipe's by default.")
@click.option("--rounds", default=3, show_default=True, help="Rounds, interleaved.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--write", is_flag=True, help="Write benchmarks/results/evaluate.md.")
def main(
    data: Path | None,
    recipe: str,
    probes: tuple[str, ...],
    seeds: int,
    epochs: int | None,
    rounds: int,
    as_json: bool,
    write: bool,
) -> None:
    torch.set_num_threads(1)
    logging.getLogger("smae").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="smae-evaluate-") as work:
        if data is None:
            smae.synthesise(Path(work) / "ntu")
            data = smae.prepare(Path(work) / "ntu", Path(work) / "ntu.zarr", missing_list=False).store
        # Features are kept in a folder of their own: those of earlier commands would answer the first round.
        os.environ["XDG_CACHE_HOME"] = work
        bench = Bench(open_store(data), expand_modes(probes), seeds, recipe, epochs)
        present(run(bench, rounds=rounds), as_json=as_json, write=write)


if __name__ == "__main__":
    main()
