"""The page that compares runs: curves, results under the same settings, settings that differ."""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.errors import ConfigError
from smae.eval.records import RANDOM, Row
from smae.eval.results import (
    Result,
    bootstrap,
    bootstrap_difference,
    choose,
    differences,
    flatten,
    read_results,
    std_over_seeds,
)
from smae.train.run_folder import Run
from smae.viz.report.page import PageSection, draw_curves, missing, note, percent, read_curves, render, table
from smae.viz.report.results import draw_accuracies, provenance, row_numbers, warnings_of

logger = logging.getLogger(__name__)

EVALUATION = ("linear", "knn", "finetune", "scratch", "selection")
"""Sections of a run's settings that training does not read; results have their own."""
OF_A_RUN = ("checkpoint", "seeds")
"""Settings of a result in which runs that are compared may differ."""
LONG = 80
"""Characters beyond which what sets an evaluation apart is a letter, and its settings a table."""
COLOURS = 8
"""Number of colours for lines: one for each run, or of more runs one for each method."""


def comparison_page(runs: Sequence[Run]) -> str:
    """Return the page that compares runs; it opens no store and loads no weights."""
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise ConfigError("one run is named twice: name each once")
    names = [run.path.name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in runs]
    about = [run.describe() for run in runs]
    method = methods(about)
    colours = list(range(len(runs)))
    if len(runs) > COLOURS:
        colours = [list(dict.fromkeys(method)).index(one) for one in method]
    if max(colours) >= COLOURS:
        raise ConfigError(
            f"{len(runs)} runs of {len(set(method))} methods: expected {COLOURS} runs at most, or "
            f"more that differ in the seed alone, of {COLOURS} methods at most: name fewer"
        )
    results = [read_results(run) for run in runs]
    groups = alike(results)
    warnings = differing_data(names, about, groups)
    for words in warnings:
        logger.warning(f"warning: {words}")
    scales = _loss_scales(about)
    listed = "".join(f'<li class="s{slot}">{escape(name)}</li>' for slot, name in zip(colours, names, strict=True))
    key = training = f'<ul class="runs">{listed}</ul>'
    if len(scales) > 1:
        training += note(
            "Losses of different objectives, targets or streams have different scales: each has its own chart."
        )
    curves = [(name, read_curves(run)) for name, run in zip(names, runs, strict=True)]
    training += draw_curves(curves, losses=scales, colours=colours)
    differing = draw_differences(names, about) + _evaluations(groups)
    sections = [
        PageSection(
            "results", "Results", draw_comparable(names, groups, method, colours) + _lacking(names, runs, results)
        ),
        PageSection("training", "Training", training),
        PageSection("differences", "Settings that differ", differing),
    ]
    head = key + "".join(f'<p class="warning">{escape(words)}</p>' for words in warnings)
    head += warnings_of(result for several in results for result in choose(several))
    return render(f"{len(runs)} runs compared", head=head, sections=sections)


def alike(results: Sequence[Sequence[Result]]) -> dict[str, list[tuple[int, Result]]]:
    """Return groups of (run number, result) by ``Result.alike``; of a run at most one in each."""
    groups: dict[str, dict[int, Result]] = defaultdict(dict)
    for slot, several in enumerate(results):
        for result in several:
            groups[result.alike].setdefault(slot, result)
    ordered = sorted(groups.items(), key=lambda item: next(iter(item[1].values())).place)
    return {key: list(group.items()) for key, group in ordered}


