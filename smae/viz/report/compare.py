"""The page that compares runs: curves, results under the same settings, settings that differ."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np

from smae.errors import ConfigError
from smae.eval.results import RANDOM, Result, Row, bootstrap_difference, read_results
from smae.train.run_folder import Run
from smae.viz.report.figures import draw_curves, read_curves
from smae.viz.report.page import PageSection, missing, note, percent, render, table
from smae.viz.report.results import draw_accuracies, row_numbers

logger = logging.getLogger(__name__)

MAX_RUNS = 8
"""Runs on one page: as many as there are colours for lines."""

Key = tuple[str, str, tuple[str, bytes]]
"""Protocol, mode, and the evaluated data: results of one key can be compared."""


def comparison_page(runs: Sequence[Run]) -> str:
    """Return the page that compares runs; it opens no store and loads no weights.

    Raises:
        ConfigError: a run that is named twice, or more than ``MAX_RUNS``.
        DataError: a run or result that cannot be read.
    """
    if len(runs) > MAX_RUNS:
        raise ConfigError(f"{len(runs)} runs: expected {MAX_RUNS} at most: name fewer")
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise ConfigError("one run is named twice: name each once")
    names = [run.path.name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in runs]
    about = [run.describe() for run in runs]
    modes = [str(one["store"].get("mode", "")) for one in about]
    results = [read_results(run, mode=mode) for run, mode in zip(runs, modes, strict=True)]
    warnings = differing_data(names, about, results)
    for words in warnings:
        logger.warning(f"warning: {words}")
    scales = _loss_scales(about)
    listed = "".join(f'<li class="s{slot}">{escape(name)}</li>' for slot, name in enumerate(names))
    key = training = f'<ul class="runs">{listed}</ul>'
    if len(scales) > 1:
        training += note(
            "Losses of different objectives, targets or streams have different scales: each has its own chart."
        )
    curves = [(name, read_curves(run)) for name, run in zip(names, runs, strict=True)]
    training += draw_curves(curves, losses=scales)
    sections = [
        PageSection("results", "Results", draw_comparable(names, results, runs)),
        PageSection("training", "Training", training),
        PageSection("differences", "Settings that differ", draw_differences(names, about)),
    ]
    head = key + "".join(f'<p class="warning">{escape(words)}</p>' for words in warnings)
    return render(f"{len(runs)} runs compared", head=head, sections=sections)


def differing_data(
    names: Sequence[str], about: Sequence[Mapping[str, Any]], results: Sequence[Sequence[Result]]
) -> list[str]:
    """Return warnings about runs that were trained or evaluated on different data."""
    warnings = []
    stores = _differing(names, [f"{one['store'].get('fingerprint', '')[:12]}" for one in about])
    if stores:
        warnings.append(f"the runs were trained on different stores ({stores})")
    protocols = _differing(names, [str(one["config"].get("protocol", "")) for one in about])
    if protocols:
        warnings.append(f"the runs were trained under different protocols ({protocols})")
    keys = {_key(result) for several in results for result in several}
    modes = Counter((protocol, mode) for protocol, mode, _ in keys)
    order = dict.fromkeys((one.protocol, one.mode) for several in results for one in several)
    different = [f"{protocol} · {mode}" for protocol, mode in order if modes[protocol, mode] > 1]
    if different:
        warnings.append(
            f"evaluated on different stores or test clips: {', '.join(different)}; those results are not compared"
        )
    return warnings


def draw_comparable(names: Sequence[str], results: Sequence[Sequence[Result]], runs: Sequence[Run]) -> str:
    """Return results in groups of the same protocol, probe, store and test clips."""
    groups: dict[Key, list[tuple[int, Result]]] = defaultdict(list)
    for slot, several in enumerate(results):
        for result in several:
            groups[_key(result)].append((slot, result))
    lacking = "".join(
        missing(f"{name} has not been evaluated yet.", f"smae eval --checkpoint {run.path}")
        for name, run, several in zip(names, runs, results, strict=True)
        if not several
    )
    if not groups:
        return lacking
    several_stores = len({store for _, _, (store, _) in groups}) > 1
    charts, tables = [], ""
    for (protocol, mode, (store, _)), group in groups.items():
        title = f"{protocol} · {mode}"
        if several_stores:
            title += f" · store {store[:8]}"
        rows = [replace(result.lead, what=names[slot], slot=slot) for slot, result in group]
        charts.append((title, [*rows, *_baselines(names, group)]))
        tables += f"<h3>{escape(title)}</h3>{_numbers(names, group)}"
    explained = note(
        "Difference: accuracy on the same test clips minus that of the table's first run, with the "
        "first seed of both; in brackets its 95 % paired bootstrap interval."
    )
    return draw_accuracies(charts) + tables + explained + lacking


def _baselines(names: Sequence[str], group: Sequence[tuple[int, Result]]) -> list[Row]:
    """Return the baselines of a group once, with a run's name where runs differ in them.

    They differ where seeds, probe settings or clip lengths do. The random encoder is in the table.
    """
    rows: dict[Row, str] = {}
    for slot, result in group:
        for row in result.rows:
            if row is not result.lead and row.what != RANDOM:
                rows.setdefault(row, names[slot])
    count = Counter(row.what for row in rows)
    labels = [row.what + f" ({name})" * (count[row.what] > 1) for row, name in rows.items()]
    return [replace(row, what=label) for row, label in zip(rows, labels, strict=True)]


def _numbers(names: Sequence[str], group: Sequence[tuple[int, Result]]) -> str:
    """Return accuracy, random encoder and difference from the first run, a row a run."""
    first, rows = group[0][1], []
    for slot, result in group:
        top1, interval, _ = row_numbers(result.lead)
        random = next((row.top1 for row in result.rows if row.what == RANDOM), None)
        difference = "–"
        if result is not first:
            difference = _difference(first, result)
        rows.append((names[slot], top1, interval, percent(random, ""), difference, result.lead.note))
    head = ("in per cent", "top-1", "95 %", "random encoder", "difference", "")
    return table(head, rows, kind="comparison")


def _difference(first: Result, second: Result) -> str:
    one, two = first.predicted == first.label, second.predicted == second.label
    low, high = bootstrap_difference(one, two)
    return f"{100 * (two.mean() - one.mean()):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _key(result: Result) -> Key:
    return result.protocol, result.mode, (result.store, np.stack([result.test, result.label]).tobytes())


def _loss_scales(about: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Return groups of run numbers whose losses are on one scale."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number, one in enumerate(about):
        config = one["config"]
        groups[repr((config.get("objective"), config.get("augment", {}).get("stream")))].append(number)
    return list(groups.values())


def _differing(names: Sequence[str], values: Sequence[str]) -> str:
    """Return which runs have which value; empty where all have the same."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, value in zip(names, values, strict=True):
        groups[value].append(name)
    if len(groups) == 1:
        return ""
    return "; ".join(f"{value}: {', '.join(group)}" for value, group in groups.items())


def flatten(settings: Mapping[str, Any], *, prefix: str = "") -> dict[str, str]:
    """Return settings with dotted names, as text."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, prefix=f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = setting_text(value)
    return flat


def setting_text(value: Any) -> str:
    """Return a setting's value for people."""
    if value is None or value is True or value is False:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(setting_text, value)) or "–"
    return str(value)


def draw_differences(names: Sequence[str], about: Sequence[Mapping[str, Any]]) -> str:
    """Return the settings in which runs differ, a column a run; ``-`` where a run lacks one."""
    parts = ("recipe", "versions", "store")
    flat = [flatten({**one["config"], **{part: one.get(part, "") for part in parts}}) for one in about]
    rows = []
    for key in dict.fromkeys(key for one in flat for key in one):
        values = [one.get(key, "-") for one in flat]
        if key != "store.path" and len(set(values)) > 1:
            # Fingerprints are cut.
            rows.append((key, *(value if len(value) <= 40 else f"{value[:16]}…" for value in values)))
    if not rows:
        return note("The runs have the same settings, store and versions.")
    return table(("setting", *names), rows, kind="differences")
