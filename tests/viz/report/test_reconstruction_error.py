"""Errors of masked reconstruction: means over masked joints, and the skeleton they are drawn on."""

from __future__ import annotations

import numpy as np
import pytest

from smae.skeleton import NTU25
from smae.viz.report.reconstruction_error import mean_errors, skeleton_chart
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


def test_the_pose_faces_the_viewer():
    pose = mean_errors([reconstruction()], NTU25).pose
    left, right = np.array(NTU25.mirror).T
    across = (pose[left] - pose[right]).mean(0)
    assert across[0] > 0
    assert across[2] == pytest.approx(0, abs=1e-9)
