"""Simulated people and sensor: joint angles to joint positions, positions to `.skeleton` text.

Body frame: x to the body's right, y up, z to its back, so that a body with yaw 0 faces the sensor
(the camera axes of ``Recording``). Proportions follow common anthropometric tables (fractions of
body height: Drillis and Contini 1966, as in Winter, "Biomechanics and Motor Control of Human
Movement", table 4.1), rounded to where the Kinect v2 puts joints.

Sensor noise is assumed, of the size that Kinect v2 studies report: about 5 mm on tracked joints at
3 m, growing with the square of the distance; centimetres on joints that the sensor has to guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.recording import TRACKED
from smae.skeleton import NTU25

Floats = NDArray[np.float64]
JOINT = {name: number for number, name in enumerate(NTU25.joints)}
FEET = (JOINT["left ankle"], JOINT["right ankle"])
NOT_TRACKED, INFERRED = 0, 1
FIRST_ID = 2**56
"""The sensor counts its body ids up from here."""

# Standing with hanging arms, as fractions of body height; the left side is the mirror image.
_STANDING = {
    "spine base": (0.0, 0.53, 0.0),
    "spine mid": (0.0, 0.68, 0.0),
    "spine shoulder": (0.0, 0.81, 0.0),
    "neck": (0.0, 0.85, 0.0),
    "head": (0.0, 0.94, -0.01),
    "right shoulder": (0.105, 0.805, 0.0),
    "right elbow": (0.115, 0.63, 0.0),
    "right wrist": (0.115, 0.485, 0.0),
    "right hand": (0.115, 0.445, -0.005),
    "right hand tip": (0.115, 0.40, -0.01),
    "right thumb": (0.1, 0.435, -0.03),
    "right hip": (0.048, 0.51, 0.0),
    "right knee": (0.055, 0.28, -0.005),
    "right ankle": (0.058, 0.045, 0.0),
    "right foot": (0.062, 0.015, -0.07),
}


def _tree() -> tuple[tuple[int, int], ...]:
    """Return NTU's bones as (child, parent) pairs from the spine base outwards."""
    reached, order = [0], []
    for parent in reached:
        for bone in NTU25.bones:
            for child in set(bone) - {parent} - set(reached):
                if parent in bone:
                    reached.append(child)
                    order.append((child, parent))
    return tuple(order)


TREE = _tree()


def make_body(height: float, *, legs: float = 1.0, arms: float = 1.0, breadth: float = 1.0) -> Floats:
    """Return the joints of a standing person, float64 [V, 3], metres, floor at y = 0.

    Legs, arms and breadth of the person, ``height`` metres tall, are scaled by the factors.
    """
    rest = np.zeros((len(NTU25), 3))
    for name, xyz in _STANDING.items():
        rest[JOINT[name]] = xyz
    scale = np.ones((len(NTU25), 3))
    scale[:, 0] = breadth
    for part, factor in (("right leg", legs), ("right arm", arms)):
        # The first bone of a limb belongs to the trunk's breadth.
        scale[list(NTU25.parts[part])[1:], 1:] = factor
    scaled = np.zeros_like(rest)
    scaled[0] = rest[0]
    for child, parent in TREE:
        scaled[child] = scaled[parent] + (rest[child] - rest[parent]) * scale[child]
    for left, right in NTU25.mirror:
        scaled[left] = scaled[right] * (-1, 1, 1)
    scaled *= height
    scaled[:, 1] += 0.045 * height - scaled[FEET[1], 1]
    return scaled


@dataclass(frozen=True)
class Motion:
    """Joint angles over time, in anatomical terms, the same for left and right.

    Attributes:
        angles: float64 [T, V, 3], degrees: flexion, abduction (arms and legs: away from the body;
            trunk and head: to the right), inward twist (trunk and head: to the left). The spine
            base tilts the pelvis and leaves the legs upright; ankles are measured from the level
            foot.
        yaw: float64 [T], degrees, turn of the whole body to its left.
        lift: float64 [T], metres, of the lower foot above the floor.
        support: float64 [T, 2], weight of the left and the right foot; rows sum to 1.
    """

    angles: Floats
    yaw: Floats
    lift: Floats
    support: Floats

    def mirrored(self) -> Motion:
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


