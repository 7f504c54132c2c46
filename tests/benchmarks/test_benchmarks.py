"""Each benchmark runs once, tiny and untimed, and its naive baseline gives the same arrays as smae."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import corpus as corpora
from benchmarks import evaluate as evaluate_bench
from benchmarks import loader as loader_bench
from benchmarks import prepare as prepare_bench
from benchmarks import ranks as ranks_bench
from benchmarks.harness import Case, Figure, Report, measure
from benchmarks.naive import prepare as naive
from benchmarks.naive.loader import Draw, NaiveClips
from benchmarks.processes import peak_of, run_whole
from smae.data.loader.augment import Augment
from smae.data.loader.loader import Loader
from smae.data.prepare.run import prepare
from smae.data.store import Store, open_store
from smae.data.synthetic.synth import synthesise
from smae.rng import Noise

FILES = 12


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="module")
def synthetic(work: Path) -> Path:
    raw = work / "raw"
    synthesise(raw, seed=3, actions=12, subjects=2, cameras=1, replications=1)
    return raw


@pytest.fixture(scope="module")
def store(work: Path, synthetic: Path) -> Store:
    out = work / "synthetic.zarr"
    prepare(synthetic, out, executor="inline", missing_list=False)
    return open_store(out)


def in_process(raw: Path, out: Path, workers: int) -> None:
    prepare(raw, out, executor="inline")


def bench_of(work: Path, *, run: prepare_bench.Prepare) -> prepare_bench.Bench:
    corpus = corpora.build(FILES, work=work)
    few = corpora.build(FILES // 2, work=work)
    return prepare_bench.Bench(corpus, few, corpora.zipped(corpus), work, sample=3, held=4, prepare=run)


def test_naive_prepare_gives_the_clips_of_the_store(store: Store, synthetic: Path) -> None:
    files = [synthetic / f"{name}.skeleton" for name in names(store)]
    sequences = naive.prepare(files)

    for index, rows in enumerate(sequences):
        np.testing.assert_array_equal(naive.as_clip(rows), store.clip(index), err_msg=files[index].name)
    assert {len(store.clip(index)) for index in range(len(store))} == {1, 2}


def test_naive_prepare_gives_the_clips_of_real_recordings(work: Path) -> None:
    if not corpora.SHARED.is_file():
        pytest.skip("the folder with real recordings is not beside the repository")
    corpus = corpora.build(FILES, work=work)
    prepare(corpus.folder, work / "real.zarr", executor="inline")
    real = open_store(work / "real.zarr")

    sequences = naive.prepare(corpus.files, work / "naive.npz")

    assert names(real) == [path.stem for path in corpus.files]
    for index, rows in enumerate(sequences):
        np.testing.assert_array_equal(naive.as_clip(rows), real.clip(index))
    with np.load(work / "naive.npz") as saved:
        assert saved["x"].shape == (FILES, max(map(len, sequences)), 150)


def test_naive_loader_gives_the_items_of_the_loader(store: Store) -> None:
    index, augment = np.arange(len(store)), Augment(frames=40)
    loader = Loader(
        store, index, augment=augment, batch=5, seed=7, train=True, device=torch.device("cpu"), workers=0
    )  # fmt: skip
    noise = Noise(7, 2, index)
    crop, angles = noise.uniform("crop", 2).astype(float), 0.3 * (2 * noise.uniform("rotate", 3).astype(float) - 1)
    draws = [Draw(*crop[one], tuple(angles[one])) for one in index]
    clips = NaiveClips(
        [store.clip(int(one)) for one in index], store.clips.label.tolist(), frames=40, draw=draws.__getitem__
    )

    seen = []
    for batch in loader.epoch(2):
        for x, clip, body in zip(batch.x, batch.clip.tolist(), batch.body.tolist(), strict=True):
            number = int(batch.index[clip])
            expected, label = clips[number]
            torch.testing.assert_close(x, expected[body], rtol=1e-5, atol=1e-5)
            assert label == int(batch.label[clip])
            seen.append(number)
    assert set(seen) == set(index.tolist())


@pytest.mark.slow
def test_prepare_benchmark_runs(work: Path) -> None:
    bench = bench_of(work, run=in_process)

    report = prepare_bench.run(bench, rounds=1, once=False)

    assert report.row(prepare_bench.TWO).items == FILES
    assert report.row(prepare_bench.ZIP).bytes == bench.corpus.bytes
    assert all(row.seconds > 0 for row in report.rows)
    assert {figure.name for figure in report.figures} >= {"2 workers / naive, end to end", "zip / folder, 2 workers"}


@pytest.mark.slow
def test_prepare_benchmark_measures_whole_commands(work: Path) -> None:
    report = prepare_bench.run(bench_of(work, run=prepare_bench.by_command), rounds=1)

    value = {figure.name: figure.value for figure in report.figures}
    assert 0 < value["store / raw text"] < 1
    assert value["peak memory, largest process (RSS)"] > 10
    assert any(name.startswith("from start to the first") for name in value)


@pytest.mark.slow
def test_loader_benchmark_runs(store: Store, work: Path) -> None:
    bench = loader_bench.Bench({"clips of 120 frames": store, "others": store}, batch=4, sample=6)
    report = loader_bench.run(bench, rounds=1, picture=work / "loader.svg")

    ways = len(loader_bench.MODES) * len(loader_bench.WORKERS) + 3
    assert len(report.rows) == 2 * (ways + len(loader_bench.VIEWS)) + len(loader_bench.VARIED)
    assert report.row("others: resident, workers 0, 4 views").items == 4 * len(store)
    assert report.row("others: streaming, workers 2").items == len(store)
    assert [figure.name for figure in report.figures if figure.goal] == [
        "clips of 120 frames: resident, workers 0 / naive (clips)",
        "clips of 120 frames: resident, workers 0 / copy (bytes)",
    ]
    assert "clips/s" in (work / "loader.svg").read_text(encoding="utf-8")
    assert json.loads(json.dumps(report.to_json()))["name"] == "loader"
    page = report.write(work / "results").read_text(encoding="utf-8")
    assert "| others: naive, in the caller's process |" in page
    assert "usable cores" in page


def test_the_loader_benchmark_can_resample_its_clips(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "SHARED", Path("nowhere"))
    for frames in loader_bench.LENGTHS.values():
        made = loader_bench.store_of(4, work=work / "lengths", frames=frames)
        assert set(made.clips.frames) == {120} if frames else len(set(made.clips.frames)) > 1


def test_corpus_repeats_recordings_under_other_names(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "SHARED", Path("nowhere"))
    monkeypatch.setattr(corpora, "REAL_FILES", 12)

    corpus = corpora.build(30, work=work / "repeated")

    assert len(corpus.files) == 30
    assert corpus.kind == "synthetic"
    assert {path.name[12:16] for path in corpus.files} == {"R011", "R021", "R031"}
    assert all(path.is_file() and not path.is_symlink() for path in corpus.files)
    assert corpora.build(30, work=work / "repeated") == corpus


def test_measure_takes_medians_of_interleaved_rounds() -> None:
    order: list[str] = []
    cases = [Case(name, lambda name=name: order.append(name), items=2, bytes=10) for name in "ab"]

    rows = measure(cases, rounds=3)

    assert order == list("ababab")
    assert [(row.name, row.items, row.bytes) for row in rows] == [("a", 2, 10), ("b", 2, 10)]


def test_goals_are_bounds_from_below_or_above() -> None:
    assert Figure("rate", 100, goal=80, stretch=120).verdict == "met"
    assert Figure("rate", 130, goal=80, stretch=120).verdict == "met, stretch too"
    assert Figure("size", 1100, "MiB", goal=1024, at_most=True).verdict == "missed"
    assert Figure("rate", 3).verdict == ""
    assert Report("x", "files", {}, (), (), (Figure("share", 0.2, "%", goal=0.25),)).tables()[1][2][0] == [
        "share", "20.0%", "≥ 25.0%", "", "missed"
    ]  # fmt: skip


def test_peak_counts_child_processes() -> None:
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("the system does not report the memory of processes by /proc")
    child = "import time; held = bytearray(60 << 20); time.sleep(0.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    peak = peak_of([sys.executable, "-c", parent], every=0.01)

    assert peak.processes == 2
    assert peak.together > 60 << 20
    assert peak.largest > 60 << 20


def test_processor_time_of_grandchildren_counts() -> None:
    child = "import time; [None for _ in iter(lambda: time.process_time() < 0.3, False)]"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])"
    case = Case("orphan", lambda: run_whole([sys.executable, "-c", parent]), items=1, bytes=1)

    assert measure([case], rounds=1)[0].cpu > 0.3


def names(store: Store) -> list[str]:
    return [str(name) for name in store.clips.name]


@pytest.mark.slow
def test_evaluate_gives_the_same_figures_alone_together_and_from_kept_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesise(tmp_path / "raw", actions=2, subjects=3, cameras=1, replications=2, hard=False)
    prepare(tmp_path / "raw", tmp_path / "ntu.zarr", executor="inline", missing_list=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bench = evaluate_bench.Bench(open_store(tmp_path / "ntu.zarr"), ("linear", "knn"), 2, "demo")
    report = evaluate_bench.run(bench, rounds=1)
    assert [row.name for row in report.rows] == [evaluate_bench.ALONE, evaluate_bench.SHARED, evaluate_bench.KEPT]
    assert report.figures[-1].value > 0


@pytest.mark.slow
def test_two_ranks_take_the_steps_of_one(tmp_path: Path) -> None:
    synthesise(tmp_path / "raw", actions=2, subjects=3, cameras=1, replications=2, hard=False)
    prepare(tmp_path / "raw", tmp_path / "ntu.zarr", executor="inline", missing_list=False)
    sets = ("train.batch=4", "encoder.dim=16", "decoder.dim=16", "train.precision=float32")
    report = ranks_bench.run(ranks_bench.Bench(tmp_path / "ntu.zarr", tmp_path, "demo", 1, 3, sets), rounds=1)
    assert [row.items for row in report.rows] == [4, 12, 4, 12]
    assert report.figures[0].unit == "x"
