"""Motion capture: Biovision ``.bvh``, and Acclaim ``.amc`` with its ``.asf``: bones and positions.

Both hold a tree of bones and angles for each frame; positions follow by forward kinematics. "BVH"
(Meredith and Maddock, "Motion Capture File Formats Explained", Sheffield, 2001): a joint's
rotations apply in the order of its channels, and its position channels replace its offset. Acclaim
(the same, and the notes on CMU's database): a bone turns about axes of its own, C M C^-1, and is
``length`` long along ``direction``; lengths are inches times the ``length`` of the file's units.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from smae.errors import BadRecording

Floats = NDArray[np.float64]
INCH = 0.0254
_MAX_JOINTS = 1000
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


@dataclass
class Bone:
    """A joint of a BVH file, or a bone of an ASF file.

    Attributes:
        name: as in the file.
        parent: its number in the list of bones, -1 for the root.
        offset: from the parent, or along the bone, in the file's unit.
        channels: what its numbers are: ``Xposition``, ``Zrotation`` (BVH), ``TX``, ``rx`` (AMC).
        axes: C, the axes that an Acclaim bone turns about, float [3, 3].
    """

    name: str
    parent: int
    offset: Floats
    channels: tuple[str, ...] = ()
    axes: Floats = field(default_factory=lambda: np.eye(3))


def rotation(axis: str, degrees: Floats) -> Floats:
    """Return matrices [T, 3, 3] that turn columns about ``x``, ``y`` or ``z`` by angles [T]."""
    angle = np.radians(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    out = np.tile(np.eye(3), (len(angle), 1, 1))
    out[:, first, first] = out[:, second, second] = cos
    out[:, first, second], out[:, second, first] = -sin, sin
    return out


def _turn(axes: str, degrees: Floats, *, first_leftmost: bool) -> Floats:
    """Return the product [T, 3, 3] of turns about several axes by angles [T, number of axes]."""
    turns = [rotation(axis, degrees[:, number]) for number, axis in enumerate(axes)]
    if not first_leftmost:
        turns.reverse()
    whole: Floats = reduce(np.matmul, turns, np.tile(np.eye(3), (len(degrees), 1, 1)))
    return whole


def bvh_positions(bones: Sequence[Bone], motion: Floats) -> Floats:
    """Return positions [T, bones, 3] of BVH joints, parents first, of motion [T, channels]."""
    frames, at = len(motion), 0
    turned: list[Floats] = []
    placed = np.empty((frames, len(bones), 3))
    for number, bone in enumerate(bones):
        values = motion[:, at : at + len(bone.channels)]
        at += len(bone.channels)
        local, turns = np.tile(bone.offset, (frames, 1)), []
        for column, channel in enumerate(bone.channels):
            if channel.endswith("position"):
                # In place of the offset: sets with positions for every joint repeat it.
                local[:, "xyz".index(channel[0].lower())] = values[:, column]
            else:
                turns.append(column)
        axes = "".join(bone.channels[column][0].lower() for column in turns)
        turn = _turn(axes, values[:, turns], first_leftmost=True)
        if bone.parent < 0:
            placed[:, number] = local
        else:
            parent = turned[bone.parent]
            placed[:, number] = placed[:, bone.parent] + np.einsum("tij,tj->ti", parent, local)
            turn = parent @ turn
        turned.append(turn)
    return placed


def amc_positions(bones: Sequence[Bone], motion: Mapping[str, Floats], frames: int) -> Floats:
    """Return positions [T, bones, 3] of the ends of an ASF file's bones; the root's is its own."""
    turned: list[Floats] = []
    placed = np.empty((frames, len(bones), 3))
    for number, bone in enumerate(bones):
        # A bone without degrees of freedom is in no frame.
        values = motion.get(bone.name, np.zeros((frames, len(bone.channels))))
        local, turns = np.tile(bone.offset, (frames, 1)), []
        for column, channel in enumerate(bone.channels):
            if channel[0] in "Tt":
                local[:, "xyz".index(channel[1].lower())] += values[:, column]
            else:
                turns.append(column)
        axes = "".join(bone.channels[column][1].lower() for column in turns)
        turn = bone.axes @ _turn(axes, values[:, turns], first_leftmost=False) @ bone.axes.T
        if bone.parent < 0:
            placed[:, number] = local
        else:
            turn = turned[bone.parent] @ turn
            placed[:, number] = placed[:, bone.parent] + np.einsum("tij,tj->ti", turn, local)
        turned.append(turn)
    return placed


def parse_bvh(text: str) -> tuple[list[Bone], Floats]:
    """Return a BVH file's joints, end sites too (``NAME end``), and its motion [T, channels]."""
    head, found, tail = text.partition("MOTION")
    words = iter(head.split())
    bones: list[Bone] = []
    open_bones: list[int] = []
    if not found or next(words, "") != "HIERARCHY":
        raise BadRecording("bvh", "expected HIERARCHY and MOTION")
    for word in words:
        if word in ("ROOT", "JOINT", "End"):
            name, parent = next(words, ""), -1
            if open_bones:
                parent = open_bones[-1]
            elif bones:
                raise BadRecording("bvh", f"a second root, {ascii(name)[:40]}: expected one skeleton")
            if word == "End":
                name = f"{bones[parent].name} end" if bones else ""
            if next(words, "") != "{" or len(bones) >= _MAX_JOINTS:
                raise BadRecording("bvh", f"expected {{ after {ascii(name)[:40]}, and at most {_MAX_JOINTS} joints")
            open_bones.append(len(bones))
            bones.append(Bone(name, parent, np.zeros(3)))
        elif word == "OFFSET" and open_bones:
            bones[open_bones[-1]].offset = np.array([number_of(next(words, "")) for _ in range(3)])
        elif word == "CHANNELS" and open_bones:
            channels = tuple(next(words, "") for _ in range(int(number_of(next(words, "")) % 10)))
            if not all(re.fullmatch(r"[XYZxyz](position|rotation)", channel) for channel in channels):
                raise BadRecording("bvh", f"channels {ascii(channels)[:80]}: expected Xposition, Zrotation, ...")
            bones[open_bones[-1]].channels = channels
        elif word == "}" and open_bones:
            open_bones.pop()
        else:
            raise BadRecording("bvh", f"unexpected {ascii(word)[:40]} in the hierarchy")
    match = re.match(r"\s*Frames:\s*(\d{1,9})\s+Frame Time:\s*(\S+)", tail)
    width = sum(len(bone.channels) for bone in bones)
    if match is None or open_bones or not width:
        raise BadRecording("bvh", "the hierarchy is cut off, or Frames: and Frame Time: are missing")
    numbers = tail[match.end() :].split()
    if len(numbers) != int(match[1]) * width or not numbers:
        raise BadRecording("truncated", f"{len(numbers)} numbers where {match[1]} frames of {width} are announced")
    return bones, np.array([number_of(word) for word in numbers]).reshape(-1, width)


