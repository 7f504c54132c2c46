"""Errors of masked reconstruction: means over masked joints, and the skeleton they are drawn on."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from smae.skeleton import NTU25
from smae.viz.report.reconstruction_error import SHADES, mean_errors, skeleton_chart, strips
from tests.viz.report.pages import reconstruction


def test_errors_are_means_over_masked_joints():
    clips = [reconstruction(seed=1, error=0.03), reconstruction(seed=2, error=0.05, bodies=2)]
    errors = mean_errors(clips, NTU25)
    first, second = (one.masked.sum(0) for one in clips)
    total, count = 30 * first + 50 * second, first + second
    np.testing.assert_allclose(errors.joint, total.sum(0) / count.sum(0), rtol=1e-4)
    np.testing.assert_allclose(errors.frame, total.sum(1) / count.sum(1), rtol=1e-4)
    assert errors.mean == pytest.approx(total.sum() / count.sum(), rel=1e-4)


def test_a_joint_that_was_never_masked_is_drawn():
    clip = reconstruction()
    clip.masked[:, :, 3] = False
    errors = mean_errors([clip], NTU25)
    assert np.isnan(errors.joint[3])
    svg = skeleton_chart(errors, NTU25)
    assert "nan" not in svg
    assert f"{NTU25.joints[3]}: never masked" in svg


def cells_of(svg: str) -> dict[tuple[int, int], str]:
    """Return the look of each drawn cell (joint, frame) of a strip."""
    found = {}
    for kind, lines in re.findall(r'<path class="([^"]*(?:" stroke-opacity="[^"]*)?)" d="([^"]*)"', svg):
        for start, row, length in re.findall(r"M(\d+) (\d+)\.5h(\d+)", lines):
            for frame in range(int(start), int(start) + int(length)):
                assert (int(row), frame) not in found
                found[int(row), frame] = kind
    return found


def test_a_strip_has_every_present_joint_and_its_error():
    clip = reconstruction(bodies=2, frames=6, error=0.03)
    clip.present[0, 4:], clip.masked[0, 4:] = False, False
    clip.reconstructed[0, 1] = clip.original[0, 1] + np.float32(0.3)
    first, second = re.findall(r"<svg.*?</svg>", strips(clip, NTU25, full=100))
    shown = cells_of(first)
    assert set(shown) == {(joint, frame) for joint in range(25) for frame in range(4)}
    for (joint, frame), kind in shown.items():
        assert (kind == "visible") == (not clip.masked[0, frame, joint])
    masked = [kind for (joint, frame), kind in sorted(shown.items()) if kind != "visible" and frame == 1]
    assert set(masked) == {'predicted" stroke-opacity="1.00'}, "519 mm are beyond the darkest shade"
    (cells,) = (json.loads(unescape(text))["cells"] for text in re.findall(r'data-strip="(.*?)"', second))
    assert cells == np.where(clip.masked[1], 30, -1).T.tolist()


def test_without_a_prediction_masked_joints_are_alike():
    clip = replace(reconstruction(), reconstructed=None)
    svg = strips(clip, NTU25, full=0)
    assert set(cells_of(svg).values()) == {"visible", "masked"}
    assert "stroke-opacity" not in svg
    assert len(cells_of(svg)) == 6 * 25


def test_equal_errors_share_a_path():
    svg = strips(reconstruction(frames=60, error=0.03), NTU25, full=45)
    assert svg.count("<path") == 2 < SHADES
    assert len(svg) < 30_000


def test_the_pose_faces_the_viewer():
    pose = mean_errors([reconstruction()], NTU25).pose
    left, right = np.array(NTU25.mirror).T
    across = (pose[left] - pose[right]).mean(0)
    assert across[0] > 0
    assert across[2] == pytest.approx(0, abs=1e-9)
