"""The page of one run: everything that it left behind, and what its objective makes of test clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import torch

from smae.atomic_io import write_atomic
from smae.data.raw.class_counts import class_names, names_note
from smae.data.store.store import Store
from smae.eval.export import load_objective
from smae.eval.results import Result, read_results
from smae.train.run_folder import Run
from smae.viz import Scene
from smae.viz.report.confusion import draw_confusion
from smae.viz.report.curves import Curves, draw_curves, read_curves
from smae.viz.report.dropped import draw_dropped
from smae.viz.report.feature_map import draw_map, map_features
from smae.viz.report.markup import Section, choices, missing, note
from smae.viz.report.page import render
from smae.viz.report.reconstruction_error import draw_rebuilding, look
from smae.viz.report.results import draw_results, headline
from smae.viz.report.settings import draw_settings, draw_versions

CONFUSIONS = 4
"""Results whose confusions are on the page."""

Tell = Callable[[str, int, int], None]


def write_report(
    run: Run, store: Store | None, *, out: Path, device: torch.device, say: Callable[[str], None], tell: Tell
) -> Path:
    """Write the page of a run to ``out`` and return it.

    Args:
        run: the run.
        store: what it was trained on; without it the page leaves out what needs it, and says how to get it.
        out: the file.
        device: where features are computed.
        say: takes lines for people.
        tell: takes progress: what is being done, how far, of how much.

    Raises:
        DataError: no readable run, a damaged checkpoint or result, or a store that does not fit.
        EnvironmentFault: the file cannot be written.
    """
    about = run.describe()
    if store is not None:
        run.check_layout(store)
    curves = read_curves(run, say=say)
    results = read_results(run, mode=str(about["store"].get("mode", "")))
    if not results:
        say("no results yet: smae eval adds them")
    seen, scenes = _what_it_sees(run, store, device=device, say=say, tell=tell)
    protocol = str(about["config"].get("protocol", ""))
    resume = f"smae pretrain --out {run.path} --resume"
    sections = [
        Section("results", "Results", draw_results(results, run=str(run.path), protocol=protocol)),
        Section("training", "Training", draw_curves([(run.path.name, curves)], command=resume)),
        *_confusion(results, store),
        *seen,
        Section("dropped", "Dropped in preparing", draw_dropped(store) if store is not None else _no_store(about)),
        Section("settings", "Settings", draw_settings(about)),
        Section("versions", "Data and versions", draw_versions(about)),
    ]
    page = render(run.path.name, head=_head(about, curves) + headline(results), sections=sections, scenes=scenes)
    write_page(page, out)
    return out


def write_page(page: str, out: Path) -> None:
    """Write a page; folders on the way are made.

    Raises:
        EnvironmentFault: no space, no permission, or a device error.
    """
    write_atomic(out, page.encode())


def _head(about: Mapping[str, Any], curves: Curves | None) -> str:
    config, store = about["config"], about["store"]
    words = [
        str(config.get("objective", {}).get("name", "")),
        f"{store.get('dataset', '')} {config.get('protocol', '')}",
        f"{store.get('mode', '')} mode",
        f"on {about['device'].get('type', '')}",
    ]
    if curves is not None:
        steps = int(about.get("steps", 0))
        done = int(curves.step[-1])
        words.append(f"{done:,} of {steps:,} steps" if done < steps else f"{done:,} steps")
        words.append(f"epoch {curves.epochs:,} begun, {_clock(curves.seconds)}")
        words.append(f"last loss {curves.loss[-1]:.4g}")
    return f'<p class="sub">{escape(" · ".join(words))}</p>'


def _clock(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _confusion(results: list[Result], store: Store | None) -> list[Section]:
    panels = []
    for result in results[:CONFUSIONS]:
        told = store is not None and set(result.classes) <= set(store.classes)
        names = class_names(store, result.classes) if store is not None and told else list(result.classes)
        panels.append((result.name, draw_confusion(names, result.confusion)))
    if not panels:
        return []
    hint = note(names_note(store)) if store is not None else ""
    return [Section("confusion", "Confusion", choices("confusion", panels, label="which result") + hint)]


def _what_it_sees(
    run: Run, store: Store | None, *, device: torch.device, say: Callable[[str], None], tell: Tell
) -> tuple[list[Section], tuple[Scene, ...]]:
    """Return the parts that need weights and clips, and the scenes that they play."""
    if store is None:
        return [], ()
    if not any(run.checkpoints.glob("step-*")):
        words = missing("No checkpoint was written yet.", f"smae pretrain --out {run.path} --resume")
        return [Section("features", "Features", words)], ()
    config, objective = load_objective(run, store)
    what = f"{config.objective.name} on the {config.augment.stream} stream"
    rebuilt = look(objective, store, config, tell=lambda done, of: tell("hidden joints", done, of))
    features = map_features(
        objective.encoder, store, config, device=device, tell=lambda done, of: tell("features", done, of)
    )
    sections = [
        Section("features", "Features", draw_map(features, store)),
        Section("rebuilding", "Hidden and filled in", draw_rebuilding(rebuilt, what=what)),
    ]
    return sections, rebuilt.scenes if rebuilt is not None else ()


def _no_store(about: Mapping[str, Any]) -> str:
    name = Path(str(about["store"].get("path", "ntu.zarr"))).name
    return missing(
        "The store that this run was trained on is not where it was, so features, rebuilt clips, class names and what "
        "was dropped are left out.",
        f"smae report --data {name}",
    )
