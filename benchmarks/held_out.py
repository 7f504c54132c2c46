"""What an encoder pre-trained on other data is worth: each set held out in turn, beside raw coordinates, a random
encoder, and pre-training on that set alone. And open-small itself, made of the first of these encoders.

``python -m benchmarks.held_out --stores STORES`` does what is not done yet, as far as it is let, and writes the
table of what there is. ``benchmarks.open_data`` writes the stores.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import click
import torch

import smae
from benchmarks.study.results import RESULTS, commit, here
from smae.atomic_io import write_json
from smae.data.loader.loader import Loader
from smae.data.store import Store
from smae.eval.export import read_weights, write_weights
from smae.eval.features import Pooled
from smae.eval.records import PRETRAINED, RANDOM, RAW
from smae.train.metrics_log import read_log
from smae.train.run_folder import DEFAULT_WEIGHTS, WEIGHTS, find_run

RECIPE = "open-small"
OPEN = "open-small"
"""The run on all open data; the other runs have the names of the sets that they were trained on."""
HELD_OUT = {"nw-ucla": OPEN, "hdm05": OPEN, "ui-prmd": "cmu", "cmu": "ui-prmd"}
"""Run whose encoder has not seen a set, by set."""
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
COLUMNS = {
    "raw coordinates": RAW,
    "untrained encoder": RANDOM,
    "pre-trained on other sets": "held out",
    "pre-trained on this set": "alone",
}


def train(name: str, stores: Path, runs: Path, *, steps: int | None) -> Path:
    """Pre-train on a set, as far as it is not done; return the run's folder."""
    everything = name == OPEN
    smae.pretrain(
        data=stores / f"{'open' if everything else name}.zarr",
        out=runs / name,
        recipe=RECIPE,
        protocol="all" if everything else "own",
        settings={} if steps is None else {"train.max_steps": steps},
        device="cpu",
        resume=True,
    )
    return runs / name


def measure(run: Path, data: Store, *, baselines: bool) -> dict[str, dict[str, float]]:
    """Return top-1 by what was evaluated and by probe; what was measured before is read again."""
    _, found = smae.evaluate(run=run, data=data, protocol="own", baselines=baselines, device="cpu")
    scores: dict[str, dict[str, float]] = {}
    for row in found.rows:
        scores.setdefault(row.what, {})[row.mode] = round(row.top1, 4)
    return scores


