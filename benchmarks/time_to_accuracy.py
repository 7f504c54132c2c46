"""Accuracy after each minute of training, by method: `python -m benchmarks.time_to_accuracy --data nw-ucla.zarr`.

Every method gets the same processor time. Its encoder is evaluated after each minute, with the clock
stopped, by the same two probes. The plain loop is what many public repositories run: their loader
and their step (``benchmarks/naive``) on a network of the same size.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import click
import matplotlib
import torch
from torch.utils.data import DataLoader

from benchmarks.devices import finish
from benchmarks.harness import RESULTS, machine
from benchmarks.naive.loader import NaiveClips
from benchmarks.naive.step import NaiveMAE, step
from smae.data.store import Store, open_store
from smae.eval.features import raw_coordinates
from smae.eval.probes import ProbeContext
from smae.eval.probes.linear import knn, knn_on, linear, linear_on
from smae.models.encoders import Encoder
from smae.train.config import RunConfig, build_objective, resolve
from smae.train.loop import Loop, PendingStep
from smae.train.optim import adamw, warmup_cosine
from smae.train.pretrain import training_loader
from smae.train.run_folder import Run

CPU = torch.device("cpu")
MAE = {"masking.name": "random", "masking.keep": 0.1, "objective.normalise": "token", "objective.floor": 0.001}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "SkeletonMAE": ("skeletonmae-nw-ucla", {}),
    "MAE": ("skeletonmae-nw-ucla", {**MAE, "objective.name": "mae"}),
    "MAMP": ("skeletonmae-nw-ucla", {**MAE, "objective.name": "mamp", "masking.name": "motion-aware"}),
    "SimCLR": ("nw-ucla", {}),
    "VICReg": ("nw-ucla", {"objective.name": "vicreg"}),
    "MoCo": ("nw-ucla", {"objective.name": "moco", "objective.queue": 2048}),
    "SkeletonMAE + SimCLR": ("nw-ucla", {"objective.name": "skeletonmae", "objective.contrast": 0.3}),
}
"""Recipe of each method, and what is laid over it."""

PLAIN = "plain loop (MAE)"
PROBE = {"linear.views": 2, "linear.epochs": 60, "linear.strength": 1.0}
"""Linear probe of all methods."""

SPEED_STEPS = 5
"""Steps timed beforehand, so that the schedule ends with the time."""


@dataclass(frozen=True)
class Trainer:
    """A method in training.

    Attributes:
        config: its settings, which also say how its encoder sees clips.
        encoder: what is evaluated.
        steps: takes one step at each ``next``.
    """

    config: RunConfig
    encoder: Encoder
    steps: Iterator[None]


@dataclass(frozen=True)
class Point:
    """One evaluation: after so many minutes of processor time; accuracies in [0, 1]."""

    method: str
    minutes: float
    steps: int
    linear: float
    knn: float


Make = Callable[[int], Trainer]
"""Returns a method whose schedule has so many steps."""


def trainers(store: Store, protocol: str, *, settings: Mapping[str, Any]) -> dict[str, Make]:
    """Return every method by name; ``settings`` are laid over all of them."""

    def ours(recipe: str, extra: Mapping[str, Any]) -> Make:
        return lambda total: library_trainer(
            store, protocol, resolve(recipe, {**extra, **PROBE, **settings, **length(total)})
        )

    makes = {name: ours(recipe, extra) for name, (recipe, extra) in METHODS.items()}
    makes[PLAIN] = lambda total: plain_trainer(
        store, protocol, resolve("skeletonmae-nw-ucla", {**MAE, **PLAIN_VIEW, **PROBE, **settings, **length(total)})
    )
    return makes


PLAIN_VIEW = {
    "augment.stream": "joint",
    "augment.align": "none",
    "augment.turn": 0,
    "augment.mirror": False,
    "augment.scale": 0,
}
"""Clips as the plain loader gives them: cropped, resized and turned, nothing else."""


def length(steps: int) -> dict[str, int]:
    """Return the settings of a run of so many steps."""
    return {"train.max_steps": steps, "train.epochs": 100_000}


def library_trainer(store: Store, protocol: str, config: RunConfig, *, device: torch.device = CPU) -> Trainer:
    """Return a method of this package, in its own loop."""
    objective = build_objective(config, store.layout).to(device)
    loader = training_loader(store, store.split(protocol).train, config, objective, device=device)
    nowhere = Run(Path(tempfile.gettempdir()))
    loop = Loop(objective.train(), loader, optim=config.optim, train=config.train, seed=0, run=nowhere, identity={})

    pending: deque[PendingStep] = deque()

    def steps() -> Iterator[None]:
        for epoch in count():
            for batch in loader.epoch(epoch):
                pending.append(loop.step(batch))
                # As in the loop itself: a GPU is never waited for but some steps later.
                while len(pending) > loop.max_pending:
                    pending.popleft().metrics.read()
                yield
                # An evaluation leaves the encoder in evaluation mode.
                objective.train()

    return Trainer(config, objective.encoder, steps())


def plain_trainer(store: Store, protocol: str, config: RunConfig) -> Trainer:
    """Return the plain loop on a network of the size that ``config`` states."""
    torch.manual_seed(config.seed)
    train = [int(number) for number in store.split(protocol).train]
    frames, size = config.augment.frames, config.encoder
    clips = NaiveClips([store.clip(one) for one in train], store.clips.label[train].tolist(), frames=frames)
    batches = DataLoader(clips, batch_size=config.train.batch, shuffle=True)
    model = NaiveMAE(
        frames=frames,
        joints=len(store.layout),
        patch=size.patch,
        dim=size.dim,
        heads=size.heads,
        depth=size.depth,
        decoder_depth=config.decoder.depth,
        keep=config.masking.keep,
    )
    objective = build_objective(config, store.layout)
    optim = config.optim
    optimizer = adamw(model, lr=optim.lr, weight_decay=optim.weight_decay, betas=(optim.beta1, optim.beta2))
    schedule = warmup_cosine(
        optimizer,
        steps=config.train.max_steps or 1,
        warmup=round(optim.warmup * len(batches)),
        floor=optim.min_lr / optim.lr,
    )

    def steps() -> Iterator[None]:
        while True:
            for x, _ in batches:
                step(model, optimizer, x)
                schedule.step()
                yield

    # The plain network has this package's parameter names, so the probes read it through our encoder.
    encoder = objective.encoder
    shared = dict(model.encoder.named_parameters())
    for name, parameter in encoder.named_parameters():
        parameter.data = shared[name].data
    return Trainer(config, encoder, steps())


def train(
    name: str,
    make: Make,
    store: Store,
    protocol: str,
    *,
    minutes: float,
    every: float = 1.0,
    clock: Callable[[], float] = time.process_time,
) -> Iterator[Point]:
    """Yield an evaluation after each ``every`` minutes by a clock that evaluations stop, to the end."""
    trial = make(1000)
    next(trial.steps)  # kernels are compiled and caches filled
    began = clock()
    for _ in range(SPEED_STEPS):
        next(trial.steps)
    seconds = (clock() - began) / SPEED_STEPS
    trainer = make(max(1, round(60 * minutes / seconds)))
    device = next(trainer.encoder.parameters()).device
    used, taken, due = 0.0, 0, every
    while due <= minutes + 1e-9:
        began = clock()
        while used + clock() - began < 60 * due:
            next(trainer.steps)
            taken += 1
        finish(device)
        used += clock() - began
        context = ProbeContext(store, store.split(protocol), trainer.config, device)
        # Probes draw from torch's generator, which belongs to the training.
        state = torch.get_rng_state()
        scores = linear(trainer.encoder, context), knn(trainer.encoder, context)
        torch.set_rng_state(state)
        yield Point(name, used / 60, taken, *(one.top1 for one in scores))
        due += every


def raw(store: Store, protocol: str, config: RunConfig) -> Point:
    """Return what coordinates alone reach under a method's view of clips."""
    context = ProbeContext(store, store.split(protocol), config, CPU)
    scores = linear_on(raw_coordinates, context), knn_on(raw_coordinates, context)
    return Point("raw coordinates", 0.0, 0, *(one.top1 for one in scores))


