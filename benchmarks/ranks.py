"""Pre-training in two processes of one thread each, against one process: `python -m benchmarks.ranks`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

import smae
from benchmarks.harness import Case, Figure, Report, machine, measure, present
from smae.config import parse_sets
from smae.train.config import resolve

ONE, TWO = "one process", "two processes"
_COMMAND = "from smae_cli.main import main; main()"


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Attributes:
        store: a prepared store.
        work: folder for the runs.
        recipe: what is trained.
        few, many: steps of the two runs of each case; their difference is free of start-up.
        sets: settings laid over the recipe, as ``--set`` takes them.
    """

    store: Path
    work: Path
    recipe: str
    few: int
    many: int
    sets: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        """Clips of a step, of all processes together."""
        return resolve(self.recipe, parse_sets(self.sets)).train.batch

    def train(self, processes: int, steps: int) -> list[float]:
        """Pre-train in a command of its own; return the losses of its steps."""
        out = self.work / f"{processes}-{steps}"
        shutil.rmtree(out, ignore_errors=True)
        words = ["pretrain", "--data", str(self.store), "--recipe", self.recipe, "--out", str(out), "--device", "cpu"]
        sets = (*self.sets, f"train.max_steps={steps}", "train.log_every=1")
        words += [word for one in sets for word in ("--set", one)]
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "--no-python"]
        command = [sys.executable, "-c", _COMMAND, *words]
        if processes > 1:
            command = [sys.executable, *start, *command]
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        if done.returncode:
            raise click.ClickException(
                f"pretrain in {processes} processes ended with {done.returncode}:\n{done.stderr}"
            )
        return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]

    def cases(self) -> list[Case]:
        """Return everything that is timed: each number of processes with few and with many steps."""
        losses, again = (self.train(processes, self.few) for processes in (1, 2))
        apart = max(abs(one - other) / abs(one) for one, other in zip(losses, again, strict=True))
        assert apart < 0.01, f"two processes take the steps of one, up to rounding: losses differ by {apart:.1%}"
        return [
            Case(f"{name}, {steps} steps", lambda n=processes, steps=steps: self.train(n, steps), steps * self.batch, 0)
            for processes, name in ((1, ONE), (2, TWO))
            for steps in (self.few, self.many)
        ]


def run(bench: Bench, *, rounds: int) -> Report:
    """Measure everything and return the report."""
    head = machine("torch", "numpy", "numba")
    rows = measure(bench.cases(), rounds=rounds)
    one, two = (rows[at + 1].seconds - rows[at].seconds for at in (0, 2))
    each, both = (rows[at + 1].cpu - rows[at].cpu for at in (0, 2))
    share = bench.few / (bench.many - bench.few)
    figures = (
        Figure("two processes / one, start-up left out", one / two, goal=1.6),
        Figure("processor time of a step: two / one", both / each),
        Figure("start-up, one process", rows[0].seconds - share * one, "s"),
        Figure("start-up, two processes", rows[2].seconds - share * two, "s"),
    )
    about = (
        f"recipe {bench.recipe}, {bench.batch} clips a step in all, one thread a process, gloo",
        f"the same losses in one process and in two, up to rounding; {bench.few} and {bench.many} steps, and the "
        "difference of their times in the ratios",
        f"{rounds} rounds, interleaved; medians",
    )
    return Report("ranks", "clips", head, about, rows, figures)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), help="Store; a small synthetic one by default.")
@click.option("--recipe", default="cpu", show_default=True, help="What is trained.")
@click.option("--set", "sets", multiple=True, help="Setting laid over the recipe; repeatable.")
@click.option("--steps", nargs=2, type=int, default=(10, 40), show_default=True, help="Few and many steps.")
@click.option("--rounds", default=3, show_default=True, help="Rounds, interleaved.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--write", is_flag=True, help="Write benchmarks/results/ranks.md.")
def main(
    data: Path | None,
    recipe: str,
    sets: tuple[str, ...],
    steps: tuple[int, int],
    rounds: int,
    as_json: bool,
    write: bool,
) -> None:
    with tempfile.TemporaryDirectory(prefix="smae-ranks-") as work:
        if data is None:
            smae.synthesise(Path(work) / "ntu")
            data = smae.prepare(Path(work) / "ntu", Path(work) / "ntu.zarr", missing_list=False).store
        bench = Bench(data, Path(work), recipe, *steps, sets)
        present(run(bench, rounds=rounds), as_json=as_json, write=write)


if __name__ == "__main__":
    main()
