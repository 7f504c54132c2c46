"""Scene: refused shapes, the camera, and projected positions."""

from __future__ import annotations

import numpy as np
import pytest

from smae.errors import DataError
from smae.skeleton import KINECT20, NTU25
from smae.viz import Panel, Scene
from smae.viz.scene import ABSENT, RATE, TRACKED
from tests.viz.scenes import panel, scene, three_panels


def test_mismatching_shapes_are_refused():
    with pytest.raises(DataError, match="panel 'odd'"):
        Panel("odd", np.zeros((1, 2, 25, 3), np.float32), np.zeros((1, 3, 25), np.uint8))
    with pytest.raises(DataError, match="20 joints of kinect20, found 25"):
        Scene("a", "a", (panel(),), KINECT20)


def test_non_finite_joints_are_absent():
    joints = np.zeros((1, 1, 25, 3), np.float32)
    joints[0, 0, 3, 1] = np.nan
    made = Panel("one", joints, np.full((1, 1, 25), TRACKED, np.uint8))
    assert np.flatnonzero(made.kind == ABSENT).tolist() == [3]


def test_the_centre_is_projected_to_the_middle():
    (camera,) = scene().cameras
    assert camera.project(camera.centre.astype(np.float32), 400, 300) == pytest.approx([200, 150], abs=1e-4)


def test_up_is_up_and_the_sensors_left_is_on_the_left():
    (camera,) = scene().cameras
    middle = camera.centre.astype(np.float32)
    above, left = middle + np.float32([0, 0.5, 0]), middle + np.float32([0.5, 0, 0])
    assert camera.project(above, 400, 300)[1] < 140
    assert camera.project(left, 400, 300)[0] < 190


def test_most_joints_are_inside_the_picture():
    one = scene(panel(frames=20))
    positions = one.cameras[0].project(one.panels[0].joints, 400, 300)
    assert (((positions > 0) & (positions < (400, 300))).all(-1)).mean() > 0.98


def test_a_panel_with_a_ghost_has_its_camera():
    cameras = three_panels().cameras
    assert cameras[2].centre.tolist() == cameras[0].centre.tolist()


def test_panels_of_different_length_end_together():
    both = scene(panel("long", frames=10), panel("short", frames=5))
    assert both.frames == 10
    assert [both.frame_of(both.panels[1], frame) for frame in range(10)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_time_labels_are_seconds_unless_resampled():
    assert scene().time_label(RATE) == "1.0 s"
    assert scene(real_time=False).time_label(RATE) == f"frame {RATE + 1}"


def test_a_scene_without_bodies_has_a_camera():
    empty = Panel("one", np.full((1, 2, 25, 3), np.nan, np.float32), np.full((1, 2, 25), ABSENT, np.uint8))
    made = Scene("a", "a", (empty,), NTU25)
    assert made.kinds == ()
    assert np.isfinite(made.cameras[0].project(np.zeros(3, np.float32), 100, 100)).all()
