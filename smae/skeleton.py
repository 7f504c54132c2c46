"""Skeleton layouts: names, bones, mirror pairs and body parts of the joints.

NTU's order is that of the Kinect v2 as NTU RGB+D numbers it (here 0-based); ``kinect20`` is that of the
Kinect v1. The others: Human3.6M's 17 joints as VideoPose3D orders them, COCO's 17 keypoints, MediaPipe
Pose's 33 landmarks, OpenPose's BODY_25, Azure Kinect's 32, and 15 that motion capture has too. A joint
that several of them have has the same name in all, so that layouts can be mapped to one another. An
outside package adds a layout by the entry-point group ``smae.layouts``, a ``.toml`` file too.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smae.errors import ConfigError
from smae.registry import Registry

MAX_JOINTS = 1000


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


_ARM = ("shoulder", "clavicle", "elbow", "wrist", "hand", "thumb", "pinky", "index")
_LEG = ("hip", "knee", "ankle", "foot", "heel", "toe")


def make_layout(
    name: str,
    joints: Sequence[str],
    bones: Sequence[tuple[str | int, str | int]],
    *,
    centre: str | int,
    mirror: Sequence[tuple[str | int, str | int]] | None = None,
    parts: Mapping[str, Sequence[str | int]] | None = None,
    across: Sequence[tuple[str | int, str | int]] | None = None,
    spine: Sequence[str | int] | None = None,
) -> Layout:
    """Return a layout whose joints are given by name or number.

    What is left out follows from names: mirror pairs are ``left ...`` and ``right ...``; parts are
    arms, legs and torso; hips and shoulders run across. Bones of a left joint hold for the right
    one. Raises as ``check`` does.
    """
    numbers = {joint: number for number, joint in enumerate(joints)}

    def number(joint: str | int) -> int:
        if isinstance(joint, str) and joint not in numbers:
            raise ConfigError(f"layout {name}: no joint '{joint}' among {', '.join(joints)}")
        return numbers[joint] if isinstance(joint, str) else joint

    def pairs(given: Sequence[tuple[str | int, str | int]]) -> tuple[tuple[int, int], ...]:
        return tuple((number(one), number(other)) for one, other in given)

    sides = [(joint, joint.replace("left", "right", 1)) for joint in joints if joint.startswith("left ")]
    if mirror is None:
        mirror = [pair for pair in sides if pair[1] in numbers]
    if across is None:
        across = [pair for pair in sides if pair[0] in ("left hip", "left shoulder") and pair in mirror]
    if parts is None:
        found: dict[str, list[str | int]] = {}
        for joint in joints:
            found.setdefault(_part_of(joint), []).append(joint)
        parts = found
    other = dict(pair for one, two in pairs(mirror) for pair in ((one, two), (two, one)))
    tree = dict(pairs(bones))
    for child, parent in list(tree.items()):
        tree.setdefault(other.get(child, child), other.get(parent, parent))
    layout = Layout(
        name=name,
        joints=tuple(joints),
        bones=tuple(sorted(tree.items())),
        mirror=pairs(mirror),
        parts={part: tuple(number(joint) for joint in held) for part, held in parts.items()},
        centre=number(centre),
        across=pairs(across),
        spine=None if spine is None else (number(spine[0]), number(spine[1])),
    )
    check(layout)
    return layout


def _part_of(joint: str) -> str:
    side = joint.partition(" ")[0]
    if side in ("left", "right"):
        for limb, words in (("leg", _LEG), ("arm", _ARM)):
            if any(word in joint for word in words):
                return f"{side} {limb}"
    return "torso"


def check(layout: Layout) -> None:
    """Raise a ``ConfigError`` for a layout without what masking, augmentation and streams need."""
    count = len(layout)

    def need(fulfilled: bool, requirement: str) -> None:
        if not fulfilled:
            raise ConfigError(f"layout {ascii(layout.name)[1:-1][:60]}: {requirement}")

    need(0 < count <= MAX_JOINTS, f"expected 1 to {MAX_JOINTS} joints")
    texts = (layout.name, *layout.joints, *layout.parts)
    need(all(0 < len(text) <= 100 and text.isprintable() for text in texts), "names must be printable text")
    need(len(set(layout.joints)) == count, "joints must have names, each its own")
    need(0 <= layout.centre < count, "centre must be a joint's number, from 0 on")
    parent = dict(layout.bones)
    need(len(parent) == len(layout.bones) == count - 1, "every joint but the root needs one bone (child, parent)")
    for joint in range(count):
        path = [joint]
        while path[-1] in parent:
            path.append(parent[path[-1]])
            leads_on = len(path) <= count and 0 <= path[-1] < count
            need(leads_on, f"the bones of joint {joint} lead in a circle, or nowhere")
    held = sorted(joint for joints in layout.parts.values() for joint in joints)
    need(held == list(range(count)), "parts must hold every joint once")
    paired = [joint for pair in layout.mirror for joint in pair]
    single = len(set(paired)) == len(paired) and set(paired) <= set(range(count))
    need(single, "a joint may be in one mirror pair only")
    other = {a: b for pair in layout.mirror for a, b in (pair, pair[::-1])}
    mirrored = {(other.get(child, child), other.get(up, up)) for child, up in layout.bones}
    need(mirrored == set(layout.bones), "mirroring must map bones to bones: is a pair missing, or a bone one-sided?")
    parts = {frozenset(joints) for joints in layout.parts.values()}
    swapped = {frozenset(other.get(joint, joint) for joint in joints) for joints in parts}
    need(swapped == parts, "mirroring must map parts to parts")
    trunk = [joint for pair in layout.across for joint in pair] + list(layout.spine or ())
    need(set(trunk) <= set(range(count)), "across and spine must hold joints' numbers")
    need(set(layout.across) <= set(layout.mirror), "pairs that run across the trunk must be mirror pairs, left first")
    need(layout.spine is None or len(set(layout.spine)) == 2, "spine must name two joints, the lower one first")


def _built_in(
    name: str, joints: str, bones: str, *, centre: str, spine: str = "", across: Sequence[str] | None = None
) -> Layout:
    """Return a layout of joints ``one, other``, bones ``child > parent``, spine ``end to end``."""
    pairs = [(child, parent) for child, parent in (bone.split(" > ") for bone in bones.split(", "))]
    trunk = None if across is None else [(f"left {joint}", f"right {joint}") for joint in across]
    ends = spine.split(" to ") if spine else None
    return make_layout(name, joints.split(", "), pairs, centre=centre, across=trunk, spine=ends)


NTU25 = _built_in(
    "ntu25",
    "spine base, spine mid, neck, head, left shoulder, left elbow, left wrist, left hand, "
    "right shoulder, right elbow, right wrist, right hand, left hip, left knee, left ankle, "
    "left foot, right hip, right knee, right ankle, right foot, spine shoulder, left hand tip, "
    "left thumb, right hand tip, right thumb",
    "spine base > spine mid, spine mid > spine shoulder, neck > spine shoulder, head > neck, "
    "left shoulder > spine shoulder, left elbow > left shoulder, left wrist > left elbow, "
    "left hand > left wrist, left hip > spine base, left knee > left hip, left ankle > left knee, "
    "left foot > left ankle, left hand tip > left thumb, left thumb > left hand",
    centre="spine mid",
    across=("hip", "shoulder"),
    spine="spine base to spine shoulder",
)
# NTU25 without its last five joints; limbs and mirror pairs are the same.
KINECT20 = _built_in(
    "kinect20",
    f"hip centre, spine, shoulder centre, head, {', '.join(NTU25.joints[4:20])}",
    "hip centre > spine, spine > shoulder centre, head > shoulder centre, "
    "left shoulder > shoulder centre, left elbow > left shoulder, left wrist > left elbow, "
    "left hand > left wrist, left hip > hip centre, left knee > left hip, left ankle > left knee, "
    "left foot > left ankle",
    centre="spine",
    across=("hip", "shoulder"),
    spine="hip centre to shoulder centre",
)
H36M17 = _built_in(
    "h36m17",
    "spine base, right hip, right knee, right ankle, left hip, left knee, left ankle, spine mid, "
    "spine shoulder, nose, head, left shoulder, left elbow, left wrist, right shoulder, "
    "right elbow, right wrist",
    "left hip > spine base, left knee > left hip, left ankle > left knee, spine mid > spine base, "
    "spine shoulder > spine mid, nose > spine shoulder, head > nose, left shoulder > spine "
    "shoulder, left elbow > left shoulder, left wrist > left elbow",
    centre="spine mid",
    spine="spine base to spine shoulder",
)

# COCO's and MediaPipe's have no joint on the trunk's axis: the nose is the root and the origin.
_LIMBS = (
    "left shoulder > nose, left elbow > left shoulder, left wrist > left elbow, "
    "left hip > left shoulder, left knee > left hip, left ankle > left knee"
)
COCO17 = _built_in(
    "coco17",
    "nose, left eye, right eye, left ear, right ear, left shoulder, right shoulder, left elbow, "
    "right elbow, left wrist, right wrist, left hip, right hip, left knee, right knee, left ankle, "
    "right ankle",
    f"left eye > nose, left ear > left eye, {_LIMBS}",
    centre="nose",
)
MEDIAPIPE33 = _built_in(
    "mediapipe33",
    "nose, left eye inner, left eye, left eye outer, right eye inner, right eye, right eye outer, "
    "left ear, right ear, left mouth, right mouth, left shoulder, right shoulder, left elbow, "
    "right elbow, left wrist, right wrist, left pinky, right pinky, left index, right index, "
    "left thumb, right thumb, left hip, right hip, left knee, right knee, left ankle, right ankle, "
    "left heel, right heel, left foot index, right foot index",
    "left eye inner > nose, left eye > left eye inner, left eye outer > left eye, "
    f"left ear > left eye outer, left mouth > nose, {_LIMBS}, left pinky > left wrist, "
    "left index > left wrist, left thumb > left wrist, left heel > left ankle, "
    "left foot index > left ankle",
    centre="nose",
)

# BODY_25's neck is the midpoint of the shoulders, its mid hip that of the hips.
OPENPOSE25 = _built_in(
    "openpose25",
    "nose, spine shoulder, right shoulder, right elbow, right wrist, left shoulder, left elbow, "
    "left wrist, spine base, right hip, right knee, right ankle, left hip, left knee, left ankle, "
    "right eye, left eye, right ear, left ear, left big toe, left small toe, left heel, "
    "right big toe, right small toe, right heel",
    "nose > spine shoulder, left shoulder > spine shoulder, left elbow > left shoulder, "
    "left wrist > left elbow, spine shoulder > spine base, left hip > spine base, "
    "left knee > left hip, left ankle > left knee, left eye > nose, left ear > left eye, "
    "left big toe > left ankle, left small toe > left big toe, left heel > left ankle",
    centre="spine base",
    spine="spine base to spine shoulder",
)
AZURE32 = _built_in(
    "azure32",
    "spine base, spine mid, chest, spine shoulder, left clavicle, left shoulder, left elbow, "
    "left wrist, left hand, left hand tip, left thumb, right clavicle, right shoulder, right "
    "elbow, right wrist, right hand, right hand tip, right thumb, left hip, left knee, left ankle, "
    "left foot, right hip, right knee, right ankle, right foot, head, nose, left eye, left ear, "
    "right eye, right ear",
    "spine mid > spine base, chest > spine mid, spine shoulder > chest, left clavicle > chest, "
    "left shoulder > left clavicle, left elbow > left shoulder, left wrist > left elbow, "
    "left hand > left wrist, left hand tip > left hand, left thumb > left wrist, "
    "left hip > spine base, left knee > left hip, left ankle > left knee, left foot > left ankle, "
    "head > spine shoulder, nose > head, left eye > head, left ear > head",
    centre="spine mid",
    spine="spine base to spine shoulder",
)
# Without clavicles, hands and feet, which motion capture names in many ways, or does not have.
COMMON15 = _built_in(
    "common15",
    "spine base, spine shoulder, head, left shoulder, left elbow, left wrist, right shoulder, "
    "right elbow, right wrist, left hip, left knee, left ankle, right hip, right knee, right ankle",
    "spine shoulder > spine base, head > spine shoulder, left shoulder > spine shoulder, "
    "left elbow > left shoulder, left wrist > left elbow, left hip > spine base, "
    "left knee > left hip, left ankle > left knee",
    centre="spine base",
    spine="spine base to spine shoulder",
)

BUILT_IN = (NTU25, KINECT20, H36M17, COCO17, MEDIAPIPE33, OPENPOSE25, AZURE32, COMMON15)
LAYOUTS: Registry[Layout] = Registry(
    "layout", {layout.name: f"smae.skeleton:{layout.name.upper()}" for layout in BUILT_IN}
)


def layout_json(layout: Layout) -> dict[str, Any]:
    """Return what a store, run or encoder keeps of a layout that is not built in."""
    if layout in BUILT_IN:
        return {}
    return {"skeleton": asdict(layout)}


def layout_from_json(name: str, skeleton: Any) -> Layout:
    """Return the layout that was kept: by name, or by its definition, checked."""
    if skeleton is None:
        return LAYOUTS.get(name)
    return _from_mapping(skeleton, where=f"layout {name}")


def load_layout(name: str) -> Layout:
    """Return the layout of a name, or of a ``.toml`` file as ``docs/layouts.md`` describes it.

    Raises:
        UnknownNameError, ConfigError: no such layout; the file is missing or describes none.
    """
    if not name.endswith(".toml"):
        return LAYOUTS.get(name)
    try:
        with Path(name).open("rb") as file:
            content = tomllib.loads(file.read(1 << 20).decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: cannot be read as TOML: {error}") from error
    return _from_mapping(content, where=name)


def _from_mapping(content: Any, *, where: str) -> Layout:
    try:
        if not isinstance(content, Mapping):
            raise TypeError("expected name, joints, bones and centre")
        values = dict(content)
        if not all(isinstance(joint, str) for joint in (values["name"], *values["joints"])):
            raise TypeError("names must be text")
        return make_layout(values.pop("name"), values.pop("joints"), values.pop("bones"), **values)
    except KeyError as error:
        raise ConfigError(f"{where}: {error} is missing: expected name, joints, bones and centre") from error
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise ConfigError(f"{where}: not a layout ({str(error)[:100]})") from error
