"""The synthetic body: bone lengths of one person, joint angles over time, and forward kinematics from them to places.

Body frame: x to the body's right, y up, z to its back, so that a body with yaw 0 faces the sensor (the camera axes of
``Recording``). Proportions follow common anthropometric tables (fractions of body height: Drillis and Contini 1966, as
in Winter, "Biomechanics and Motor Control of Human Movement", table 4.1), rounded to where the Kinect v2 puts joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smae.skeleton import NTU25

Floats = NDArray[np.float64]
JOINT = {name: number for number, name in enumerate(NTU25.joints)}
FEET = (JOINT["left ankle"], JOINT["right ankle"])

# Standing with hanging arms, as fractions of body height; the left side is the mirror image.
_STANDING: dict[str, tuple[float, float, float]] = {
    "spine base": (0.0, 0.53, 0.0), "spine mid": (0.0, 0.68, 0.0), "spine shoulder": (0.0, 0.81, 0.0),
    "neck": (0.0, 0.85, 0.0), "head": (0.0, 0.94, -0.01),
    "right shoulder": (0.105, 0.805, 0.0), "right elbow": (0.115, 0.63, 0.0), "right wrist": (0.115, 0.485, 0.0),
    "right hand": (0.115, 0.445, -0.005), "right hand tip": (0.115, 0.40, -0.01), "right thumb": (0.1, 0.435, -0.03),
    "right hip": (0.048, 0.51, 0.0), "right knee": (0.055, 0.28, -0.005), "right ankle": (0.058, 0.045, 0.0),
    "right foot": (0.062, 0.015, -0.07),
}  # fmt: skip


def _rooted() -> tuple[tuple[int, int], ...]:
    """Return NTU's bones as (child, parent) pairs seen from the spine base, parents before their children."""
    reached, order = [0], []
    for parent in reached:
        for a, b in NTU25.bones:
            child = b if a == parent else a if b == parent else -1
            if child >= 0 and child not in reached:
                reached.append(child)
                order.append((child, parent))
    return tuple(order)


TREE = _rooted()


@dataclass(frozen=True)
class Body:
    """One person: ``rest`` float64 [V, 3], metres, joints when standing with the floor at y = 0."""

    rest: Floats


def make_body(height: float, *, legs: float = 1.0, arms: float = 1.0, breadth: float = 1.0) -> Body:
    """Return a person ``height`` metres tall whose leg length, arm length and breadth are scaled by the factors."""
    rest = np.zeros((len(NTU25), 3))
    for name, place in _STANDING.items():
        rest[JOINT[name]] = place
    scale = np.ones((len(NTU25), 3))
    scale[:, 0] = breadth
    for part, factor in (("right leg", legs), ("right arm", arms)):
        # The first joint of a limb hangs on the trunk: its bone belongs to the trunk's breadth.
        scale[list(NTU25.parts[part])[1:], 1:] = factor
    placed = np.zeros_like(rest)
    placed[0] = rest[0]
    for child, parent in TREE:
        placed[child] = placed[parent] + (rest[child] - rest[parent]) * scale[child]
    for left, right in NTU25.mirror:
        placed[left] = placed[right] * (-1, 1, 1)
    placed *= height
    placed[:, 1] += 0.045 * height - placed[FEET[1], 1]
    return Body(rest=placed)


@dataclass(frozen=True)
class Motion:
    """Joint angles over time, in anatomical terms, so that left and right share one meaning.

    Attributes:
        angles: float64 [T, V, 3], degrees: flexion, abduction (arms and legs: away from the body; trunk and head: to
            the right), inward twist (trunk and head: to the left). The spine base tilts the pelvis and leaves the legs
            upright; ankles are measured from the level foot.
        yaw: float64 [T], degrees, turn of the whole body to its left.
        lift: float64 [T], metres, of the lower foot above the floor.
        support: float64 [T, 2], share of the left and of the right foot in what stays in place; rows sum to 1.
    """

    angles: Floats
    yaw: Floats
    lift: Floats
    support: Floats

    def mirrored(self) -> Motion:
        """Return the same motion done with the other hand."""
        order = np.arange(len(NTU25))
        for left, right in NTU25.mirror:
            order[left], order[right] = right, left
        angles = self.angles[:, order].copy()
        angles[:, list(NTU25.parts["torso"]), 1:] *= -1
        return Motion(angles, -self.yaw, self.lift, self.support[:, ::-1])


def _axis_signs() -> Floats:
    """Return float64 [V, 3]: the sign of each anatomical angle about the body's x, z and y axes."""
    signs = np.ones((len(NTU25), 3))
    signs[[pair[0] for pair in NTU25.mirror], 1:] = -1
    signs[list(NTU25.parts["torso"])] = (-1, -1, 1)
    signs[[JOINT["left knee"], JOINT["right knee"]], 0] = -1
    return signs


_SIGNS = _axis_signs()


def turn(axis: int, degrees: Floats) -> Floats:
    """Return float64 [..., 3, 3], right-handed rotations by ``degrees`` [...] about x (0), y (1) or z (2)."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.zeros((*np.shape(degrees), 3, 3))
    after, last = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1
    matrix[..., after, after] = matrix[..., last, last] = cos
    matrix[..., last, after], matrix[..., after, last] = sin, -sin
    return matrix


def forward(body: Body, motion: Motion) -> Floats:
    """Return joint places, float64 [T, V, 3], metres, floor at y = 0, supporting feet about x = z = 0.

    A child stands at its parent's place plus the rest bone turned by the parent's global rotation.
    """
    signed = motion.angles * _SIGNS
    local = turn(0, signed[..., 0]) @ turn(2, signed[..., 1]) @ turn(1, signed[..., 2])
    yaw = turn(1, motion.yaw)
    spin = np.zeros_like(local)
    place = np.zeros_like(motion.angles)
    spin[:, 0] = yaw @ local[:, 0]
    # Hips and ankles are measured from the upright body: bowing keeps the legs, lifting a foot keeps its sole level.
    upright = {JOINT[f"{side} {joint}"] for side in ("left", "right") for joint in ("hip", "ankle")}
    for child, parent in TREE:
        bone = body.rest[child] - body.rest[parent]
        place[:, child] = place[:, parent] + spin[:, parent] @ bone
        spin[:, child] = (yaw if child in upright else spin[:, parent]) @ local[:, child]
    feet = place[:, FEET, :]
    base = np.einsum("tfc,tf->tc", feet, motion.support)
    base[:, 1] = feet[..., 1].min(axis=1) - body.rest[FEET[1], 1] - motion.lift
    standing: Floats = place - base[:, None]
    return standing