def rotation(axis: int, degrees: Floats) -> Floats:
    """Return right-handed rotations [..., 3, 3] about x (0), y (1) or z (2)."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.zeros((*np.shape(degrees), 3, 3))
    after, last = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1
    matrix[..., after, after] = matrix[..., last, last] = cos
    matrix[..., last, after], matrix[..., after, last] = sin, -sin
    return matrix


def forward(body: Floats, motion: Motion) -> Floats:
    """Return joints, float64 [T, V, 3], metres, floor at y = 0, supporting feet about x = z = 0.

    A child is at its parent plus the rest bone, rotated by the parent's global rotation.
    """
    signed = motion.angles * _SIGNS
    local = rotation(0, signed[..., 0]) @ rotation(2, signed[..., 1]) @ rotation(1, signed[..., 2])
    yaw = rotation(1, motion.yaw)
    turned = np.zeros_like(local)
    xyz = np.zeros_like(motion.angles)
    turned[:, 0] = yaw @ local[:, 0]
    # Hips and ankles are measured from the upright body: bowing keeps the legs, lifting a foot
    # keeps its sole level.
    upright = {JOINT[f"{side} {joint}"] for side in ("left", "right") for joint in ("hip", "ankle")}
    for child, parent in TREE:
        bone = body[child] - body[parent]
        xyz[:, child] = xyz[:, parent] + turned[:, parent] @ bone
        turned[:, child] = (yaw if child in upright else turned[:, parent]) @ local[:, child]
    feet = xyz[:, FEET, :]
    base = np.einsum("tfc,tf->tc", feet, motion.support)
    base[:, 1] = feet[..., 1].min(axis=1) - body[FEET[1], 1] - motion.lift
    standing: Floats = xyz - base[:, None]
    return standing


_TRUNK = [JOINT["spine base"], JOINT["spine mid"], JOINT["spine shoulder"]]
_HANDS = {JOINT[f"{side} hand"]: [JOINT[f"{side} hand tip"], JOINT[f"{side} thumb"]] for side in ("left", "right")}
_LEAVES = sorted(set(range(len(NTU25))) - {parent for _, parent in TREE})
# Nominal Kinect v2 intrinsics, pixels: (focal length, centre x, centre y) of the depth and the
# colour picture.
_PICTURES = ((365.0, 256.0, 212.0), (1060.0, 960.0, 540.0))
_JOINT_LINE = " ".join(["%.7g"] * 3 + ["%.6g"] * 4 + ["%.7g"] * 4 + ["%d"])
_BODY_LINES = "\r\n".join(["%d 0 1 %d 1 %d 0 %.6g %.6g 2", str(len(NTU25)), *[_JOINT_LINE] * len(NTU25), ""])


@dataclass(frozen=True)
class View:
    """Pose of a sensor: angles in degrees, distances from the middle and the floor in metres."""

    angle: float
    distance: float
    height: float
    tilt: float

    def project(self, xyz: Floats) -> Floats:
        """Return world positions [..., 3] in camera space, metres."""
        turned = xyz @ rotation(1, np.array(self.angle)).T + (0, -self.height, self.distance)
        seen: Floats = turned @ rotation(0, np.array(self.tilt)).T
        return seen


@dataclass(frozen=True)
class Track:
    """One body id: ``frame`` int [F], ascending; ``xyz`` [F, V, 3]; ``state`` int [F, V]."""

    body: int
    frame: NDArray[np.int64]
    xyz: Floats
    state: NDArray[np.int64]


def drift(rng: np.random.Generator, frames: int, *shape: int, pace: float = 0.15) -> Floats:
    """Return smooth noise [frames, *shape]: unit sines of about ``pace`` radians a frame."""
    speed = pace * rng.uniform(0.4, 1.6, (3, 1, *shape))
    start = rng.uniform(0, 2 * np.pi, (3, 1, *shape))
    time = np.arange(frames).reshape(1, frames, *[1] * len(shape))
    waves: Floats = np.sin(start + speed * time).sum(axis=0) * np.sqrt(2 / 3)
    return waves


def observe(rng: np.random.Generator, seen: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return measured positions and states [T, V] of a body's true joints ``seen`` [T, V, 3]."""
    frames, joints = seen.shape[:2]
    state = np.where(_hidden(seen) | _lost(rng, frames, joints), INFERRED, TRACKED)
    sigma = 0.005 * (seen[:, :, 2:] / 3) ** 2
    noise = rng.normal(size=seen.shape) * sigma
    # The sensor filters: neighbouring frames share most of their error.
    noise[1:] = 0.6 * noise[1:] + 0.4 * noise[:-1]
    guess = 0.05 * drift(rng, frames, joints, 3) + 0.02 * rng.normal(size=seen.shape)
    xyz = seen + noise + np.where(state[..., None] == INFERRED, guess, 0)
    for hand, fingers in _HANDS.items():
        gone = state[:, hand] == INFERRED
        for finger in fingers:
            state[gone, finger] = NOT_TRACKED
            xyz[gone, finger] = xyz[gone, hand]
    return xyz, state