def draw(path: Path, points: Sequence[Point], *, title: str) -> None:
    """Draw accuracy over minutes: linear probe and nearest neighbour side by side."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    names = list(dict.fromkeys(point.method for point in points))
    for axes, probe in zip(both, ("linear", "knn"), strict=True):
        for number, name in enumerate(names):
            own = [point for point in points if point.method == name]
            values = [100 * getattr(point, probe) for point in own]
            if own[0].steps == 0:
                axes.axhline(values[0], color="grey", linestyle=":", label=name)
                continue
            style = {"linestyle": "--", "color": "black"} if name == PLAIN else {"color": f"C{number}"}
            axes.plot([point.minutes for point in own], values, marker="o", markersize=3, label=name, **style)
        axes.set(xlabel="minutes of one core", title={"linear": "linear probe", "knn": "nearest neighbour"}[probe])
        axes.grid(visible=True, alpha=0.3)
    both[0].set_ylabel("top-1 accuracy, %")
    both[1].legend(fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def page(points: Sequence[Point], head: Mapping[str, str], about: Sequence[str], picture: str) -> str:
    """Return the page for ``results/``: the picture, then linear / 1-NN in each minute."""
    minutes = sorted({round(point.minutes) for point in points if point.steps})
    lines = ["# Time to accuracy", "", "`python -m benchmarks.time_to_accuracy --data nw-ucla.zarr --write`", ""]
    lines += [f"- {key}: {value}" for key, value in head.items()]
    lines += ["", *(f"- {line}" for line in about), "", f"![Accuracy over minutes of training]({picture})", ""]
    lines.append("Linear / 1-NN, top-1 %, after each minute of processor time.\n")
    lines.append("| method | " + " | ".join(f"{minute} min" for minute in minutes) + " | steps |")
    lines.append("|---" + "|---:" * (len(minutes) + 1) + "|")
    for name in dict.fromkeys(point.method for point in points):
        own = [point for point in points if point.method == name]
        cells = [f"{100 * point.linear:.1f} / {100 * point.knn:.1f}" for point in own]
        cells += [""] * (len(minutes) - len(cells))
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {own[-1].steps:,} |")
    return "\n".join(lines) + "\n"


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, help="A store of NW-UCLA.")
@click.option("--protocol", default="xview", show_default=True, help="Split that is trained and tested on.")
@click.option("--minutes", default=10.0, show_default=True, help="Processor time of each method.")
@click.option("--method", "methods", multiple=True, type=click.Choice([*METHODS, PLAIN]), help="All by default.")
@click.option("--points", type=click.Path(path_type=Path), help="File that keeps finished methods; a rerun goes on.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--write", is_flag=True, help="Write benchmarks/results/time_to_accuracy.md and .png.")
def main(
    data: Path,
    protocol: str,
    minutes: float,
    methods: tuple[str, ...],
    points: Path | None,
    as_json: bool,
    write: bool,
) -> None:
    torch.set_num_threads(1)
    head = machine("numpy", "numba", "torch")
    store = open_store(data)
    makes = trainers(store, protocol, settings={})
    found: list[Point] = []
    if points is not None and points.is_file():
        found = [Point(**one) for one in json.loads(points.read_text(encoding="utf-8"))]
    if not found:
        found.append(raw(store, protocol, resolve("nw-ucla", PROBE)))
    for name in methods or makes:
        if any(point.method == name for point in found):
            continue
        for point in train(name, makes[name], store, protocol, minutes=minutes):
            found.append(point)
            click.echo(f"{name}: {point.minutes:.0f} min, linear {point.linear:.1%}, 1-NN {point.knn:.1%}", err=True)
        if points is not None:
            points.write_text(json.dumps([asdict(one) for one in found]), encoding="utf-8")
    split = store.split(protocol)
    about = (
        f"{store.dataset}, {protocol}: {len(split.train):,} clips to train on, {len(split.test):,} to test; one thread",
        "time is processor time of training, loading included; evaluation is not counted",
        "each schedule ends with the time; one seed; mean features of one plain view; the same linear probe for all",
    )
    if as_json:
        click.echo(json.dumps({"machine": head, "about": about, "points": [asdict(one) for one in found]}, indent=2))
    text = page(found, head, about, "time_to_accuracy.png")
    if not as_json:
        click.echo(text)
    if write:
        draw(RESULTS / "time_to_accuracy.png", found, title=f"{store.dataset}, {protocol}")
        (RESULTS / "time_to_accuracy.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