def table(results: dict[str, Any]) -> str:
    """Return the table of the results there are: linear / 1-NN, top-1 in %."""
    lines = [
        f"| held out (train / test clips, classes) | {' | '.join(COLUMNS)} |",
        f"|---|{'---:|' * len(COLUMNS)}",
    ]
    for name in HELD_OUT:
        one = results.get(name)
        if one is None:
            continue
        cells = []
        for key in COLUMNS.values():
            scores = one["scores"].get(key)
            cells.append(f"{100 * scores['linear']:.1f} / {100 * scores['knn']:.1f}" if scores else "")
        lines.append(
            f"| {name} ({one['train']:,} / {one['test']:,}, {one['classes']}), by {one['run']} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def ship(run: Path, head: Path, *, to: Path) -> None:
    """Write an encoder and its linear head as packaged weights, float16; the model card that is there stays.

    Args:
        run: the encoder's run.
        head: the folder of its head that ``smae eval`` wrote.
        to: folder of the packaged weights.
    """
    loaded, about = read_weights(head), find_run(run).describe()
    config = loaded.config
    # The path of a store means nothing on another machine, and each store has protocols of its own.
    store = {key: value for key, value in about["store"].items() if key not in ("path", "prepared")}
    settings = {key: value for key, value in about["config"].items() if key != "protocol"}
    origin = {"run": to.name, "recipe": RECIPE, "versions": about["versions"], "store": store, "config": settings}
    origin |= {"step": config.origin["checkpoint"]["step"], "steps": about["steps"], "head": config.origin}
    card = to / "README.md"
    write_weights(
        to,
        loaded.model,
        encoder=config.encoder,
        augment=config.augment,
        layout=loaded.layout,
        head=config.head,
        prepared=config.prepared,
        origin=origin,
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
        half=True,
    )


def rounding(head: Path, packaged: Path, data: Path) -> dict[str, float]:
    """Return what float16 changes: in features of a store's test clips, and in the classes that they are given."""
    clips = smae.open_store(data)
    loader = Loader(clips, clips.split("own").test, augment=read_weights(head).config.augment, batch=256, seed=0,
                    train=False, device=torch.device("cpu"))  # fmt: skip
    (one, first), (two, second) = (_outputs(folder, loader) for folder in (head, packaged))
    return {
        "megabytes": round((packaged / "model.safetensors").stat().st_size / 1e6, 2),
        "largest difference": float((one - two).abs().max()),
        "features up to": float(one.abs().max()),
        "other class": float((first != second).float().mean()),
    }


@torch.no_grad()
def _outputs(folder: Path, loader: Loader) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features [n, D] and predicted classes [n]."""
    loaded = read_weights(folder)
    batches = list(loader.epoch(0))
    features = torch.cat([Pooled(loaded.encoder)(batch) for batch in batches])
    return features, torch.cat([loaded.model(batch).argmax(1) for batch in batches])


@click.command()
@click.option("--stores", type=click.Path(path_type=Path), help="Folder that benchmarks.open_data wrote.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/held-out"), show_default=True)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the page and its figures.")
@click.option("--set", "only", multiple=True, type=click.Choice(sorted(HELD_OUT)), help="Sets; all by default.")
@click.option("--alone/--no-alone", default=True, help="Pre-train on each set alone too.")
@click.option("--steps", type=click.IntRange(min=1), help="Of each pre-training; the recipe's by default.")
@click.option("--ship", "shipped", is_flag=True, help="Write smae/weights/open-small anew.")
def main(
    stores: Path | None, runs: Path, results: Path, only: tuple[str, ...], alone: bool, steps: int | None, shipped: bool
) -> None:
    """Train, evaluate and write the table; what is done already is not done again."""
    kept = results / "open-small.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    if stores is not None:
        if shipped:
            run = train(OPEN, stores, runs, steps=steps)
            named = stores / "named.zarr"
            _, of_head = smae.evaluate(run=run, data=named, protocol="own", probes=["linear"], device="cpu")
            head = run / "heads" / of_head.results[0].records[0].name
            ship(run, head, to=WEIGHTS / DEFAULT_WEIGHTS)
            found["classifier"] = {row.what: round(row.top1, 4) for row in of_head.rows}
            found["float16"] = rounding(head, WEIGHTS / DEFAULT_WEIGHTS, named)
            write_json(kept, found)
        # First what the encoders that have not seen a set are worth.
        for own in (False, True)[: 1 + alone]:
            for name in only or HELD_OUT:
                run = train(name if own else HELD_OUT[name], stores, runs, steps=steps)
                data = smae.open_store(stores / f"{name}.zarr")
                scores = measure(run, data, baselines=not own)
                scores["alone" if own else "held out"] = scores.pop(PRETRAINED)
                split = data.split("own")
                one = found.setdefault(name, {"scores": {}})
                one |= {"train": len(split.train), "test": len(split.test), "classes": len(data.classes)}
                one |= {"run": HELD_OUT[name], "commit": commit(), "machine": here()}
                one["scores"] |= scores
                one.setdefault("cost", {})[run.name] = cost(run)
                write_json(kept, found)
                logging.info(f"{name}: {scores}")
    page = results / "open-small.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{table(found)}{END}{after}", encoding="utf-8")


def cost(run: Path) -> dict[str, float]:
    """Return the steps of a run, and its seconds of wall time."""
    last = read_log(run / "log.jsonl")[-1]
    return {"steps": last["step"], "seconds": round(float(last["seconds"]))}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
