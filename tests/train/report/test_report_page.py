"""The run page: complete in itself, well-formed, safe against the text put in, and true to the numbers."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from smae.data.recording import MISSING
from smae.errors import DataError
from smae.skeleton import NTU25
from smae.train.page import ClipPicture, ConfusionPicture, Facts, LossPoint, ResultRow, RunPage, render_page
from smae.train.page_charts import confusion_chart, line_chart

NASTY = "</script><img src=x onerror=alert(1)>&\"'{{data}}"
FLAT = np.zeros((1, 2, 25, 3), dtype=np.float32)
VOID = {"meta", "input", "br", "img", "link", "hr"}


class Checker(HTMLParser):
    """Holds open tags against closing ones and gathers attributes and text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data


def clip(*, title="wave", bodies=1, frames=4, seed=0):
    rng = np.random.default_rng(seed)
    original = rng.normal(size=(bodies, frames, 25, 3)).astype(np.float32)
    masked = rng.uniform(size=(bodies, frames, 25)) < 0.8
    moved = original + np.float32(0.03) * np.array([1, 0, 0], dtype=np.float32)
    return ClipPicture(title, original, masked, moved, NTU25.bones, NTU25.joints)


def run(text="demo", **changes):
    content = {
        "title": text,
        "facts": [Facts(text, [("recipe", text), ("seed", "17")])],
        "losses": [LossPoint(10 * i, i / 4, 0.5 / i, 1e-3, 432.0) for i in range(1, 30)],
        "results": [
            ResultRow("linear", "xsub", "pre-trained encoder", 0.8765, 0.99, text),
            ResultRow("linear", "xsub", "random encoder", 0.5432),
            ResultRow("linear", "xsub", "chance", 1 / 12),
        ],
        "confusion": ConfusionPicture([text, "drink"], np.array([[7, 1], [0, 8]])),
        "clips": [clip(title=text)],
    }
    return RunPage(**(content | changes))


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_the_page_is_well_formed_and_loads_nothing():
    page = render_page(run())
    checker = Checker(page)
    assert checker.open == []
    assert not re.search(r"https?://|url\(|@import|\bimport\b|fetch\(|XMLHttpRequest", page)
    assert not {"link", "img", "iframe", "object", "embed"} & set(checker.tags)
    assert not {"src", "href", "srcset", "xlink:href"} & {name for name, _ in checker.attributes}
    assert "{{" not in page


def test_every_text_put_in_is_escaped_and_never_expanded():
    page = render_page(run(NASTY, clips=[clip(title=NASTY)]))
    checker = Checker(page)
    assert "img" not in checker.tags
    assert checker.open == []
    assert not any(name.startswith("on") for name, _ in checker.attributes)
    assert checker.text.count(NASTY) >= 6
    assert page.count("<script") == 2
    assert page.count("</script") == 2


def test_joint_names_cannot_end_the_script_element():
    nasty = clip()
    page = render_page(
        run(clips=[ClipPicture("t", nasty.original, nasty.masked, nasty.reconstructed, [], [NASTY] * 25)])
    )
    assert page.count("</script") == 2
    assert data_of(page)[0]["joints"][0] == NASTY


def test_the_numbers_stand_in_the_page():
    text = Checker(render_page(run())).text
    for number in ("87.6 %", "54.3 %", "99.0 %", "8.3 %", "290 steps", "432 clips per second"):
        assert number in text
    assert "wave" not in text
    assert "7 of 8 (88 %)" in text
    assert "filled in 30 mm off" in text


def test_clips_are_whole_millimetres_and_reconstructions_only_where_hidden():
    picture = clip(bodies=2, frames=5)
    (data,) = data_of(render_page(run(clips=[picture])))
    assert data["shape"] == [2, 5, 25]
    np.testing.assert_array_equal(data["truth"], np.rint(picture.original.astype(float) * 1000).ravel())
    assert len(data["filled"]) == 3 * picture.masked.sum()
    kinds = np.array(list(data["kind"]), dtype=int).reshape(2, 5, 25)
    np.testing.assert_array_equal(kinds, np.where(picture.masked, 3, 1))
    assert [tuple(bone) for bone in data["bones"]] == list(NTU25.bones)


