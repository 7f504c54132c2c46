"""Several runs side by side: curves over each other, results that were judged alike, and the settings that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from smae.errors import ConfigError
from smae.eval.results import RANDOM, Result, Row, bootstrap_difference, read_results
from smae.train.run_folder import Run
from smae.viz.report.curves import draw_curves, read_curves
from smae.viz.report.markup import Section, missing, note, table
from smae.viz.report.page import render
from smae.viz.report.results import picture, points
from smae.viz.report.run_report import write_page
from smae.viz.report.settings import draw_differences

MOST = 8
"""Runs on a page: so many lines can be told apart by colour."""


def write_comparison(runs: Sequence[Run], *, out: Path, say: Callable[[str], None]) -> Path:
    """Write a page that compares runs to ``out`` and return it; no store is opened and no weight loaded.

    Raises:
        ConfigError: one run twice, or more than ``MOST``.
        DataError: a run or result that cannot be read.
    """
    if len(runs) > MOST:
        raise ConfigError(f"{len(runs)} runs: a page compares {MOST} at most: name fewer")
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise ConfigError("one run is named twice: name each once")
    short = [run.path.name for run in runs]
    names = short if len(set(short)) == len(short) else [str(run.path) for run in runs]
    about = [run.describe() for run in runs]
    results = [read_results(run, mode=str(one["store"].get("mode", ""))) for run, one in zip(runs, about, strict=True)]
    warnings = warn(names, about, results)
    for words in warnings:
        say(f"careful: {words}")
    scales = _loss_scales(about)
    apart = "" if len(scales) == 1 else note(
        "Losses of different objectives, targets or streams are on different scales: each has a chart of its own."
    )  # fmt: skip
    curves = [(name, read_curves(run, say=say)) for name, run in zip(names, runs, strict=True)]
    listed = "".join(f'<li class="s{slot}">{escape(name)}</li>' for slot, name in enumerate(names))
    key = f'<ul class="runs">{listed}</ul>'
    sections = [
        Section("results", "Results", draw_alike(names, results, runs)),
        Section("training", "Training", key + apart + draw_curves(curves, losses=scales)),
        Section("differences", "What differs in the settings", draw_differences(list(zip(names, about, strict=True)))),
    ]
    told = "".join(f'<p class="warning">{escape(words)}</p>' for words in warnings)
    write_page(render(f"{len(runs)} runs compared", head=key + told, sections=sections), out)
    return out


def warn(names: Sequence[str], about: Sequence[Mapping[str, Any]], results: Sequence[Sequence[Result]]) -> list[str]:
    """Return what one should know before one compares these runs."""
    found = []
    stores = _groups(names, [f"{one['store'].get('fingerprint', '')[:12]}" for one in about])
    if len(stores) > 1:
        found.append(f"the runs were trained on different stores ({_listed(stores)}): what differs may be the data")
    protocols = _groups(names, [str(one["config"].get("protocol", "")) for one in about])
    if len(protocols) > 1:
        found.append(f"the runs were trained under different protocols ({_listed(protocols)})")
    kinds: dict[tuple[str, str], set[tuple[str, bytes]]] = {}
    for result in (result for several in results for result in several):
        kinds.setdefault((result.protocol, result.mode), set()).add(_exam(result))
    apart = [f"{protocol} · {mode}" for (protocol, mode), exams in kinds.items() if len(exams) > 1]
    if apart:
        found.append(
            f"judged on different stores or test clips: {', '.join(apart)}; those results stand in tables of their own "
            "and are not compared"
        )
    return found


def draw_alike(names: Sequence[str], results: Sequence[Sequence[Result]], runs: Sequence[Run]) -> str:
    """Return results in groups that were judged alike: same protocol, probe, store and test clips."""
    groups: dict[tuple[str, str, tuple[str, bytes]], list[tuple[int, Result]]] = {}
    for slot, several in enumerate(results):
        for result in several:
            groups.setdefault((result.protocol, result.mode, _exam(result)), []).append((slot, result))
    lacking = [
        missing(f"{name} was not judged yet.", f"smae eval --checkpoint {run.path}")
        for name, run, several in zip(names, runs, results, strict=True)
        if not several
    ]
    if not groups:
        return "".join(lacking)
    several_stores = len({key[2][0] for key in groups}) > 1
    shown, tables = [], ""
    for (protocol, mode, (store, _)), found in groups.items():
        where = f" · store {store[:8]}" if several_stores else ""
        title = f"{protocol} · {mode}{where}"
        rows = [replace(result.lead, what=names[slot], slot=slot) for slot, result in found]
        shown.append((title, [*rows, *_baselines(names, found)]))
        tables += f"<h3>{escape(title)}</h3>{_numbers(names, found)}"
    told = note(
        "Difference: share of the same test clips that are recognised, minus that of the table's first run, by the "
        "first seed of both; in brackets 95 % of a bootstrap that draws the same clips for both."
    )
    return picture(shown) + tables + told + "".join(lacking)


def _baselines(names: Sequence[str], found: Sequence[tuple[int, Result]]) -> list[Row]:
    """Return the baselines of a group that know no weights of ours, once; under a run's name where runs differ in them.

    They differ where runs were judged with other seeds, settings of the probe or cuts of the clips.
    """
    rows: dict[Row, str] = {}
    for slot, result in found:
        for row in result.rows:
            if row is not result.lead and row.what != RANDOM:
                rows.setdefault(row, names[slot])
    several = Counter(row.what for row in rows)
    return [
        replace(row, what=f"{row.what} ({name})" if several[row.what] > 1 else row.what) for row, name in rows.items()
    ]


def _numbers(names: Sequence[str], found: Sequence[tuple[int, Result]]) -> str:
    """Return a row a run: score, interval, its random encoder, and the difference from the first with its interval."""
    first, rows = found[0][1], []
    for slot, result in found:
        row = result.lead
        untrained = next((other.top1 for other in result.rows if other.what == RANDOM), None)
        spread = f" ± {100 * row.std:.1f}" if row.std is not None else ""
        between = f"{100 * row.interval[0]:.1f} to {100 * row.interval[1]:.1f}" if row.interval else "–"
        gain = "–" if result is first else _gain(first, result)
        rows.append((names[slot], f"{points(row.top1)}{spread}", between, points(untrained), gain, row.note))
    return table(("in per cent", "top-1", "95 %", "random encoder", "difference", ""), rows, kind="alike")


def _gain(first: Result, second: Result) -> str:
    one, two = first.predicted == first.label, second.predicted == second.label
    low, high = bootstrap_difference(one, two)
    return f"{100 * (two.mean() - one.mean()):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _exam(result: Result) -> tuple[str, bytes]:
    """Return what must be the same for two results to be compared: the store, the test clips and their classes."""
    return result.store, np.stack([result.test, result.label]).tobytes()


def _loss_scales(about: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Return numbers of runs in groups whose losses are on one scale."""
    told = [repr((one["config"].get("objective"), one["config"].get("augment", {}).get("stream"))) for one in about]
    return [[number for number, words in enumerate(told) if words == kind] for kind in dict.fromkeys(told)]


def _groups(names: Sequence[str], values: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, value in zip(names, values, strict=True):
        groups.setdefault(value, []).append(name)
    return groups


def _listed(groups: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{value}: {', '.join(names)}" for value, names in groups.items())