def methods(about: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return for each run the number of the first run that was trained like it, up to the seed."""
    keys = []
    for one in about:
        config = {key: value for key, value in one["config"].items() if key not in ("seed", *EVALUATION)}
        keys.append(json.dumps([config, one["store"].get("fingerprint")], sort_keys=True))
    return [keys.index(key) for key in keys]


def differing_data(
    names: Sequence[str], about: Sequence[Mapping[str, Any]], groups: Mapping[str, Sequence[tuple[int, Result]]]
) -> list[str]:
    """Return warnings about runs that were trained or evaluated in different ways."""
    warnings = []
    stores = _differing(names, [f"{one['store'].get('fingerprint', '')[:12]}" for one in about])
    if stores:
        warnings.append(f"the runs were trained on different stores ({stores})")
    protocols = _differing(names, [str(one["config"].get("protocol", "")) for one in about])
    if protocols:
        warnings.append(f"the runs were trained under different protocols ({protocols})")
    firsts = [group[0][1] for group in groups.values()]
    different: dict[str, list[str]] = defaultdict(list)
    for one, words in zip(firsts, _apart(firsts), strict=True):
        different[one.name] += [words] * bool(words)
    listed = [f"{name} ({' / '.join(words)})" for name, words in different.items() if words]
    if listed:
        lettered = any("settings A" in words for words in different.values())
        more = ". They are listed at the end" * lettered
        warnings.append(f"evaluated in different ways, and shown apart: {'; '.join(listed)}{more}")
    return warnings


def _apart(results: Sequence[Result]) -> list[str]:
    """Return what sets each result apart within its probe: settings or, of many, a letter."""
    words, letters = differences(results, without=OF_A_RUN), Counter[str]()
    lettered = {one.name for one, text in zip(results, words, strict=True) if len(text) > LONG}
    for number, one in enumerate(results):
        if one.name in lettered:
            words[number] = f"settings {chr(ord('A') + letters[one.name])}"
            letters[one.name] += 1
    return words


def _evaluations(groups: Mapping[str, Sequence[tuple[int, Result]]]) -> str:
    """Return a table of the settings of each probe whose groups have letters."""
    firsts, body = [group[0][1] for group in groups.values()], ""
    apart = _apart(firsts)
    for name in dict.fromkeys(one.name for one in firsts):
        columns = [number for number, one in enumerate(firsts) if one.name == name]
        if not apart[columns[0]].startswith("settings "):
            continue
        settings = [firsts[number].settings for number in columns]
        rows = [
            (key, *(one.get(key, "–") for one in settings))
            for key in dict.fromkeys(key for one in settings for key in one)
        ]
        rows = [row for row in rows if row[0] not in OF_A_RUN and len(set(row[1:])) > 1]
        head = ("setting", *(apart[number] for number in columns))
        body += f"<h3>{escape(name)}</h3>{table(head, rows, kind='differences')}"
    return body


def draw_comparable(
    names: Sequence[str],
    groups: Mapping[str, Sequence[tuple[int, Result]]],
    method: Sequence[int],
    colours: Sequence[int],
) -> str:
    """Return charts and tables of the groups of ``alike``."""
    if not groups:
        return ""
    charts, tables = [], ""
    firsts = [group[0][1] for group in groups.values()]
    titles = [f"{one.name} · {words}" if words else one.name for one, words in zip(firsts, _apart(firsts), strict=True)]
    for title, group in zip(titles, groups.values(), strict=True):
        rows = [replace(result.lead, what=names[slot], slot=colours[slot]) for slot, result in group]
        charts.append((title, [*rows, *_baselines(names, group)]))
        settings = "".join(f"<small>{escape(line)}</small>" for line in provenance(group[0][1], without=OF_A_RUN)[:2])
        tables += f"<h3>{escape(title)}{settings}</h3>{_numbers(names, group, method)}"
        for slot, result in group:
            own = ", ".join(f"{key} {result.settings[key]}" for key in OF_A_RUN)
            tables += note(f"{names[slot]}: {own}; {'; '.join(provenance(result)[2:])}")
    explained = note(
        "Difference: accuracy on the same test clips minus that of the table's first run, or of "
        "the first method where it is a mean over pre-training seeds; in brackets its 95 % paired "
        "bootstrap interval over seeds and clips."
    )
    return draw_accuracies(charts) + tables + explained


def _lacking(names: Sequence[str], runs: Sequence[Run], results: Sequence[Sequence[Result]]) -> str:
    return "".join(
        missing(f"{name} has not been evaluated yet.", f"smae eval --run {run.path}")
        for name, run, several in zip(names, runs, results, strict=True)
        if not several
    )


def _baselines(names: Sequence[str], group: Sequence[tuple[int, Result]]) -> list[Row]:
    """Return the baselines of a group once, with a run's name where runs differ in them.

    They differ where seeds or clip lengths do. The random encoder is in the table.
    """
    rows: dict[Row, str] = {}
    for slot, result in group:
        for row in result.rows:
            if row is not result.lead and row.what != RANDOM:
                rows.setdefault(row, names[slot])
    count = Counter(row.what for row in rows)
    labels = [row.what + f" ({name})" * (count[row.what] > 1) for row, name in rows.items()]
    return [replace(row, what=label) for row, label in zip(rows, labels, strict=True)]


def _numbers(names: Sequence[str], group: Sequence[tuple[int, Result]], method: Sequence[int]) -> str:
    """Return accuracy, random encoder and difference from the first: a row a run, then a method."""
    first, rows = group[0][1], list[tuple[str, ...]]()
    for slot, result in group:
        top1, interval, per_class, _ = row_numbers(result.lead)
        random = next((row.top1 for row in result.rows if row.what == RANDOM), None)
        difference = "–"
        if result is not first:
            difference = _difference([first], [result])
        seeds = str(len(result.records))
        notes = "; ".join(result.notes)
        rows.append((names[slot], seeds, top1, interval, per_class, percent(random, ""), difference, notes))
    kinds = dict.fromkeys(method[slot] for slot, _ in group)
    stacks = {kind: [one for slot, one in group if method[slot] == kind] for kind in kinds}
    if any(len(several) > 1 for several in stacks.values()):
        rows += _means(names, stacks)
    head = ("in per cent", "seeds", "top-1", "95 %", "mean class", "random encoder", "difference", "")
    return table(head, rows, kind="comparison")


def _means(names: Sequence[str], stacks: Mapping[int, Sequence[Result]]) -> list[tuple[str, ...]]:
    """Return a row a method: mean and deviation over seeds of pre-training, and the difference."""
    rows = list[tuple[str, ...]]()
    base = next(iter(stacks.values()))
    for number, (kind, results) in enumerate(stacks.items()):
        means = [one.lead.top1 for one in results]
        row = Row("", float(np.mean(means)), std=std_over_seeds(means), interval=bootstrap(_correct(results)))
        per_class = float(np.mean([one.lead.mean_class or 0.0 for one in results]))
        top1, interval, mean, _ = row_numbers(replace(row, mean_class=per_class))
        name = f"{names[kind]}, pre-training seed{'s' * (len(results) > 1)} {', '.join(map(str, _seeds(results)))}"
        rows.append(
            (name, str(len(results)), top1, interval, mean, "", _difference(base, results) if number else "–", "")
        )
    return rows


def _seeds(results: Sequence[Result]) -> list[int]:
    """Return the first seed of each result: that of pre-training, unless another was set."""
    return [int(one.first["seed"]) for one in results]


def _correct(results: Sequence[Result]) -> NDArray[Any]:
    """Return how right each run is about each test clip, [runs, n]; of a single run [seeds, n]."""
    if len(results) == 1:
        return results[0].correct
    return np.stack([one.correct.mean(0) for one in results])


def _difference(one: Sequence[Result], two: Sequence[Result]) -> str:
    first, second = (_correct(sorted(several, key=lambda result: int(result.first["seed"]))) for several in (one, two))
    same = sorted(_seeds(one)) == sorted(_seeds(two)) and len(first) == len(second)
    low, high = bootstrap_difference(first, second, paired=same)
    return f"{100 * (second.mean() - first.mean()):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


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


def draw_differences(names: Sequence[str], about: Sequence[Mapping[str, Any]]) -> str:
    """Return settings of pre-training in which runs differ, a column a run; ``-`` without one."""
    parts = ("recipe", "versions", "store")
    settings = [{key: value for key, value in one["config"].items() if key not in EVALUATION} for one in about]
    flat = [
        flatten({**mine, **{part: one.get(part, "") for part in parts}})
        for mine, one in zip(settings, about, strict=True)
    ]
    rows = []
    for key in dict.fromkeys(key for one in flat for key in one):
        values = [one.get(key, "-") for one in flat]
        if key not in ("store.path", "store.stores") and len(set(values)) > 1:
            # Fingerprints are cut.
            rows.append((key, *(value if len(value) <= 40 else f"{value[:16]}…" for value in values)))
    if not rows:
        return note("The runs have the same settings, store and versions.")
    return table(("setting", *names), rows, kind="differences")