def test_absent_bodies_are_not_drawn():
    picture = clip(bodies=2, frames=4)
    original, state = picture.original.copy(), np.full((2, 4, 25), 2, dtype=np.uint8)
    original[0, 0] = np.nan
    original[1, 1] = 0
    state[1, 2] = MISSING
    shown = ClipPicture("t", original, picture.masked, picture.reconstructed, NTU25.bones, state=state)
    (data,) = data_of(render_page(run(clips=[shown])))
    kinds = np.array(list(data["kind"]), dtype=int).reshape(2, 4, 25)
    gone = np.zeros((2, 4, 25), dtype=bool)
    gone[0, 0] = gone[1, 1] = gone[1, 2] = True
    np.testing.assert_array_equal(kinds == 0, gone)
    assert len(data["truth"]) == 3 * (~gone).sum()
    assert data["joints"][4] == "joint 5"


def test_six_clips_of_sixty_frames_and_two_bodies_stay_under_two_megabytes():
    page = render_page(run(clips=[clip(bodies=2, frames=60, seed=seed) for seed in range(6)]))
    assert len(page.encode()) < 2e6


def test_empty_parts_are_left_out():
    page = render_page(RunPage(title="bare"))
    assert Checker(page).open == []
    assert "<section" not in page
    assert data_of(page) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"results": [ResultRow("knn", "xsub", "chance", 8.3)]}, r"expected a share in \[0, 1\], found 8.3"),
        ({"confusion": ConfusionPicture(["a"], np.zeros((2, 2), dtype=int))}, r"expected shape \(1, 1\)"),
        ({"clips": [ClipPicture("t", FLAT, np.zeros((1, 2, 24), dtype=bool), FLAT, [])]}, r"masked \[M, T, V\], found"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        render_page(run(**changes))


def test_losses_that_are_not_finite_leave_a_curve_and_no_nan():
    points = [LossPoint(1, 0, 0.5, 1e-3, 10), LossPoint(2, 0, float("nan"), 1e-3, 10), LossPoint(3, 0, 0.4, 1e-3, 10)]
    page = render_page(run(losses=points))
    assert page.count("<polyline") == 3
    assert not re.search(r'points="[^"]*(nan|inf)', page)
    single = render_page(run(losses=points[:1]))
    assert Checker(single).open == []
    assert "<circle" in single


def test_a_long_curve_is_thinned_and_stays_inside_its_frame():
    step = np.arange(50_000.0)
    svg = line_chart("loss", step, 2 * np.exp(-step / 5_000) + 0.01, smooth=True)
    drawn = [tuple(map(float, pair.split(","))) for pair in re.findall(r"[\d.]+,[\d.]+", svg.split("<polyline", 1)[1])]
    assert len(drawn) == 2 * 400
    assert all(0 <= x <= 520 and 0 <= y <= 260 for x, y in drawn)
    assert drawn[0][1] < drawn[-1][1], "a falling loss goes down the picture"
    assert "(log)" in svg


@pytest.mark.parametrize("value", [0.0, 1.0, 3e-7])
def test_a_level_curve_has_an_axis(value):
    svg = line_chart("lr", np.arange(5.0), np.full(5, value))
    assert "nan" not in svg
    assert svg.count("<line ") >= 2


def test_confusion_draws_only_cells_that_hold_something():
    svg = confusion_chart([f"A{n:03d}" for n in range(60)], np.eye(60, dtype=np.int64) * 5)
    assert svg.count("<rect") == 61
    assert "A007 recognised: 5 of 5 (100 %)" in svg
