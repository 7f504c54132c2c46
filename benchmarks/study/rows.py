"""What a study is made of: rows that are trained and evaluated, and tables that show them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smae.config import parse_sets
from smae.eval.records import LAST, PRETRAINED
from smae.train.config import RunConfig, resolve


@dataclass(frozen=True)
class Evaluation:
    """Probes that evaluate a row together.

    Attributes:
        modes: of ``smae eval --probe``.
        sets: settings of the probes, laid over the row's.
        name: stands behind the modes' names where the same modes are evaluated twice.
        baselines: for how many of the seeds, from 0 on, the random encoder and raw coordinates are evaluated too.
    """

    modes: tuple[str, ...]
    sets: tuple[str, ...] = ()
    name: str = ""
    baselines: int = 0

    def label(self, mode: str, selection: str = LAST) -> str:
        """Return what results call a mode, and another choice than the last epoch."""
        return ", ".join([mode, *filter(None, (self.name, selection if selection != LAST else ""))])


@dataclass(frozen=True)
class Row:
    """One experiment: an encoder that is pre-trained, and how it is evaluated.

    Attributes:
        name: what commands and files call it.
        sets: settings laid over the study's.
        evaluations: how it is evaluated.
        seeds: how many seeds carry it, from 0 on; each seed is pre-trained anew.
    """

    name: str
    sets: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]
    seeds: int = 3


@dataclass(frozen=True)
class Line:
    """One line of a table: which row's figures, and of what.

    Attributes:
        title: what people call it.
        row: name of the row whose results hold it.
        what: what was evaluated, as ``smae eval`` calls it.
        instead: for some modes another (mode, what): supervised training has a mode of its own.
    """

    title: str
    row: str
    what: str = PRETRAINED
    instead: tuple[tuple[str, tuple[str, str]], ...] = ()


@dataclass(frozen=True)
class Table:
    """A table: lines that are to be compared, under the same modes."""

    title: str
    about: str
    modes: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Study:
    """All experiments on one data set.

    Attributes:
        name: of its page and its folder of results.
        recipe: packaged recipe that all rows start from.
        sets: settings of all rows, laid over the recipe.
        rows: in the order in which they are run.
        tables: in the order of the page.
    """

    name: str
    recipe: str
    sets: tuple[str, ...]
    rows: tuple[Row, ...]
    tables: tuple[Table, ...]

    def row(self, name: str) -> Row:
        """Return a row by its name."""
        return next(row for row in self.rows if row.name == name)

    def settings(self, row: Row) -> tuple[str, ...]:
        """Return what a row lays over the recipe."""
        return (*self.sets, *row.sets)

    def config(self, row: Row, *, seed: int) -> RunConfig:
        """Return a row's settings for one seed."""
        return resolve(self.recipe, {**parse_sets(self.settings(row)), "seed": seed})

    def command(self, row: Row, *, seeds: Sequence[int]) -> str:
        """Return the command that makes a row's results."""
        chosen = " ".join(f"--seed {seed}" for seed in seeds)
        return f"python -m benchmarks.study {self.name} --data {self.name}.zarr --row {row.name} {chosen}"