def parse_asf(text: str) -> tuple[list[Bone], bool]:
    """Return the bones of an ASF file, metres, parents first, and whether angles are degrees."""
    sections = {part.split(None, 1)[0]: part.split("\n")[1:] for part in f"\n{text}".split("\n:")[1:] if part.split()}
    units = {words[0]: words[1] for words in map(str.split, sections.get("units", [])) if len(words) == 2}
    scale = INCH / number_of(units.get("length", "1"))
    root = {words[0].lower(): words[1:] for words in map(str.split, sections.get("root", [])) if words}
    turn = _angles(root.get("orientation", ["0", "0", "0"]), root.get("axis", ["XYZ"])[0])
    found = {"root": Bone("root", -1, np.zeros(3), tuple(root.get("order", [])), turn)}
    for lines in "\n".join(sections.get("bonedata", [])).split("begin")[1:]:
        values = {words[0]: words[1:] for words in map(str.split, lines.split("\n")) if words}
        name, axis = " ".join(values.get("name", [])), values.get("axis", ["0", "0", "0", "XYZ"])
        direction = np.array([number_of(word) for word in values.get("direction", [])])
        length = number_of(" ".join(values.get("length", [])))
        if direction.shape != (3,) or len(axis) != 4 or not name:
            raise BadRecording("asf", f"bone {ascii(name)[:40]}: expected name, direction, length and axis")
        offset, axes = direction * length * scale, _angles(axis[:3], axis[3])
        found[name] = Bone(name, -1, offset, tuple(values.get("dof", [])), axes)
    # A parent's line stands above its children's, as in CMU's and HDM05's files.
    ordered, number = [found["root"]], {"root": 0}
    for parent, *children in map(str.split, filter(str.strip, sections.get("hierarchy", []))):
        for child in children:
            if parent in number and child in found and child not in number:
                number[child] = len(ordered)
                ordered.append(replace(found[child], parent=number[parent]))
    channels = [channel for bone in ordered for channel in bone.channels]
    if len(ordered) < len(found) or not all(re.fullmatch("[TtRr][XYZxyz]", channel) for channel in channels):
        raise BadRecording("asf", "a bone that the hierarchy does not hold, or degrees of freedom beside tx to rz")
    ordered[0].offset = np.array([number_of(word) for word in root.get("position", ["0", "0", "0"])]) * scale
    if ordered[0].offset.shape != (3,):
        raise BadRecording("asf", "expected three numbers as the root's position")
    return ordered, units.get("angle", "deg") == "deg"


def parse_amc(text: str, bones: Sequence[Bone], *, scale: float, degrees: bool) -> tuple[dict[str, Floats], int]:
    """Return the motion [T, channels] of each bone that moves, metres and degrees, and T."""
    widths = {bone.name: len(bone.channels) for bone in bones}
    rows: dict[str, list[list[float]]] = {}
    frames = 0
    for line, words in enumerate(map(str.split, text.split("\n")), 1):
        if not words or words[0][0] in "#:":
            continue
        if len(words) == 1 and words[0].isdigit():
            frames += 1
        elif widths.get(words[0]) != len(words) - 1:
            raise BadRecording(
                "amc", f"{ascii(words[0])[:40]} with {len(words) - 1} numbers: not of this .asf", line=line
            )
        else:
            rows.setdefault(words[0], []).append([number_of(word) for word in words[1:]])
    if not frames or any(len(values) != frames for values in rows.values()) or "root" not in rows:
        raise BadRecording("truncated", f"{frames} frames, and bones that are not in all of them")
    motion = {}
    for bone in bones:
        if bone.name in rows:
            moves = [channel[0] in "Tt" for channel in bone.channels]
            turn = 1.0 if degrees else 180 / np.pi
            motion[bone.name] = np.array(rows[bone.name]) * np.where(moves, scale, turn)
    return motion, frames


def number_of(word: str) -> float:
    """Return the number that a word is; a ``BadRecording`` if it is none."""
    if not _NUMBER.fullmatch(word):
        raise BadRecording("number", f"expected a number, found {ascii(word)[:40]}")
    return float(word)


def _angles(words: Sequence[str], order: str) -> Floats:
    if len(words) != 3 or sorted(order.upper()) != ["X", "Y", "Z"]:
        raise BadRecording("asf", f"axis {ascii(order)[:20]}: expected three angles and their order")
    degrees = np.array([[number_of(word) for word in words]])
    columns = ["XYZ".index(axis) for axis in order.upper()]
    turn: Floats = _turn(order.lower(), degrees[:, columns], first_leftmost=False)[0]
    return turn