def _hidden(seen: Floats) -> NDArray[np.bool_]:
    """Return bool [T, V]: joints behind the trunk, a tube of 11 cm radius, seen from the origin."""
    samples = np.linspace(0, 1, 5)[:, None]
    spine = np.concatenate(
        [seen[:, None, a] + samples * (seen[:, None, b] - seen[:, None, a]) for a, b in pairwise(_TRUNK)], axis=1
    )
    # Scaled to the depth of a trunk sample, a joint's distance from it is that in the picture.
    depth = spine[:, None, :, 2]
    across = seen[:, :, None, :2] * (depth / seen[:, :, None, 2])[..., None] - spine[:, None, :, :2]
    covered = np.hypot(across[..., 0], across[..., 1]) < 0.11
    hidden: NDArray[np.bool_] = (covered & (seen[:, :, None, 2] > depth + 0.08)).any(axis=2)
    return hidden


def _lost(rng: np.random.Generator, frames: int, joints: int) -> NDArray[np.bool_]:
    """Return bool [T, V]: short gaps; the sensor loses one joint in five for a while."""
    start, length = rng.uniform(0, frames, joints), rng.uniform(3, 12, joints)
    time = np.arange(frames)[:, None]
    unlucky = rng.uniform(size=joints) < 0.2
    unlucky[_TRUNK] = False
    return (time >= start) & (time < start + length) & unlucky


def _orientation(xyz: Floats) -> Floats:
    """Return unit quaternions (w, x, y, z) [F, V, 4] from +y to the bone of each joint; leaves: 0.

    The shortest arc from a to b is (1 + a.b, a x b), normalised.
    """
    quaternion = np.zeros((*xyz.shape[:2], 4))
    for child, parent in TREE:
        bone = xyz[:, child] - xyz[:, parent]
        bone /= np.maximum(np.linalg.norm(bone, axis=-1, keepdims=True), 1e-9)
        quaternion[:, child, 0] = 1 + bone[:, 1]
        quaternion[:, child, 1], quaternion[:, child, 3] = bone[:, 2], -bone[:, 0]
    quaternion /= np.maximum(np.linalg.norm(quaternion, axis=-1, keepdims=True), 1e-6)
    quaternion[:, _LEAVES] = 0
    return quaternion


def _rows(track: Track) -> Floats:
    """Return the numbers of each frame's body block but the id, float64 [F, 4 + V * 12]."""
    xyz = track.xyz
    pixels = [
        centre + sign * focal * xyz[..., axis] / np.maximum(xyz[..., 2], 0.1)
        for focal, *centres in _PICTURES
        for axis, (sign, centre) in enumerate(zip((1, -1), centres, strict=True))
    ]
    fields = np.concatenate([xyz, np.stack(pixels, -1), _orientation(xyz), track.state[..., None]], -1)
    lean = xyz[:, JOINT["spine shoulder"]] - xyz[:, JOINT["spine base"]]
    hands = 1 + track.state[:, list(_HANDS)] // TRACKED
    head = np.concatenate([hands, lean[:, [0, 2]] / np.maximum(np.abs(lean[:, 1:2]), 0.1)], axis=1)
    return np.concatenate([head, fields.reshape(len(xyz), -1)], axis=1)


def skeleton_text(frames: int, tracks: Sequence[Track]) -> bytes:
    """Return a `.skeleton` file of ``frames`` frames with the bodies of ``tracks``."""
    blocks: list[list[str]] = [[] for _ in range(frames)]
    for track in tracks:
        for frame, row in zip(track.frame.tolist(), _rows(track).tolist(), strict=True):
            blocks[frame].append(_BODY_LINES % (track.body, *row))
    parts = [f"{frames}\r\n"]
    for bodies in blocks:
        parts += [f"{len(bodies)}\r\n", *bodies]
    return "".join(parts).encode("ascii")
