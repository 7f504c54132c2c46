"""GIF and PNG of a scene: sizes, frames, pace, and that somebody is in them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from smae.viz.pictures import BODIES, GIF_FRAMES, PAPER, POSES, draw_gif, draw_strip
from tests.viz.scenes import panel, scene, three_panels


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


def near(picture: Image.Image, colour: tuple[int, int, int]) -> int:
    """Return how many pixels are close to a colour."""
    return int((np.abs(np.asarray(picture.convert("RGB"), np.int64) - colour).max(-1) < 24).sum())


def test_a_gif_has_the_scenes_frames_and_shows_both_bodies():
    picture = opened(draw_gif(scene(panel(bodies=2, frames=5))))
    assert (picture.format, picture.n_frames, picture.info["duration"], picture.info["loop"]) == ("GIF", 5, 30, 0)
    legend = [near(picture, colour) for colour in BODIES[:2]]
    picture.seek(1)
    assert near(picture, BODIES[0]) > 200
    assert near(picture, BODIES[1]) > legend[1] + 100, "the second body is absent from the first frame alone"
    assert near(picture, PAPER) > picture.width * picture.height / 2


def test_a_long_gif_leaves_frames_out_and_keeps_its_pace():
    picture = opened(draw_gif(scene(panel(frames=2 * GIF_FRAMES))))
    assert picture.n_frames == GIF_FRAMES
    assert picture.info["duration"] == 70


def test_a_strip_has_a_row_a_panel_and_is_small():
    one, three = draw_strip(scene(panel(frames=20))), draw_strip(three_panels())
    assert opened(one).format == "PNG"
    assert len(one) < 100_000
    assert opened(three).height > 2 * opened(one).height
    assert opened(one).width >= 110 * POSES


def test_a_title_too_long_for_its_picture_is_cut():
    picture = opened(draw_strip(scene(panel(frames=1), title="drinking " * 60)))
    edge = np.asarray(picture.convert("RGB"))[:24, -6:]
    assert (edge == PAPER).all()
