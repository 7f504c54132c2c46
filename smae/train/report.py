"""The run's page: gathers what a run left behind and what its objective makes of a few clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.data.actions import class_name
from smae.data.storage.store import Store
from smae.train.config import RunConfig
from smae.train.evaluate import PRETRAINED
from smae.train.judge import load_objective
from smae.train.log import read_log
from smae.train.page import ConfusionPicture, Facts, LossPoint, ResultRow, RunPage, render_page
from smae.train.previews import previews
from smae.train.probes.selection import LAST
from smae.train.run import Run, read_json

CLIPS = 6
"""Clips shown."""

MODE_ORDER = {"finetune": 0, "linear": 1, "knn": 2}
"""The first mode there leads the page and shows its confusions."""

LOSS_POINTS = 600
"""Points of the loss curve; each is the mean over its share of the steps."""


def write_report(run: Run, store: Store, *, out: Path, say: Callable[[str], None]) -> Path:
    """Write the page of a run to ``out`` and return it.

    Raises:
        DataError: the run has no usable checkpoint, or the store does not fit it.
    """
    about = run.describe()
    config, objective = load_objective(run, store, say=say)
    found = [
        read_json(path, what="results", remedy="run smae eval again") for path in sorted(run.results.glob("*.json"))
    ]
    results = sorted(found, key=lambda result: (result["protocol"], MODE_ORDER.get(result["mode"], len(MODE_ORDER))))
    if not results:
        say("no results yet: smae eval adds them")
    page = RunPage(
        title=run.path.name,
        facts=_facts(about, store, config),
        losses=_losses(run, say=say),
        results=[_result(row, result, mode=store.mode) for result in results for row in result["rows"]],
        confusion=_confusion(results, dataset=store.dataset),
        confusion_of=f"{results[0]['protocol']}, {results[0]['mode']}, {results[0]['rows'][0]['what']}."
        if results
        else "",
        clips=previews(objective, store, config, clips=_chosen(store, config)),
        clips_note=objective.preview_note,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render_page(page), encoding="utf-8")
    return out


def _facts(about: dict[str, Any], store: Store, config: RunConfig) -> list[Facts]:
    split = store.split(config.protocol)
    settings = config.model_dump(mode="json")
    what = [("recipe", about["recipe"]), ("seed", str(config.seed)), ("device", about["device"]["type"])]
    what += [(name, _told(settings[name])) for name in ("objective", "masking", "encoder", "decoder", "optim", "train")]
    data = [
        ("store", f"{Path(about['store']['path']).name} ({store.dataset}, {store.mode} mode, {store.layout.name})"),
        ("fingerprint", store.fingerprint[:16]),
        ("clips", f"{len(store):,} of {len(store.classes)} classes"),
        ("split", f"{split.name}: {len(split.train):,} train, {len(split.test):,} test"),
        ("augmentation", _told(settings["augment"])),
    ]
    return [
        Facts("What was run", what),
        Facts("On what", data),
        Facts("With", [(name, str(version)) for name, version in about["versions"].items()]),
    ]


def _told(section: dict[str, Any]) -> str:
    name = section.get("name", "")
    rest = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                     for key, value in section.items() if key != "name")  # fmt: skip
    return f"{name}: {rest}" if name and rest else name or rest


def _losses(run: Run, *, say: Callable[[str], None]) -> list[LossPoint]:
    lines = read_log(run.log, note=say)
    points, size = [], max(1, -(-len(lines) // LOSS_POINTS))
    for start in range(0, len(lines), size):
        group = lines[start : start + size]
        before = lines[start - 1]["seconds"] if start else 0.0
        taken = max(1e-3, group[-1]["seconds"] - before)
        points.append(
            LossPoint(
                step=group[-1]["step"],
                epoch=float(group[-1]["epoch"] + 1),
                loss=float(np.mean([line["loss"] for line in group])),
                lr=group[-1]["lr"],
                clips_per_second=sum(line["clips"] for line in group) / taken,
            )
        )
    return points


def _result(row: dict[str, Any], result: dict[str, Any], *, mode: str) -> ResultRow:
    seen, notes = result.get("seen_in_training", 0), []
    if seen and row["what"] == PRETRAINED:
        notes.append(f"{seen:,} test clips were seen in pre-training")
    if result.get("store_mode", mode) != mode:
        notes.append(f"on a store in {result['store_mode']} mode")
    if row.get("selection", LAST) != LAST:
        notes.append(f"epoch chosen: {row['selection']}")
    if row.get("std") is not None:
        notes.append(f"mean of {row['seeds']} seeds, standard deviation {row['std']:.1%}")
    return ResultRow(result["protocol"], row["mode"], row["what"], row["top1"], row["top5"], "; ".join(notes))


def _confusion(results: list[dict[str, Any]], *, dataset: str) -> ConfusionPicture | None:
    if not results:
        return None
    names = [class_name(dataset, label) for label in results[0]["classes"]]
    return ConfusionPicture(names, np.array(results[0]["confusion"], np.int64))


def _chosen(store: Store, config: RunConfig) -> NDArray[np.int64]:
    """Return a few test clips, of different classes where there are as many."""
    test = store.split(config.protocol).test
    _, first = np.unique(store.clips.label[test], return_index=True)
    return np.sort(test[first[np.linspace(0, len(first) - 1, min(CLIPS, len(first))).round().astype(int)]])
