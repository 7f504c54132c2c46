"""The synthetic sensor: sees bodies from one side with noise and hidden joints, and prints what it saw as `.skeleton`.

Noise is assumed, of the size that Kinect v2 studies report: about 5 mm on tracked joints at 3 m, growing with the
square of the distance; centimetres on joints that the sensor has to guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from smae.data.synthetic.kinematics import JOINT, TREE, Floats, turn
from smae.skeleton import NTU25

NOT_TRACKED, INFERRED, TRACKED = 0, 1, 2
FIRST_ID = 72057594037927936
"""The sensor counts its body ids up from 2**56."""

_TRUNK = [JOINT["spine base"], JOINT["spine mid"], JOINT["spine shoulder"]]
_HANDS = {JOINT[f"{side} hand"]: [JOINT[f"{side} hand tip"], JOINT[f"{side} thumb"]] for side in ("left", "right")}
_LEAVES = sorted(set(range(len(NTU25))) - {parent for _, parent in TREE})
# Nominal Kinect v2 intrinsics, pixels: (focal length, centre x, centre y) of the depth and the colour picture.
_PICTURES = ((365.0, 256.0, 212.0), (1060.0, 960.0, 540.0))
_JOINT_LINE = " ".join(["%.7g"] * 3 + ["%.6g"] * 4 + ["%.7g"] * 4 + ["%d"])
_BODY_LINES = "\r\n".join(["%d 0 1 %d 1 %d 0 %.6g %.6g 2", str(len(NTU25)), *[_JOINT_LINE] * len(NTU25), ""])


@dataclass(frozen=True)
class View:
    """Where a sensor stands: degrees round the scene, metres from its middle and above the floor, degrees of tilt."""

    angle: float
    distance: float
    height: float
    tilt: float

    def see(self, place: Floats) -> Floats:
        """Return world places [..., 3] in camera space, metres."""
        turned = place @ turn(1, np.array(self.angle)).T + (0, -self.height, self.distance)
        seen: Floats = turned @ turn(0, np.array(self.tilt)).T
        return seen


@dataclass(frozen=True)
class Track:
    """One body id as the sensor reports it: ``frame`` int [F], ascending; ``xyz`` [F, V, 3]; ``state`` int [F, V]."""

    body: int
    frame: NDArray[np.int64]
    xyz: Floats
    state: NDArray[np.int64]


def drift(rng: np.random.Generator, frames: int, *shape: int, pace: float = 0.15) -> Floats:
    """Return smooth noise [frames, *shape] of unit size: a few slow sines with random phases.

    Args:
        rng: where the phases come from.
        frames: how many.
        shape: further axes.
        pace: typical angular speed, radians a frame.
    """
    speed = pace * rng.uniform(0.4, 1.6, (3, 1, *shape))
    start = rng.uniform(0, 2 * np.pi, (3, 1, *shape))
    time = np.arange(frames).reshape(1, frames, *[1] * len(shape))
    waves: Floats = np.sin(start + speed * time).sum(axis=0) * np.sqrt(2 / 3)
    return waves


def observe(rng: np.random.Generator, seen: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return what the sensor reports of a body that truly is at ``seen`` [T, V, 3]: places and states [T, V]."""
    frames, joints = seen.shape[:2]
    state = np.where(_hidden(seen) | _lost(rng, frames, joints), INFERRED, TRACKED)
    sigma = 0.005 * (seen[:, :, 2:] / 3) ** 2
    noise = rng.normal(size=seen.shape) * sigma
    # The sensor's own filter: neighbouring frames share most of their error.
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
    """Return bool [T, V]: joints behind the trunk, as a tube of 11 cm radius, seen from the camera at the origin."""
    samples = np.linspace(0, 1, 5)[:, None]
    spine = np.concatenate(
        [seen[:, None, a] + samples * (seen[:, None, b] - seen[:, None, a]) for a, b in pairwise(_TRUNK)], axis=1
    )
    # Scale each joint to the depth of the trunk sample: what is left is its distance from it in the picture.
    depth = spine[:, None, :, 2]
    across = seen[:, :, None, :2] * (depth / seen[:, :, None, 2])[..., None] - spine[:, None, :, :2]
    covered = np.hypot(across[..., 0], across[..., 1]) < 0.11
    hidden: NDArray[np.bool_] = (covered & (seen[:, :, None, 2] > depth + 0.08)).any(axis=2)
    return hidden


def _lost(rng: np.random.Generator, frames: int, joints: int) -> NDArray[np.bool_]:
    """Return bool [T, V]: short spells in which the sensor loses a joint anyway; one joint in five has one."""
    start, length = rng.uniform(0, frames, joints), rng.uniform(3, 12, joints)
    time = np.arange(frames)[:, None]
    unlucky = rng.uniform(size=joints) < 0.2
    unlucky[_TRUNK] = False
    return (time >= start) & (time < start + length) & unlucky


def _orientation(xyz: Floats) -> Floats:
    """Return unit quaternions (w, x, y, z) [F, V, 4] that turn +y along the bone from each joint's parent; leaves: 0.

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
    """Return the numbers of each frame's body block, float64 [F, 4 + V * 12], the id left out."""
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
    """Return a `.skeleton` file: ``frames`` frames with the bodies of ``tracks``, in that order, CRLF line ends."""
    blocks: list[list[str]] = [[] for _ in range(frames)]
    for track in tracks:
        for frame, row in zip(track.frame.tolist(), _rows(track).tolist(), strict=True):
            blocks[frame].append(_BODY_LINES % (track.body, *row))
    parts = [f"{frames}\r\n"]
    for bodies in blocks:
        parts += [f"{len(bodies)}\r\n", *bodies]
    return "".join(parts).encode("ascii")
