"""The whole page: well-formed, self-contained, escaped, small; made from a run's folder; which files it replaces."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import smae
from smae import progress
from smae.data.synthetic.synth import CLASSES
from smae.errors import ConfigError, DataError
from smae.eval.records import digest
from smae.skeleton import NTU25
from smae.viz import Panel, Scene
from smae.viz.report.page import PageSection, render
from smae.viz.report.reconstruction_error import ReconstructionSummary, draw_reconstruction, mean_errors
from smae.viz.scene import RECONSTRUCTED, TRACKED
from smae_cli.main import run as run_cli
from tests.viz.report.conftest import TINY
from tests.viz.report.pages import NASTY, Checker, data_of, reconstruction


def scene(*, bodies: int = 1, frames: int = 6, title: str = "wave") -> Scene:
    clip = reconstruction(bodies=bodies, frames=frames)
    kind = np.full(clip.masked.shape, TRACKED, np.uint8)
    predicted = np.where(clip.masked, np.uint8(RECONSTRUCTED), kind)
    panels = (
        Panel("original", clip.original, kind),
        Panel("masked", clip.original, kind),
        Panel("reconstructed", clip.reconstructed, predicted),
    )
    return Scene("c", title, panels, NTU25, (("masked", "80%"), ("mean joint error", "30 mm")))


def assert_loads_nothing(page: str) -> None:
    checker = Checker(page)
    assert checker.open == []
    assert not re.search(r"https?://|url\(|@import|\bimport\b|fetch\(|XMLHttpRequest", page)
    assert not {"link", "img", "iframe", "object", "embed"} & set(checker.tags)
    assert not {"src", "srcset", "xlink:href"} & {name for name, _ in checker.attributes}
    assert all(value.startswith("#") for name, value in checker.attributes if name == "href")
    assert not any(name.startswith("on") for name, _ in checker.attributes)
    assert "default-src 'none'" in page


def test_texts_are_escaped_and_never_expanded():
    clip = reconstruction()
    summary = ReconstructionSummary(mean_errors([clip], NTU25), (clip,), (scene(title=NASTY),), NASTY, NTU25)
    body = draw_reconstruction(summary, what="skeletonmae")
    page = render(NASTY, head="", sections=[PageSection("reconstruction", NASTY, body)], scenes=summary.scenes)
    assert_loads_nothing(page)
    checker = Checker(page)
    assert checker.text.count(NASTY) >= 4
    assert "80% masked; mean joint error 30 mm" in checker.text
    assert page.count("<script") == page.count("</script") == 2


def test_four_clips_of_120_frames_and_two_bodies_are_below_two_megabytes():
    page = render("run", head="", sections=[], scenes=[scene(bodies=2, frames=120)] * 4)
    assert len(page.encode()) < 2e6


def test_panels_with_equal_positions_carry_them_once():
    (shown,) = data_of(render("run", head="", sections=[], scenes=[scene()]))
    assert [panel["sameAs"] for panel in shown["panels"]] == [-1, 0, -1]
    assert [len(panel["positions"]) for panel in shown["panels"]] == [6 * 25 * 3, 0, 6 * 25 * 3]


class Recorder:
    """A progress reporter that keeps the names of tasks."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def begin(self, task: progress.Task) -> None:
        self.names.append(task.name)

    def update(self, task: progress.Task) -> None:
        pass

    def end(self, task: progress.Task) -> None:
        pass


def test_the_page_of_a_run_has_every_section(home: Path):
    recorder = Recorder()
    with progress.reporting(recorder):
        path = smae.report(home / "first", device="cpu")
    page = path.read_text(encoding="utf-8")
    assert_loads_nothing(page)
    assert path == home / "first" / "report.html"
    assert len(page) < 3e6
    assert re.findall(r'<section id="(\w+)">', page) == [
        "results", "training", "confusion", "features", "reconstruction", "preparation", "settings", "versions"
    ]  # fmt: skip
    text = Checker(page).text
    for words in (
        "pre-trained encoder",
        f"A001 {CLASSES['A001']}",
        "memory, peak so far (GB)",
        "by subject",
        "keep_joints",
        "Masked reconstruction",
        "epoch 1 · ",
    ):
        assert words in text
    assert "NTU RGB+D" not in text, "synthetic recordings have their own class names"
    assert len(data_of(page)) == 3, "one clip per class"
    assert {"reconstruction", "features", "t-SNE"} <= set(recorder.names)


