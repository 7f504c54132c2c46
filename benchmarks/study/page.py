"""The page of a study: its tables from the results there are, and the command that makes each row again."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.study.results import Result, path_of, read
from benchmarks.study.rows import Line, Row, Study, Table

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
"""What stands between these lines is written by the study; the rest of the page is written by people."""

Found = dict[str, list[Result]]


def write_page(study: Study, *, folder: Path) -> Path:
    """Write ``<folder>/<study>.md`` anew between its two marks, and return its path."""
    path = folder / f"{study.name}.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# {study.name}\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{BEGIN}\n{tables(study, folder=folder)}{END}{after}", encoding="utf-8")
    return path


def tables(study: Study, *, folder: Path) -> str:
    """Return the tables of a study, and before them what all of its results share."""
    found = {row.name: _results(study, row, folder) for row in study.rows}
    parts = [_header(study, found)]
    parts += [_table(table, found) for table in study.tables]
    parts.append(_commands(study, found))
    return "\n".join(parts)


def _results(study: Study, row: Row, folder: Path) -> list[Result]:
    paths = (path_of(study.name, row.name, seed, folder=folder) for seed in range(row.seeds))
    return [result for result in map(read, paths) if result is not None]


def _header(study: Study, found: Found) -> str:
    results = [result for several in found.values() for result in several]
    if not results:
        return "No results yet.\n"
    sets = " ".join(f"`{one}`" for one in study.sets)
    lines = [f"- recipe `{study.recipe}` with {sets}", f"- store {_listed(result.store for result in results)}"]
    lines.append(f"- commit {_listed(result.commit for result in results)} (`+`: with changes that were not committed)")
    for key in results[0].machine:
        lines.append(f"- {key}: {'; '.join(sorted({result.machine[key] for result in results}))}")
    lines.append("- top-1 in %; mean ± standard deviation over seeds, and each seed's figure below it")
    return "\n".join(lines) + "\n"


def _listed(words: object) -> str:
    return ", ".join(f"`{word}`" for word in sorted(set(words)))  # type: ignore[call-overload]


def _table(table: Table, found: Found) -> str:
    shown = [line for line in table.lines if found[line.row]]
    if not shown:
        return f"## {table.title}\n\n{table.about}\n\nNot run yet.\n"
    lines = [f"## {table.title}", "", table.about, "", f"| | seeds | {' | '.join(table.modes)} |"]
    lines.append("|---|---:" + "|---:" * len(table.modes) + "|")
    for line in shown:
        results = found[line.row]
        figures = [[_figure(result, line, mode) for result in results] for mode in table.modes]
        seeds = max(len(several) - several.count(None) for several in figures)
        lines.append(f"| {line.title} | {seeds} | {' | '.join(map(cell, figures))} |")
    return "\n".join(lines) + "\n"


def _figure(result: Result, line: Line, mode: str) -> float | None:
    return result.top1(*dict(line.instead).get(mode, (mode, line.what)))


def cell(figures: list[float | None]) -> str:
    """Return mean ± standard deviation in %, then each seed's figure; empty where nothing was evaluated."""
    known = [100 * figure for figure in figures if figure is not None]
    if not known:
        return ""
    if len(known) == 1:
        return f"{known[0]:.1f}"
    each = " ".join(f"{figure:.1f}" for figure in known)
    return f"**{statistics.mean(known):.1f}** ± {statistics.stdev(known):.1f}<br>{each}"


def _commands(study: Study, found: Found) -> str:
    about = "Each makes one row again; what is there already is not done twice. Seconds are wall time, shared or not."
    lines = ["## Commands", "", about, ""]
    lines += [
        "| row | laid over the settings above | seconds a seed: pre-training, evaluation | command |",
        "|---|---|---:|---|",
    ]
    for row in study.rows:
        results = found[row.name]
        if results:
            training = statistics.mean(result.seconds for result in results)
            spent = f"{training:.0f}, {statistics.mean(result.evaluation_seconds for result in results):.0f}"
            sets = " ".join(f"`{one}`" for one in row.sets)
            command = study.command(row, seeds=[result.seed for result in results])
            lines.append(f"| {row.name} | {sets} | {spent} | `{command}` |")
    return "\n".join(lines) + "\n"
