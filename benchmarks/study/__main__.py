"""The command line of the studies."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from benchmarks.study.page import write_page
from benchmarks.study.results import RESULTS
from benchmarks.study.runner import carry_out
from benchmarks.study.studies import STUDIES


@click.command()
@click.argument("name", type=click.Choice(sorted(STUDIES)))
@click.option("--data", type=click.Path(path_type=Path), help="The store; without it, only the page is written anew.")
@click.option("--row", "rows", multiple=True, help="Rows to carry out; all by default.")
@click.option("--seed", "seeds", multiple=True, type=click.IntRange(min=0), help="Seeds; each row's own by default.")
@click.option(
    "--work", type=click.Path(path_type=Path), default=Path("runs/study"), show_default=True, help="For runs."
)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="For results and the page.")
@click.option("--list", "listed", is_flag=True, help="Print the rows and what each lays over the recipe.")
def main(
    name: str, data: Path | None, rows: tuple[str, ...], seeds: tuple[int, ...], work: Path, results: Path, listed: bool
) -> None:
    """Pre-train and evaluate the rows of a study, seed by seed, and write its page from all results there are."""
    study = STUDIES[name]
    known = [row.name for row in study.rows]
    if unknown := [row for row in rows if row not in known]:
        raise click.BadParameter(f"no such row: {', '.join(unknown)}; there are {', '.join(known)}", param_hint="--row")
    chosen = [row for row in study.rows if not rows or row.name in rows]
    if listed:
        for row in chosen:
            click.echo(f"{row.name:24} {row.seeds} seeds  {' '.join(row.sets)}")
        return
    if data is not None:
        # Seed by seed, so that all rows get the same share of the time.
        for seed in seeds or range(max(row.seeds for row in chosen)):
            for row in chosen:
                if seeds or seed < row.seeds:
                    carry_out(study, row, seed=seed, data=data, work=work, results=results, say=click.echo)
                    write_page(study, folder=results)
    click.echo(f"written: {write_page(study, folder=results)}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