def test_the_log_has_memory_use(home: Path):
    lines = [json.loads(line) for line in (home / "first" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["host_bytes"] > 2**24


def test_a_missing_store_or_checkpoint_is_named_on_the_page(home: Path, tmp_path: Path, caplog):
    run = shutil.copytree(home / "third", tmp_path / "third")
    about = json.loads((run / "run.json").read_text())
    about["store"]["path"] = str(tmp_path / "gone.zarr")
    (run / "run.json").write_text(json.dumps(about))
    text = Checker(smae.report(run).read_text(encoding="utf-8")).text
    assert "smae report --data gone.zarr" in text
    assert "smae eval --run" in text
    assert "this store does not exist any more" in caplog.text
    shutil.rmtree(run / "checkpoints")
    text = Checker(smae.report(run, data=home / "ntu.zarr").read_text(encoding="utf-8")).text
    assert "No checkpoint has been written yet." in text


@pytest.mark.parametrize(
    ("objective", "stream", "words"),
    [
        ("mamp", "joint", "Motion is predicted, not positions: the mask alone is shown."),
        ("skeletonmae", "bone", "Nothing to draw: skeletonmae on the bone stream gives no masked positions."),
    ],
)
def test_without_predicted_positions_the_page_says_so(
    home: Path, tmp_path: Path, objective: str, stream: str, words: str
):
    more = ["--set", f"objective.name={objective}", "--set", f"augment.stream={stream}"]
    assert run_cli(["pretrain", "--data", str(home / "ntu.zarr"), "--out", str(tmp_path / "run"), *TINY, *more]) == 0
    page = smae.report(tmp_path / "run", device="cpu").read_text(encoding="utf-8")
    assert words in Checker(page).text
    players = data_of(page)
    assert [len(player["panels"]) for player in players] == [2] * len(players), "original and masked"
    assert page.count("data-strip=") == len(players) == (3 if objective == "mamp" else 0)


def test_several_runs_are_compared(home: Path, tmp_path: Path, caplog):
    out = tmp_path / "new" / "both.html"
    assert smae.report(*(home / name for name in ("first", "second", "third")), out=out) == out
    page = out.read_text(encoding="utf-8")
    assert_loads_nothing(page)
    text = Checker(page).text
    assert caplog.messages == [], "all results are comparable"
    assert "masking.keep_joints" in text
    assert "seed005" in text
    assert "optim.lr" not in text
    assert "third has not been evaluated yet." in text
    assert re.search(r"[+-]\d+\.\d \([+-]\d+\.\d to [+-]\d+\.\d\)", text), "the difference, with its interval"
    assert page.count('data-name="second') == 4, "in every chart"


def test_results_on_other_data_are_kept_apart(home: Path, tmp_path: Path, caplog):
    other = shutil.copytree(home / "second", tmp_path / "other")
    about = json.loads((other / "run.json").read_text())
    about["store"]["fingerprint"] = "f" * 64
    about["config"]["objective"]["normalise"] = "none"
    (other / "run.json").write_text(json.dumps(about))
    for path in (other / "eval").glob("*.json"):
        content = json.loads(path.read_text()) | {"store": "f" * 64}
        path.write_text(json.dumps(content | {"id": digest(content)}))
    text = Checker(smae.report(home / "first", other, out=tmp_path / "x.html").read_text()).text
    first, second = caplog.messages
    assert "warning: the runs were trained on different stores" in first
    assert "warning: evaluated in different ways, and shown apart: ntu60-xsub · linear (store " in second
    assert " / store ffffffff); ntu60-xsub · knn (store " in second
    assert "store ffffffff" in text
    assert not re.search(r"[+-]\d+\.\d \(", text), "no difference is given"
    assert "each has its own chart" in text


def test_wrong_arguments_are_refused(home: Path):
    with pytest.raises(ConfigError, match="one run is named twice"):
        smae.report(home / "first", home / "second" / ".." / "first")
    with pytest.raises(ConfigError, match="--data needs a single run"):
        smae.report(home / "first", home / "second", data=home / "ntu.zarr")
    with pytest.raises(DataError, match="no run there"):
        smae.report(home / "first", home / "secund")


@pytest.mark.parametrize("runs", [["third"], ["first", "second"]])
@pytest.mark.parametrize("target", ["run.json", "checkpoints", "theirs.html"])
def test_only_a_page_of_smae_is_replaced(home: Path, tmp_path: Path, runs: list[str], target: str):
    run = shutil.copytree(home / "third", tmp_path / "third")
    (run / "theirs.html").write_text("<!doctype html><title>mine</title>")
    paths = [str(run), *(str(home / name) for name in runs[1:])]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert run_cli(["report", *paths, "--device", "cpu", "--out", str(run / target)]) == 2
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_an_earlier_page_is_replaced_and_a_store_is_not_written_to(home: Path, tmp_path: Path):
    out = tmp_path / "page.html"
    first = smae.report(home / "first", home / "second", out=out).read_text()
    assert smae.report(home / "first", home / "third", out=out).read_text() != first
    with pytest.raises(ConfigError, match="be inside"):
        smae.report(home / "third", out=home / "ntu.zarr" / "page.html")
