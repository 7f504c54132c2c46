"""All that only a GPU can show, in one command of at most nine minutes: `python -m benchmarks.gpu --out gpu-results`.

Parts run one after the other, each in a process of its own with a limit of time, so that a crash of
one loses nothing of the others. Each leaves a page and JSON in the folder; the summary says which
goals are met and which defaults the figures speak for. `make gpu` sets up an environment around the
torch that is there and runs this. With `--small` every part also runs on a processor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import torch

from benchmarks import augment, corpus, devices, loader, masking, step, time_to_accuracy
from benchmarks.harness import Figure, Report, machine
from benchmarks.time_to_accuracy import library_trainer
from smae.data.store import Store, open_store
from smae.train.config import resolve

ROOT = Path(__file__).resolve().parents[1]
NTU60_CLIPS, EPOCHS = 40_091, 400
"""Train clips of NTU RGB+D 60, cross-subject, and the epochs of the published recipe."""

SMALL_NET = {
    "augment.frames": 12,
    "encoder.dim": 16,
    "encoder.depth": 1,
    "encoder.heads": 2,
    "decoder.dim": 16,
    "decoder.depth": 1,
    "decoder.heads": 2,
    "train.batch": 8,
    "linear.epochs": 2,
}
SMALL_STEP = {**step.BASE, **{key: value for key, value in SMALL_NET.items() if not key.startswith("linear")}}
SMALL_SIZE = {"frames": 12, "dim": 16, "heads": 2, "depth": 1, "decoder_depth": 1, "keep": 0.1}


@dataclass(frozen=True)
class Setting:
    """Where and how a part runs.

    Attributes:
        out: folder of results.
        device: where.
        small: tiny sizes, to try the command itself.
        minutes: time for training.
        data: a store to train on; one of the corpus at hand is made without.
    """

    out: Path
    device: torch.device
    small: bool
    minutes: float
    data: Path | None = None

    @property
    def rounds(self) -> int:
        """Interleaved rounds of each benchmark."""
        return 1 if self.small else 5


def bench_augment(setting: Setting) -> Report:
    """Time augmentation by torch and by one kernel."""
    items, clips, repeats = (4, 8, 1) if setting.small else (8192, 20_000, 10)
    bench = augment.Bench(items, clips, setting.device, repeats=repeats)
    return augment.run(bench, rounds=setting.rounds, picture=setting.out / "augment.png")


def bench_masking(setting: Setting) -> Report:
    """Time masking, naive, by torch and by one kernel."""
    bench = masking.Bench(items=1024, device=setting.device, repeats=10)
    if setting.small:
        bench = masking.Bench(items=2, device=setting.device, frames=40, repeats=1)
    return masking.run(bench, rounds=setting.rounds, picture=setting.out / "masking.png")


def bench_step(setting: Setting) -> Report:
    """Time the training step, naive, in float32, bf16 and compiled."""
    bench = step.Bench(853, 10, setting.device, compile=True, plain_clips=64)
    if setting.small:
        bench = step.Bench(5, 1, setting.device, settings=SMALL_STEP, size=SMALL_SIZE, plain_clips=2)
    return step.run(bench, rounds=setting.rounds, picture=setting.out / "step.png")


def bench_loader(setting: Setting) -> Report:
    """Time loading on the processor beside the GPU: it must keep the GPU busy."""
    torch.set_num_threads(1)
    files, sample = (12, 4) if setting.small else (2_000, 200)
    stores = {kind: loader.store_of(files, work=corpus.WORK, frames=length) for kind, length in loader.LENGTHS.items()}
    bench = loader.Bench(stores, batch=4 if setting.small else 128, sample=sample)
    return loader.run(bench, rounds=setting.rounds, picture=setting.out / "loader.png")


def bench_train(setting: Setting) -> Report:
    """Pre-train the base recipe for the time given, evaluate it, and see how busy the device is."""
    store = open_store(setting.data) if setting.data else corpus_store(setting)
    protocol = next(iter(store.protocols()))
    extra: dict[str, Any] = dict(SMALL_NET) if setting.small else {}

    def make(total: int) -> time_to_accuracy.Trainer:
        settings = {**extra, **time_to_accuracy.PROBE, **time_to_accuracy.length(total)}
        where = setting.device
        return library_trainer(store, protocol, resolve("base", settings), device=where)

    busy, clips_per_second, gibibytes = utilisation(make(1000), setting)
    found = [time_to_accuracy.raw(store, protocol, resolve("base", {**extra, **time_to_accuracy.PROBE}))]
    every = setting.minutes / 2
    found += time_to_accuracy.train(
        "base", make, store, protocol, minutes=setting.minutes, every=every, clock=time.perf_counter
    )
    time_to_accuracy.draw(setting.out / "train.png", found, title=f"{store.dataset}, {protocol}, recipe base")
    hours = NTU60_CLIPS * EPOCHS / clips_per_second / 3600
    on_gpu = setting.device.type == "cuda"
    figures = [
        Figure("clips a second, loading included", clips_per_second, ""),
        Figure("400 epochs of NTU-60, estimated from it", hours, "h", goal=1.0 if on_gpu else None, at_most=True),
        Figure("memory at its peak", gibibytes, "GiB"),
        *(Figure(f"linear, {one.method}, {one.minutes:.1f} min", one.linear, "%") for one in found),
        *(Figure(f"1-NN, {one.method}, {one.minutes:.1f} min", one.knn, "%") for one in found),
    ]
    if on_gpu:
        figures.append(Figure("device idle between kernels", 1 - busy, "%", goal=0.02, at_most=True))
    split = store.split(protocol)
    about = (f"{store.dataset}, {protocol}: {len(split.train):,} clips to train on, {len(split.test):,} to test",)
    return Report("train", "clips", machine("torch") | devices.describe(setting.device), about, (), tuple(figures))


def corpus_store(setting: Setting) -> Store:
    """Return a store of the corpus at hand: real recordings where there are any."""
    return loader.store_of(60 if setting.small else 2_000, work=corpus.WORK)


def utilisation(trainer: time_to_accuracy.Trainer, setting: Setting) -> tuple[float, float, float]:
    """Return the share of time in which kernels run, clips a second, and peak memory (GiB) of training steps."""
    count, cuda = (2 if setting.small else 30), setting.device.type == "cuda"
    for _ in range(1 if setting.small else 5):
        next(trainer.steps)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    devices.finish(setting.device)
    began = time.perf_counter()
    for _ in range(count):
        next(trainer.steps)
    devices.finish(setting.device)
    seconds = time.perf_counter() - began
    rate = count * trainer.config.train.batch / seconds
    if not cuda:
        return 1.0, rate, 0.0
    memory = torch.cuda.max_memory_allocated() / 2**30
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(count):
            next(trainer.steps)
        devices.finish(setting.device)
    return _busy(profile), rate, memory


def _busy(profile: torch.profiler.profile) -> float:
    """Return the share of the time between first and last kernel in which at least one runs."""
    spans = sorted((event.time_range.start, event.time_range.end) for event in profile.events())
    covered, end = 0.0, spans[0][0]
    for start, stop in spans:
        covered += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return covered / (end - spans[0][0])


PARTS: dict[str, tuple[Callable[[Setting], Report], int]] = {
    "augment": (bench_augment, 60),
    "masking": (bench_masking, 60),
    "step": (bench_step, 120),
    "loader": (bench_loader, 60),
    "train": (bench_train, 240),
}
"""Each part, and its limit in seconds."""

TESTS, TESTS_LIMIT = "tests", 120


def run_part(name: str, setting: Setting) -> None:
    """Run one benchmark here; write its page and JSON."""
    report = PARTS[name][0](setting)
    report.write(setting.out)
    (setting.out / f"{name}.json").write_text(json.dumps(report.to_json(), indent=2), encoding="utf-8")


def run_tests(out: Path, arguments: Sequence[str]) -> list[str]:
    """Return the command of the tests marked ``gpu``."""
    # -o: warnings of another torch must not end the run.
    options = ["-m", "gpu", "-p", "no:cacheprovider", "-o", "filterwarnings=default", f"--junitxml={out / 'tests.xml'}"]
    return [sys.executable, "-m", "pytest", *options, *arguments]


def run_all(setting: Setting, *, parts: Sequence[str], tests: Sequence[str]) -> dict[str, str]:
    """Run parts in processes of their own; return what became of each: ``done``, or what went wrong."""
    found = {}
    for name in parts:
        limit = TESTS_LIMIT if name == TESTS else PARTS[name][1] + 60 * setting.minutes * (name == "train")
        command = run_tests(setting.out, tests) if name == TESTS else _part_command(name, setting)
        began = time.monotonic()
        with (setting.out / f"{name}.log").open("w", encoding="utf-8") as log:
            try:
                done = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=limit)
                found[name] = "done" if done.returncode == 0 else f"failed (exit {done.returncode}): see {name}.log"
            except subprocess.TimeoutExpired:
                found[name] = f"stopped after its limit of {limit:.0f} s: see {name}.log"
        click.echo(f"{name}: {found[name]}, {time.monotonic() - began:.0f} s", err=True)
    return found


def _part_command(name: str, setting: Setting) -> list[str]:
    options = ["--part", name, "--here", "--out", str(setting.out), "--device", setting.device.type]
    options += ["--minutes", str(setting.minutes), *(["--small"] if setting.small else [])]
    if setting.data is not None:
        options += ["--data", str(setting.data)]
    return [sys.executable, "-m", "benchmarks.gpu", *options]


def summarise(setting: Setting, found: Mapping[str, str]) -> str:
    """Return the summary page of everything in the folder."""
    reports = {}
    for name in PARTS:
        path = setting.out / f"{name}.json"
        if found.get(name) == "done" and path.is_file():
            reports[name] = json.loads(path.read_text(encoding="utf-8"))
    lines = ["# GPU", "", "`make gpu`", ""]
    for report in list(reports.values())[:1]:
        lines += [f"- {key}: {value}" for key, value in report["machine"].items()]
    lines += ["", "| part | |", "|---|---|", *(f"| {name} | {what} |" for name, what in found.items())]
    if (setting.out / "tests.xml").is_file():
        lines += ["", _tests_line(setting.out / "tests.xml")]
    lines += ["", "## Goals", "", "| | measured | goal | |", "|---|---:|---:|---|"]
    for report in reports.values():
        for figure in report["figures"]:
            if figure["goal"] is not None:
                verdict = "met" if figure["met"] else "missed"
                lines.append(f"| {figure['name']} | {figure['value']:.3g} | {figure['goal']:g} | {verdict} |")
    lines += ["", "## Defaults that the figures speak for", "", *(f"- {line}" for line in advice(reports))]
    return "\n".join(lines) + "\n"


def _tests_line(path: Path) -> str:
    suite = next(ElementTree.parse(path).iter("testsuite")).attrib
    counts = {key: int(suite[key]) for key in ("tests", "failures", "errors", "skipped")}
    return "Tests: " + ", ".join(f"{value} {key}" for key, value in counts.items())


CHOICES = (
    ("train.kernel", "augment", "joints, triton / torch", ("triton", "torch")),
    ("masking.kernel", "masking", "spatial-temporal, triton / torch", ("triton", "torch")),
    ("train.compile", "step", "compiled / not", ("true", "false")),
)
"""Setting, the part and figure that decide it, and its values where the figure is above and below 1."""


def advice(reports: Mapping[str, Any]) -> list[str]:
    """Return a line for each setting: the value its figure speaks for, or that it was not measured."""
    lines = []
    for key, part, name, (above, below) in CHOICES:
        figures = {one["name"]: one["value"] for one in reports.get(part, {}).get("figures", ())}
        if name not in figures:
            lines.append(f"`{key}`: not measured ({part}: {name})")
            continue
        ratio = figures[name]
        # Within 5 % the simpler form stays.
        value = above if ratio > 1.05 else below
        lines.append(f"`{key}` = {value} ({name}: {ratio:.2f})")
    return lines


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=Path("gpu-results"), show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--minutes", default=2.0, show_default=True, help="Time for training.")
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="A store to train on.")
@click.option("--part", "parts", multiple=True, type=click.Choice([TESTS, *PARTS]), help="All by default.")
@click.option("--small", is_flag=True, help="Tiny sizes: tries the command, measures nothing of worth.")
@click.option("--here", is_flag=True, hidden=True, help="Run one part in this process.")
@click.argument("tests", nargs=-1)
def main(
    out: Path,
    device: str,
    minutes: float,
    data: Path | None,
    parts: tuple[str, ...],
    small: bool,
    here: bool,
    tests: tuple[str, ...],
) -> None:
    where = devices.pick(device)
    if where.type != "cuda" and not small:
        raise click.UsageError(f"torch {torch.__version__} sees no GPU here; --small tries the command on a processor")
    out.mkdir(parents=True, exist_ok=True)
    setting = Setting(out.resolve(), where, small, minutes, data.resolve() if data else None)
    if here:
        run_part(parts[0], setting)
        return
    found = run_all(setting, parts=parts or [TESTS, *PARTS], tests=tests)
    text = summarise(setting, found)
    (out / "summary.md").write_text(text, encoding="utf-8")
    (out / "summary.json").write_text(
        json.dumps({"setting": {k: str(v) for k, v in asdict(setting).items()}, "parts": found}, indent=2),
        encoding="utf-8",
    )
    click.echo(text)
    click.echo(f"all pages: {os.path.relpath(out)}")
    if any(what != "done" for what in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
