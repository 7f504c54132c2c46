"""``smae.report``: the page of a run, or one that compares several; a self-contained HTML file each.

``report`` assembles a page from the parts that the other modules make.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import torch

from smae import interrupts
from smae.atomic_io import check_output, write_atomic
from smae.data.prepare.summary import read_refused
from smae.data.raw.labels import class_names, names_note
from smae.data.store import Store
from smae.data.store.file_store import locate
from smae.data.store.format import QUARANTINE
from smae.errors import ConfigError
from smae.eval.export import load_objective
from smae.eval.results import Result, choose, flatten, read_results, setting_text
from smae.train.distributed import pick_device
from smae.train.run_folder import Run, find_run
from smae.viz.report.compare import EVALUATION, comparison_page
from smae.viz.report.feature_map import feature_map
from smae.viz.report.page import (
    Curves,
    PageSection,
    draw_curves,
    facts,
    is_tables,
    missing,
    note,
    read_curves,
    render,
    table,
    tabs,
    write_tables,
)
from smae.viz.report.reconstruction_error import draw_reconstruction, summarise
from smae.viz.report.results import draw_confusion, draw_results, headline
from smae.viz.scene import Scene
from smae.viz.view import check_replaceable

logger = logging.getLogger(__name__)

CONFUSIONS = 4
"""Results whose confusion matrices are on the page."""
BAD_FILES = 20
"""Bad files that the page lists."""
EXCLUDED = {
    "missing-list": "on the published list of samples with missing skeletons",
    "no-body": "no body was recorded, or cleaning left none",
}
NOTES = {
    "bom": "byte order mark before the text",
    "many-bodies": "many bodies in one frame",
    "nan": "joint with a coordinate that is NaN",
    "nan-unused": "NaN outside the joint coordinates",
    "duplicate": "second copy with the same bytes",
    "empty-frames": "frames without a body, cut out",
    "dropped-frames": "frames that show no actor, cut out",
    "removed-short": "body present too briefly, removed",
    "removed-spread": "body wider than a person, removed",
    "kept-despite-length": "only brief bodies: the one that moves most is kept",
    "merged-bodies": "several ids of one person, joined",
    "dropped-bodies": "third body, left out",
    "moved-bodies": "body that left and came back, joined",
    "held-joints": "missing joints, copied from a neighbouring frame",
    "empty-actor": "second actor of zeros, as the reference writes it",
}
"""Kinds of note on clips that were kept; others are shown by name."""


@interrupts.deferred("run it again")
def report(
    *runs: Path | str,
    out: Path | str | None = None,
    data: Store | Path | str | None = None,
    device: str = "auto",
    tables: Path | str | None = None,
) -> Path:
    """Write a self-contained HTML page of a run, or one that compares several; return its path.

    An earlier page of smae is replaced, any other file is refused.

    Args:
        runs: run folders; default the newest run.
        out: the file; default ``<run>/report.html``, of several runs ``comparison.html``.
        data: store of a single run; default the one it was trained on.
        device: where features are computed: ``auto``, ``cpu``, ``cuda``.
        tables: a folder for the page's tables, as CSV and LaTeX; an earlier one is replaced.

    Raises:
        ConfigError: several runs and a store, one run twice, too many runs, or an output to keep.
        DataError: no run, a damaged one, or a store that does not fit.
    """
    if tables is not None:
        check_output(Path(tables), kind="a folder of tables", is_kind=is_tables, overwrite=True)
    paths: list[Path | None] = [Path(run) for run in runs] or [None]
    found = [find_run(path, root=Path("runs"), needs="checkpoint") for path in paths]
    if len(found) > 1:
        if data is not None:
            raise ConfigError("--data needs a single run: a comparison opens no store")
        path = Path(out or "comparison.html")
        check_replaceable(path, ".html", [])
        page = comparison_page(found)
    else:
        path = Path(out or found[0].path / "report.html")
        target, store = pick_device(device), _store_of(found[0], data)
        check_replaceable(path, ".html", [Path(store.path)] if store is not None else [])
        page = run_page(found[0], store, device=target)
    write_atomic(path, page.encode())
    if tables is not None:
        write_tables(page, Path(tables))
    return path


def _store_of(run: Run, data: Store | Path | str | None) -> Store | None:
    """Return the given store, or the one of the run; None where that does not exist any more."""
    if data is None and len(run.stores()) > 1:
        logger.warning("trained on several stores: name one with --data to see its clips")
        return None
    trained = str(run.stores()[0].get("path", ""))
    path = locate(trained)
    if data is None and isinstance(path, Path) and not path.exists():
        logger.warning(f"{trained}: this store does not exist any more; name another with --data")
        return None
    return run.open_store(data or trained)


def run_page(run: Run, store: Store | None, *, device: torch.device) -> str:
    """Return the page of a run as HTML; sections that need a store are left out without one."""
    about = run.describe()
    if store is not None:
        run.check_layout(store)
    curves = read_curves(run)
    results = read_results(run)
    if not results:
        logger.info("no results yet: smae eval adds them")
    features, scenes = _features(run, store, device=device)
    protocol = str(about["config"].get("protocol", ""))
    resume = f"smae pretrain --out {run.path} --resume"
    sections = [
        PageSection("results", "Results", draw_results(results, run.path, protocol)),
        PageSection("training", "Training", draw_curves([(run.path.name, curves)], command=resume)),
        *_confusion(results, store),
        *features,
        PageSection("preparation", "Preparation of the data", draw_preparation(store, about)),
        PageSection("settings", "Settings", draw_settings(about)),
        PageSection("versions", "Data and versions", draw_versions(about)),
    ]
    head = _summary(about, curves) + headline(results)
    return render(run.path.name, head=head, sections=sections, scenes=scenes)


def _summary(about: Mapping[str, Any], curves: Curves | None) -> str:
    config, store = about["config"], about["store"]
    words = [
        str(config.get("objective", {}).get("name", "")),
        f"{store.get('dataset', '')} {config.get('protocol', '')}",
        f"{store.get('mode', '')} mode",
        f"on {about['device'].get('type', '')}",
    ]
    if curves is not None:
        steps, done = int(about.get("steps", 0)), int(curves.step[-1])
        progress = f"{done:,} steps"
        if done < steps:
            progress = f"{done:,} of {steps:,} steps"
        loss = f"last loss {curves.loss[-1]:.4g}"
        words += [progress, f"epoch {curves.epochs:,}", _duration(curves.seconds), loss]
    return f'<p class="sub">{escape(" · ".join(words))}</p>'


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _confusion(results: list[Result], store: Store | None) -> list[PageSection]:
    panels = []
    for result in choose(results)[:CONFUSIONS]:
        names = list(result.classes)
        if store is not None and set(names) <= set(store.classes):
            names = class_names(store, result.classes)
        panels.append((result.name, draw_confusion(names, result.confusion)))
    if not panels:
        return []
    body = tabs(panels, label="evaluation")
    if store is not None:
        body += note(names_note(store))
    return [PageSection("confusion", "Confusion", body)]


def _features(run: Run, store: Store | None, *, device: torch.device) -> tuple[list[PageSection], tuple[Scene, ...]]:
    """Return the sections that need weights and clips, and the scenes that they play."""
    if store is None:
        return [], ()
    if not any(run.checkpoints.glob("step-*")):
        words = missing("No checkpoint has been written yet.", f"smae pretrain --out {run.path} --resume")
        return [PageSection("features", "Features", words)], ()
    config, objective = load_objective(run, store)
    reconstruction = summarise(objective, store, config)
    features = feature_map(objective.encoder, store, config, device=device)
    what = f"{config.objective.name} on the {config.augment.stream} stream"
    sections = [
        PageSection("features", "Features", features),
        PageSection("reconstruction", "Masked reconstruction", draw_reconstruction(reconstruction, what=what)),
    ]
    if reconstruction is None:
        return sections, ()
    return sections, reconstruction.scenes


def draw_preparation(store: Store | None, about: Mapping[str, Any]) -> str:
    """Return counts of raw files that were kept, left out or bad, and the bad files."""
    if store is None:
        stores, why = about["store"].get("stores", [about["store"]]), "The store of this run was not found"
        if len(stores) > 1:
            why = "The run was trained on several stores, and none of them was named"
        return missing(
            f"{why}, so features, reconstructed clips, class names and the preparation of the data are left out.",
            f"smae report --data {Path(str(stores[0].get('path', 'ntu.zarr'))).name}",
        )
    counts = store.attributes.counts
    if not counts:
        return note("This store has no counts of raw files.")
    excluded, noted = counts.get("excluded") or {}, counts.get("noted") or {}
    parts = [
        ("kept", int(counts.get("ok", len(store))), "own"),
        ("left out by rule", sum(excluded.values()), "rule"),
        ("bad, in quarantine", int(counts.get("quarantined", 0)), "bad"),
        ("not samples, or copies", int(counts.get("ignored", 0)), "ignored"),
    ]
    strip = keys = cards = ""
    for name, number, kind in parts:
        if number:
            strip += f'<i class="{kind}" style="flex-grow:{number}" title="{name}: {number:,}"></i>'
            keys += f'<span class="part {kind}">{name} <b>{number:,}</b></span>'
    words = EXCLUDED | NOTES
    for title, numbers in (("Left out", excluded), ("Kept with a note (clips)", noted)):
        rows = [(words.get(kind, kind), f"{number:,}") for kind, number in numbers.items()]
        cards += facts(title, rows) if rows else ""
    total = sum(number for _, number, _ in parts)
    return (
        f"{note(f'{total:,} raw files were found.')}"
        f'<div class="strip" role="img" aria-label="shares of the raw files">{strip}</div>'
        f'<p class="parts">{keys}</p><div class="cards">{cards}</div>{_bad_files(store)}'
    )


def _bad_files(store: Store) -> str:
    refused, _ = read_refused(store)
    if not refused:
        return ""
    rows, more = [], ""
    for one in refused[:BAD_FILES]:
        where = one.path
        if one.line:
            where += f":{one.line}:{one.column}"
        rows.append((where, one.code, one.message))
    if len(refused) > BAD_FILES:
        more = note(f"and {len(refused) - BAD_FILES:,} more, in the store's {QUARANTINE}")
    counts = Counter(one.code for one in refused).most_common()
    title = escape(", ".join(f"{code} {number:,}" for code, number in counts))
    return f"<h3>In quarantine: {title}</h3>{table(('file', 'error', 'message'), rows)}{more}"


def draw_settings(about: Mapping[str, Any]) -> str:
    """Return a run's settings of pre-training, one card a section; results have their probes'."""
    single, cards = [("recipe", str(about.get("recipe", "–")))], ""
    for key, value in about["config"].items():
        if key in EVALUATION:
            continue
        if isinstance(value, Mapping):
            cards += facts(key, flatten(value).items())
        else:
            single.append((key, setting_text(value)))
    return f'<div class="cards settings">{facts("run", single)}{cards}</div>'


def draw_versions(about: Mapping[str, Any]) -> str:
    """Return the store, software and device of a run."""
    store = {**about["store"], "path": Path(str(about["store"].get("path", "–"))).name}
    if "stores" in store:
        store |= {"path": "–", "stores": [f"{one['name']} {one['protocol']}" for one in store["stores"]]}
    parts = {"store": store, "versions": about["versions"], "device": about["device"]}
    cards = "".join(facts(title, flatten(values).items()) for title, values in parts.items())
    return f'<div class="cards">{cards}</div>'
