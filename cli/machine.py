"""``smae doctor``, ``smae bench``: check this machine, and measure smae on it."""

from __future__ import annotations

import importlib
import sys
from dataclasses import asdict
from pathlib import Path

import click

import smae
from smae.errors import EnvironmentFault
from smae_cli import choices, console


@click.command("doctor")
@click.argument("folder", required=False, default=".", type=choices.PATH)
@console.json_option
def doctor_command(folder: Path) -> int:
    """Check this machine: versions, GPU, cores, memory, disk at FOLDER, kernels, extras, plug-ins.

    \b
    Examples:
      smae doctor
      smae doctor /data --json

    Exit code 5 if something keeps smae from working.
    """
    diagnosis = smae.doctor(folder)
    findings = [asdict(finding) for finding in diagnosis.findings]
    console.result({"ok": diagnosis.exit_code == 0, "findings": findings}, lambda: console.show(diagnosis))
    return diagnosis.exit_code


BENCHMARKS = {
    "prepare": "Raw files to a store, against naive scripts and reading alone.",
    "loader": "Batches from a store, against a naive loader and a copy.",
    "augment": "Crop, resize, map, noise and streams, by torch and by one kernel, against a copy.",
    "masking": "Masks, against naive ones and a copy.",
    "step": "The pre-training step, against a naive one and matrix products.",
    "evaluate": "Probes of three seeds with shared and kept features, against each probe alone.",
    "ranks": "Pre-training in two processes of one thread each, against one process.",
    "predict": "Answers for a growing recording, against reading all of it again for each.",
    "time-to-accuracy": "Accuracy after each minute of training, by method, beside a plain loop.",
    "gpu": "Tests, timings and a training on a GPU, in nine minutes.",
}
"""Benchmarks, in the order of work; each is a module of the checkout's ``benchmarks/``."""

TIMED = ("prepare", "loader", "augment", "masking", "step", "evaluate", "ranks", "predict")
"""What ``all`` runs: what needs no data and no GPU."""


def _load(name: str) -> click.Command:
    # They are measured where they are developed: an installed package does not hold them.
    checkout = Path(smae.__file__).resolve().parents[1]
    if not (checkout / "benchmarks" / "harness.py").is_file():
        raise EnvironmentFault(
            f"{checkout}: no benchmarks/ there, which the installed package leaves out: run `smae "
            "bench` from a checkout of the repository, installed with pip install --editable"
        )
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    main: click.Command = importlib.import_module(f"benchmarks.{name.replace('-', '_')}").main
    return main


class Benchmarks(console.Group):
    """A group that imports a benchmark only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*BENCHMARKS, "all"]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return _all if name == "all" else _load(name) if name in BENCHMARKS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the benchmarks from the table above, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([*BENCHMARKS.items(), ("all", "All of them, one after the other.")])


@click.command("all")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a benchmark.")
@click.option("--write", is_flag=True, help="Write benchmarks/results/.")
def _all(as_json: bool, write: bool) -> None:
    """Run all benchmarks, one after the other, at their full size."""
    options = [*(["--json"] if as_json else []), *(["--write"] if write else [])]
    for name in TIMED:
        _load(name).main(options, prog_name=f"smae bench {name}", standalone_mode=False)


@click.group("bench", cls=Benchmarks)
def bench_command() -> None:
    """Measure smae against naive code and against what the machine can do.

    \b
    Examples:
      smae bench step
      smae bench masking --json
      smae bench all --write

    Each prints the ratios of one run; `smae bench step --help` lists its options.
    """
