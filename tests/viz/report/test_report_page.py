"""The page as a whole: well-formed, complete in itself, safe against any name, small; made of a run's folder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from smae import api
from smae.data.synthetic.synth import CLASSES
from smae.errors import ConfigError, DataError
from smae.skeleton import NTU25
from smae.viz import Panel, Scene
from smae.viz.report.markup import Section
from smae.viz.report.page import render
from smae.viz.report.reconstruction_error import Rebuilding, draw_rebuilding, mean_errors
from smae.viz.scene import REBUILT, TRACKED
from smae_cli.main import run as smae
from tests.viz.report.conftest import TINY
from tests.viz.report.pages import NASTY, Checker, data_of, rebuilt


def scene(*, bodies: int = 1, frames: int = 6, title: str = "wave") -> Scene:
    made = rebuilt(bodies=bodies, frames=frames)
    kind = np.full(made.hidden.shape, TRACKED, np.uint8)
    filled = np.where(made.hidden, np.uint8(REBUILT), kind)
    panels = (
        Panel("original", made.original, kind),
        Panel("masked", made.original, kind),
        Panel("f", made.filled, filled),
    )
    return Scene("c", title, panels, NTU25, (("hidden", "80%"), ("filled in", "30 mm off")))


def loads_nothing(page: str) -> None:
    checker = Checker(page)
    assert checker.open == []
    assert not re.search(r"https?://|url\(|@import|\bimport\b|fetch\(|XMLHttpRequest", page)
    assert not {"link", "img", "iframe", "object", "embed"} & set(checker.tags)
    assert not {"src", "srcset", "xlink:href"} & {name for name, _ in checker.attributes}
    assert all(value.startswith("#") for name, value in checker.attributes if name == "href")
    assert not any(name.startswith("on") for name, _ in checker.attributes)
    assert "default-src 'none'" in page


def test_every_text_put_in_is_escaped_and_never_expanded():
    found = Rebuilding(mean_errors([rebuilt()], NTU25), (scene(title=NASTY),), NASTY, NTU25)
    body = draw_rebuilding(found, what="skeletonmae")
    page = render(NASTY, head="", sections=[Section("rebuilding", NASTY, body)], scenes=found.scenes)
    loads_nothing(page)
    checker = Checker(page)
    assert checker.text.count(NASTY) >= 4
    assert page.count("<script") == page.count("</script") == 2


def test_four_clips_of_120_frames_and_two_bodies_stay_under_two_megabytes():
    page = render("run", head="", sections=[], scenes=[scene(bodies=2, frames=120)] * 4)
    assert len(page.encode()) < 2e6


def test_panels_with_the_same_places_carry_them_once():
    (shown,) = data_of(render("run", head="", sections=[], scenes=[scene()]))
    assert [panel["same"] for panel in shown["panels"]] == [-1, 0, -1]
    assert [len(panel["places"]) for panel in shown["panels"]] == [6 * 25 * 3, 0, 6 * 25 * 3]


def test_the_page_of_a_run_holds_every_part(home: Path):
    said: list[str] = []
    steps: list[str] = []
    path = api.report(home / "first", device="cpu", say=said.append, tell=lambda what, done, of: steps.append(what))
    page = path.read_text(encoding="utf-8")
    loads_nothing(page)
    assert path == home / "first" / "report.html"
    assert len(page) < 3e6
    parts = re.findall(r'<section id="(\w+)">', page)
    assert parts == ["results", "training", "confusion", "features", "rebuilding", "dropped", "settings", "versions"]
    text = Checker(page).text
    for words in (
        "pre-trained encoder",
        f"A001 {CLASSES['A001']}",
        "memory, peak so far (GB)",
        "by subject",
        "keep_joints",
    ):
        assert words in text
    assert "NTU RGB+D" not in text, "synthetic recordings bear their own names"
    assert len(data_of(page)) == 3, "a clip a class"
    assert set(steps) == {"hidden joints", "features"}


def test_the_log_holds_memory(home: Path):
    lines = [json.loads(line) for line in (home / "first" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["host_bytes"] > 2**24


def test_without_its_store_or_a_checkpoint_the_page_says_what_it_lacks(home: Path, tmp_path: Path):
    run = shutil.copytree(home / "third", tmp_path / "third")
    about = json.loads((run / "run.json").read_text())
    about["store"]["path"] = str(tmp_path / "gone.zarr")
    (run / "run.json").write_text(json.dumps(about))
    said: list[str] = []
    text = Checker(api.report(run, say=said.append).read_text(encoding="utf-8")).text
    assert "smae report --data gone.zarr" in text
    assert "smae eval --checkpoint" in text
    assert any("no store there any more" in words for words in said)
    shutil.rmtree(run / "checkpoints")
    text = Checker(api.report(run, data=home / "ntu.zarr").read_text(encoding="utf-8")).text
    assert "No checkpoint was written yet." in text


@pytest.mark.parametrize(
    ("objective", "stream", "words"),
    [("mamp", "joint", "mamp on the joint stream"), ("skeletonmae", "bone", "skeletonmae on the bone stream")],
)
def test_what_rebuilds_no_places_says_so(home: Path, tmp_path: Path, objective: str, stream: str, words: str):
    more = ["--set", f"objective.name={objective}", "--set", f"augment.stream={stream}"]
    assert smae(["pretrain", "--data", str(home / "ntu.zarr"), "--out", str(tmp_path / "run"), *TINY, *more]) == 0
    page = api.report(tmp_path / "run", device="cpu").read_text(encoding="utf-8")
    assert f"Nothing to draw here: {words} predicts no places in space." in Checker(page).text
    assert data_of(page) == []


def test_runs_side_by_side(home: Path, tmp_path: Path):
    said: list[str] = []
    out = tmp_path / "new" / "both.html"
    assert api.report(*(home / name for name in ("first", "second", "third")), out=out, say=said.append) == out
    page = out.read_text(encoding="utf-8")
    loads_nothing(page)
    text = Checker(page).text
    assert said == [], "all is comparable"
    assert "masking.keep_joints" in text
    assert "seed005" in text
    assert "optim.lr" not in text
    assert "third was not judged yet." in text
    assert re.search(r"[+-]\d+\.\d \([+-]\d+\.\d to [+-]\d+\.\d\)", text), "the difference, with its interval"
    assert page.count('data-name="second') == 4, "in every chart"


def test_what_cannot_be_compared_is_told_and_kept_apart(home: Path, tmp_path: Path):
    other = shutil.copytree(home / "second", tmp_path / "other")
    about = json.loads((other / "run.json").read_text())
    about["store"]["fingerprint"] = "f" * 64
    about["config"]["objective"]["normalise"] = "none"
    (other / "run.json").write_text(json.dumps(about))
    for path in (other / "eval").glob("*.json"):
        path.write_text(path.read_text().replace(json.loads(path.read_text())["store"], "f" * 64))
    said: list[str] = []
    text = Checker(api.report(home / "first", other, out=tmp_path / "x.html", say=said.append).read_text()).text
    assert len(said) == 2
    assert "careful: the runs were trained on different stores" in said[0]
    assert "careful: judged on different stores or test clips: ntu60-xsub · linear, ntu60-xsub · knn" in said[1]
    assert "store ffffffff" in text
    assert not re.search(r"[+-]\d+\.\d \(", text), "no difference is given"
    assert "each has a chart of its own" in text


def test_what_makes_no_sense_is_refused(home: Path):
    with pytest.raises(ConfigError, match="one run is named twice"):
        api.report(home / "first", home / "second" / ".." / "first")
    with pytest.raises(ConfigError, match="--data goes with one run"):
        api.report(home / "first", home / "second", data=home / "ntu.zarr")
    with pytest.raises(DataError, match="no run there"):
        api.report(home / "first", home / "secund")
