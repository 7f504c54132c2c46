"""GIF and PNG of a scene: size, frames, duration, and that bodies are drawn."""

from __future__ import annotations

from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from smae.skeleton import NTU25
from smae.viz.drawing import BODIES, GIF_FRAMES, PAPER, POSES, draw_gif, draw_strip
from tests.viz.scenes import panel, scene, three_panels


def open_image(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


def count_near(picture: Image.Image, colour: tuple[int, int, int]) -> int:
    """Return how many pixels are close to a colour."""
    return int((np.abs(np.asarray(picture.convert("RGB"), np.int64) - colour).max(-1) < 24).sum())


def test_a_gif_has_all_frames_and_both_bodies():
    picture = open_image(draw_gif(scene(panel(bodies=2, frames=5))))
    assert (picture.format, picture.n_frames, picture.info["duration"], picture.info["loop"]) == ("GIF", 5, 30, 0)
    legend = [count_near(picture, colour) for colour in BODIES[:2]]
    picture.seek(1)
    assert count_near(picture, BODIES[0]) > 200
    assert count_near(picture, BODIES[1]) > legend[1] + 100, "the second body is absent from the first frame alone"
    assert count_near(picture, PAPER) > picture.width * picture.height / 2


def test_a_long_gif_drops_frames_and_keeps_its_speed():
    picture = open_image(draw_gif(scene(panel(frames=2 * GIF_FRAMES))))
    assert picture.n_frames == GIF_FRAMES
    assert picture.info["duration"] == 70


def test_a_strip_has_one_row_per_panel():
    one, three = draw_strip(scene(panel(frames=20))), draw_strip(three_panels())
    assert open_image(one).format == "PNG"
    assert len(one) < 100_000
    assert open_image(three).height > 2 * open_image(one).height
    assert open_image(one).width >= 110 * POSES


@pytest.mark.parametrize("form", ["svg", "pdf"])
def test_a_strip_for_papers_has_every_joint_as_a_vector(form):
    shown = scene(panel(bodies=1, frames=3), title="S001 · A001 price: $5 & $6")
    data = draw_strip(shown, form=form)
    assert data == draw_strip(shown, form=form), "no date and no random names"
    if form == "pdf":
        assert b"/FontFile2" in data, "fonts are embedded as TrueType, as publishers ask for"
        return
    root = ElementTree.fromstring(data)
    drawn = [path.get("style") or "" for path in root.iter("{http://www.w3.org/2000/svg}path")]
    colour = "#{:02x}{:02x}{:02x}".format(*BODIES[0])
    assert sum(style.startswith(f"fill: none; stroke: {colour}") for style in drawn) == 3 * len(NTU25.bones)
    dots = [use.get("style") or "" for use in root.iter("{http://www.w3.org/2000/svg}use")]
    assert sum(style.startswith(f"fill: {colour}") for style in dots) == 3 * len(NTU25) + 1, "and the legend's"
    assert len(data) < 120_000
    assert shown.title in "".join(root.itertext())


def test_a_long_title_is_shortened():
    picture = open_image(draw_strip(scene(panel(frames=1), title="drinking " * 60)))
    edge = np.asarray(picture.convert("RGB"))[:24, -6:]
    assert (edge == PAPER).all()
