"""Skeleton layouts: names, bones, mirror pairs and body parts of the joints.

NTU's order is that of the Kinect v2 as NTU RGB+D numbers it (here 0-based); ``kinect20`` is that of the
Kinect v1. An outside package adds a layout through the entry-point group ``smae.layouts``.
"""

from __future__ import annotations

from dataclasses import dataclass

from smae.registry import Registry


@dataclass(frozen=True)
class Layout:
    """One arrangement of joints.

    Attributes:
        name: as in stores and checkpoints.
        joints: joint names, in storage order.
        bones: (child, parent) pairs; every joint but the root has one parent.
        mirror: (left, right) pairs.
        parts: body parts, which together hold every joint once.
        centre: the joint whose first position becomes the origin (reference pipeline, step 4).
        across: (left, right) pairs of hips and shoulders; with ``spine`` they give the direction in
            which a person faces (``augment.align``).
        spine: lowest and highest joint of the trunk.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    mirror: tuple[tuple[int, int], ...]
    parts: dict[str, tuple[int, ...]]
    centre: int
    across: tuple[tuple[int, int], ...] = ()
    spine: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.joints)


def _one_based(*pairs: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple((a - 1, b - 1) for a, b in pairs)


NTU25 = Layout(
    name="ntu25",
    joints=(
        "spine base", "spine mid", "neck", "head", "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand", "left hip", "left knee", "left ankle",
        "left foot", "right hip", "right knee", "right ankle", "right foot", "spine shoulder", "left hand tip",
        "left thumb", "right hand tip", "right thumb",
    ),
    bones=_one_based(
        (1, 2), (2, 21), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9), (11, 10), (12, 11),
        (13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19), (22, 23), (23, 8), (24, 25),
        (25, 12),
    ),
    mirror=_one_based((5, 9), (6, 10), (7, 11), (8, 12), (13, 17), (14, 18), (15, 19), (16, 20), (22, 24), (23, 25)),
    parts={
        "torso": (0, 1, 2, 3, 20),
        "left arm": (4, 5, 6, 7, 21, 22),
        "right arm": (8, 9, 10, 11, 23, 24),
        "left leg": (12, 13, 14, 15),
        "right leg": (16, 17, 18, 19),
    },
    centre=1,
    across=((12, 16), (4, 8)),
    spine=(0, 20),
)  # fmt: skip

# NTU25 without its last five joints: limbs, mirror pairs and parts are the same.
KINECT20 = Layout(
    name="kinect20",
    joints=("hip centre", "spine", "shoulder centre", "head", *NTU25.joints[4:20]),
    bones=_one_based(
        (1, 2), (2, 3), (4, 3), (5, 3), (6, 5), (7, 6), (8, 7), (9, 3), (10, 9), (11, 10), (12, 11), (13, 1), (14, 13),
        (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19),
    ),
    mirror=NTU25.mirror[:8],
    parts={name: tuple(joint for joint in joints if joint < 20) for name, joints in NTU25.parts.items()},
    centre=1,
    across=NTU25.across,
    spine=(0, 2),
)  # fmt: skip

BUILT_IN = (NTU25, KINECT20)
LAYOUTS: Registry[Layout] = Registry("layout", {"ntu25": "smae.skeleton:NTU25", "kinect20": "smae.skeleton:KINECT20"})
