"""The page of a scene: self-contained, escaped, with data that matches the arrays."""

from __future__ import annotations

import json
import re

import numpy as np

from smae.skeleton import NTU25
from smae.viz.drawing import page_data, render_page
from smae.viz.scene import ABSENT
from tests.viz.scenes import panel, scene, three_panels


def data_of(page: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def test_the_page_loads_nothing():
    page = render_page(three_panels())
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+|\bsrc=|\bhref=|@import|url\(|fetch\(|XMLHttp|import\(", page) == []
    assert page.count("<canvas") == 3


def test_positions_are_kept_to_the_millimetre():
    made = scene(panel(bodies=2))
    (shown,) = data_of(render_page(made))["panels"]
    truth = made.panels[0]
    seen = truth.kind != ABSENT
    positions = np.array(shown["positions"]).reshape(-1, 3) / 1000
    assert np.abs(positions - truth.joints[seen]).max() <= 0.00051
    assert shown["kind"] == "".join(map(str, truth.kind.ravel()))
    assert (shown["frames"], shown["bodies"], shown["roles"]) == (4, ["body 1", "body 2"], [0, 1])


def test_joints_and_bones_are_the_layouts():
    data = data_of(render_page(scene()))
    assert tuple(data["joints"]) == NTU25.joints
    assert [tuple(bone) for bone in data["bones"]] == list(NTU25.bones)


def test_the_ghost_panel_is_in_the_data():
    assert [shown["ghost"] for shown in page_data(three_panels())["panels"]] == [-1, -1, 0]


def test_texts_are_escaped():
    evil = "</script><script>alert(1)</script>"
    page = render_page(scene(panel("<b>"), title=evil, facts=((evil, evil),), notes=(evil,)))
    assert "<script>alert" not in page
    assert "&lt;b&gt;" in page
    assert page.count("</script>") == 2


def test_inserted_text_is_not_expanded():
    assert "{{data}}" in render_page(scene(title="{{data}}"))


def test_the_legend_names_only_what_is_drawn():
    assert "not tracked" not in re.findall(r'<p class="legend">.*?</p>', render_page(scene()))[0]
    assert "masked" in re.findall(r'<p class="legend">.*?</p>', render_page(three_panels()))[0]
