"""Augmentation: the settings, the random draws, and the plan of a batch that the kernels carry out.

Crop and resize follow the loader shared by published masked autoencoders (MAMP, ICCV 2023): the
valid frames are the *first* ``n`` of a clip, ``n`` being the *number* of frames in which anything
is not zero (a count, not a mask: an empty frame in the middle shifts the end). smae tests whether
any coordinate is not zero where that loader tests whether the sum is not zero, which differs only
if a frame's numbers cancel exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from smae.config import Section
from smae.errors import ConfigError
from smae.rng import Noise
from smae.skeleton import Layout

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Stream = Literal["joint", "relative", "bone", "motion", "bone-motion"]
Share = Annotated[float, Field(gt=0, le=1)]


class Augment(Section):
    """How clips are cropped, resized and varied: at random in training, fixed in testing."""

    frames: int = Field(120, ge=1, le=4096, description="frames after resizing")
    crop: tuple[Share, Share] = Field((0.5, 1.0), description="training: smallest and largest share of frames kept")
    min_frames: int = Field(64, ge=1, description="training: a crop has at least so many frames, or all there are")
    rotate: float = Field(0.3, ge=0, le=math.pi, description="largest angle about each of x, y and z, in rad")
    test_crop: Share = Field(0.95, description="testing: share of frames kept, in the centre")
    noise: float = Field(0.0, ge=0, le=1, description="standard deviation of Gaussian noise on each coordinate, metres")
    scale: float = Field(0.0, ge=0, lt=1, description="largest relative change of size: factor in [1 - s, 1 + s)")
    mirror: bool = Field(False, description="swap left and right in every other clip, at random")
    turn: float = Field(0.0, ge=0, le=math.pi, description="largest turn about the vertical axis y, in rad")
    shear: float = Field(0.0, ge=0, le=1, description="largest off-diagonal entry of a linear map of space")
    stretch: float = Field(0.0, ge=0, lt=1, description="largest relative change of each bone's length, left as right")
    jitter: float = Field(
        0.0, ge=0, le=1, description="standard deviation of the displacement of a single joint in a whole clip, metres"
    )
    jitter_joints: float = Field(0.1, ge=0, le=1, description="probability that a joint is displaced by jitter")
    blank_joints: float = Field(0.0, ge=0, lt=1, description="probability that a joint is set to 0 in a whole clip")
    blank_limb: float = Field(0.0, ge=0, le=1, description="probability that one body part is set to 0")
    blank_frames: float = Field(0.0, ge=0, lt=1, description="largest share of frames set to 0, in one stretch")
    strength: tuple[Annotated[float, Field(ge=0, le=4)], ...] = Field(
        (1.0,), min_length=1, description="factor on crop and on all limits but noise, for each view in turn"
    )
    align: Literal["none", "heading", "body"] = Field(
        "none",
        description="view normalisation, testing's too: first turn each clip so that hips and shoulders of its first "
        "frame run along x (heading), and the spine along y as well (body)",
    )
    stream: Stream = Field(
        "joint",
        description="joint: positions; relative: joint minus the layout's centre joint, which keeps its path; bone: "
        "joint minus its parent; motion: next frame minus this one; bone-motion: the same of bones (metres)",
    )

    def of_view(self, view: int) -> Augment:
        """Return the settings of a view, its strength applied."""
        return self.scaled(self.strength[view % len(self.strength)])

    def scaled(self, factor: float) -> Augment:
        """Return the settings with crop and limits but noise times a factor; 0: fixed."""
        if factor == 1:
            return self
        low, high = (min(1.0, max(0.05, 1 - factor * (1 - share))) for share in self.crop)
        limits = {name: min(bound, factor * getattr(self, name)) for name, bound in _LIMITS.items()}
        return self.model_copy(update={**limits, "crop": (low, high), "strength": (1.0,)})

    @model_validator(mode="after")
    def _ordered(self) -> Augment:
        if self.crop[0] > self.crop[1]:
            raise ValueError(f"crop: expected the smallest share first, found {list(self.crop)}")
        return self


@dataclass(frozen=True)
class ViewCrop:
    """How one view of each clip is cropped in training, in place of ``augment.crop``.

    Attributes:
        share: smallest and largest share of frames kept.
        min_frames: a crop has at least so many frames, or all there are.
        within: number of an earlier view whose window the crop lies in; None: the whole clip.
    """

    share: tuple[float, float]
    min_frames: int
    within: int | None = None


_LIMITS = {
    "rotate": math.pi,
    "turn": math.pi,
    "scale": 0.9,
    "shear": 1.0,
    "stretch": 0.9,
    "jitter": 1.0,
    "blank_joints": 0.9,
    "blank_limb": 1.0,
    "blank_frames": 0.9,
}
"""Settings that a view's strength multiplies, and what they may not exceed."""


@dataclass(frozen=True)
class ItemFormat:
    """What all items of a loader have in common.

    Attributes:
        frames: of an item.
        origin: int64 [V], the joint that each joint of streams ``bone``, ``bone-motion`` and
            ``relative`` is measured from; -1: none.
        bones: int64 [V - 1, 2], (child, parent) pairs from the root outwards.
        sigma: standard deviation of the Gaussian noise on each coordinate, metres.
        stream: see ``Augment``.
    """

    frames: int
    origin: Ints
    bones: Ints
    sigma: float = 0.0
    stream: Stream = "joint"


@dataclass(frozen=True)
class Edits:
    """What is stretched, displaced or set to 0 in each of N items (or B clips), after resizing.

    Attributes:
        stretch: float32 [N, V], relative change of length of the bone from each joint to its parent;
            what hangs on a bone moves with it. 0 for the root.
        offset: float32 [N, V, 3], added to each joint of frames that are not empty, metres.
        joint: bool [N, V], joints that are set to 0, of whichever stream.
        frame: bool [N, T], frames that are set to 0.
    """

    stretch: Floats
    offset: Floats
    joint: NDArray[np.bool_]
    frame: NDArray[np.bool_]

    def __getitem__(self, index: Ints | slice) -> Edits:
        return Edits(self.stretch[index], self.offset[index], self.joint[index], self.frame[index])


@dataclass(frozen=True)
class BatchPlan:
    """The N items of one batch, all on the host.

    Attributes:
        first: int64 [N], each window's first row in the rows that the plan is applied to.
        length: int64 [N], each window's rows, at least 1.
        transform: float32 [N, 3, 3], applied to every joint as a column: x' = A x.
        joint: int64 [N, V], the source of each output joint (identity, or left and right swapped).
        noise: the items' random numbers, NumPy; None where coordinates get no noise.
        edits: of the items; None where there are none.
    """

    first: Ints
    length: Ints
    transform: Floats
    joint: Ints
    noise: Noise | None = None
    edits: Edits | None = None


@dataclass(frozen=True)
class Variation:
    """The random draws of B clips, independent of their rows.

    Attributes:
        crop: float32 [B, 2], uniform numbers that choose the window, or None for testing.
        transform: float32 [B, 3, 3], linear map of space.
        mirrored: bool [B].
        edits: of the B clips, or None where there are none.
    """

    crop: Floats | None
    transform: Floats
    mirrored: NDArray[np.bool_]
    edits: Edits | None = None

    def part(self, start: int, stop: int) -> Variation:
        part = slice(start, stop)
        crop = None if self.crop is None else self.crop[part]
        edits = None if self.edits is None else self.edits[part]
        return Variation(crop, self.transform[part], self.mirrored[part], edits)


def draw_variation(noise: Noise | None, clips: int, *, augment: Augment, layout: Layout) -> Variation:
    """Return the variation of ``clips`` clips by their noise; without noise, that of testing."""
    if noise is None:
        identity = np.tile(np.eye(3, dtype=np.float32), (clips, 1, 1))
        return Variation(None, identity, np.zeros(clips, np.bool_))
    transform, mirrored = random_transforms(noise, augment=augment)
    return Variation(noise.uniform("crop", 2), transform, mirrored, draw_edits(noise, augment=augment, layout=layout))


def draw_edits(noise: Noise, *, augment: Augment, layout: Layout) -> Edits | None:
    """Return the edits of B clips by their noise; None where the settings ask for none.

    A bone's relative change of length ~ U[-stretch, stretch), the same left and right, as people
    are built. A joint is displaced with probability ``jitter_joints`` by a normal number on each
    axis. Joints are set to 0 each with probability ``blank_joints``, and with probability
    ``blank_limb`` all those of one body part. Empty frames are one run, its length ~
    U[0, blank_frames] of all frames and its place uniform.
    """
    blanks = (augment.blank_joints, augment.blank_limb, augment.blank_frames)
    if not any((augment.stretch, augment.jitter, *blanks)):
        return None
    clips, joints, frames = len(noise.clip), len(layout), augment.frames
    stretch = _symmetric(noise, "stretch", joints, limit=augment.stretch).astype(np.float32)
    for left, right in layout.mirror:
        stretch[:, right] = stretch[:, left]
    stretch[:, list(set(range(joints)) - {child for child, _ in layout.bones})] = 0
    offset = np.zeros((clips, joints, 3), np.float32)
    if augment.jitter:
        chosen = noise.uniform("jitter joints", joints) < augment.jitter_joints
        pairs = noise.uniform("jitter", 6 * joints).astype(np.float64).reshape(clips, 2, joints, 3)
        # Box and Muller, 1958
        normal = np.sqrt(-2 * np.log1p(-pairs[:, 0])) * np.cos(2 * np.pi * pairs[:, 1])
        offset = (augment.jitter * normal * chosen[..., None]).astype(np.float32)
    blank = noise.uniform("blank joints", joints) < augment.blank_joints
    if augment.blank_limb:
        draw, which = noise.uniform("blank limb", 2).T
        parts = np.zeros((len(layout.parts), joints), np.bool_)
        for part, members in enumerate(layout.parts.values()):
            parts[part, list(members)] = True
        limb = parts[(which * len(parts)).astype(np.int64)]
        blank |= limb & (draw < augment.blank_limb)[:, None]
    share, place = noise.uniform("blank frames", 2).astype(np.float64).T
    length = np.floor(share * augment.blank_frames * frames + 0.5)
    start = np.floor(place * (frames - length + 1))
    time = np.arange(frames)
    empty = (time >= start[:, None]) & (time < (start + length)[:, None])
    return Edits(stretch, offset, blank, empty)


def concatenate_edits(views: list[Edits | None], items: list[int]) -> Edits | None:
    """Return the edits of all views' items; None if no view has any."""
    example = next((edits for edits in views if edits is not None), None)
    if example is None:
        return None
    columns = []
    for name in ("stretch", "offset", "joint", "frame"):
        like = getattr(example, name)
        parts = [
            np.zeros((count, *like.shape[1:]), like.dtype) if edits is None else getattr(edits, name)
            for edits, count in zip(views, items, strict=True)
        ]
        columns.append(np.concatenate(parts))
    return Edits(*columns)


def crop_windows(valid: Ints, crop: Floats | None, *, augment: Augment) -> tuple[Ints, Ints]:
    """Return the first frame and the number of frames of each clip's crop: two int64 [B].

    Training, n valid frames: share p ~ U[crop], length = min(max(floor(n p), min_frames), n), start
    uniform on {0..n - length}. Testing: floor((1 - test_crop) n / 2) frames are cut off either end.

    Args:
        valid: int64 [B], valid frames, at least 1.
        crop: float32 [B, 2], each clip's two uniform numbers, or None for testing.
        augment: the settings.
    """
    if crop is None:
        start = np.floor((1 - augment.test_crop) * valid / 2).astype(np.int64)
        # A share so small that the two cuts would meet still leaves the middle frame.
        start = np.minimum(start, (valid - 1) // 2)
        return start, valid - 2 * start
    share, position = crop.astype(np.float64).T
    low, high = augment.crop
    length = np.floor(valid * (low + (high - low) * share)).astype(np.int64)
    length = np.minimum(np.maximum(length, augment.min_frames), valid)
    return np.floor(position * (valid - length + 1)).astype(np.int64), length


def random_transforms(noise: Noise, *, augment: Augment) -> tuple[Floats, NDArray[np.bool_]]:
    """Return linear maps, float32 [B, 3, 3] (x' = A x), and whether they mirror, bool [B].

    A = scale . Rz Ry Rx . Ry(turn) . shear . mirror: right-handed rotations, the three angles ~
    U(-rotate, rotate) (MAMP's ``random_rot``, whose angles run the other way: the same
    distribution). Shear is the identity with off-diagonal entries ~ U(-shear, shear). Mirroring
    negates x; left and right joints must be swapped as well. Computed in float64 on the host, so
    that every device gets the same map.
    """
    x, y, z = _symmetric(noise, "rotate", 3, limit=augment.rotate).T
    factor = 1 + _symmetric(noise, "scale", 1, limit=augment.scale)
    matrix = _product(_product(rotation(z, axis=2), rotation(y, axis=1)), rotation(x, axis=0))
    if augment.turn:
        turn = _symmetric(noise, "turn", 1, limit=augment.turn)[:, 0]
        matrix = _product(matrix, rotation(turn, axis=1))
    if augment.shear:
        shear = np.tile(np.eye(3)[..., None], (1, 1, len(noise.clip)))
        shear[~np.eye(3, dtype=np.bool_)] = _symmetric(noise, "shear", 6, limit=augment.shear).T
        matrix = _product(matrix, shear)
    mirrored = np.zeros(len(noise.clip), np.bool_)
    if augment.mirror:
        mirrored = noise.uniform("mirror", 1)[:, 0] < 0.5
    matrix *= factor[:, 0]
    matrix[:, 0, mirrored] *= -1
    return np.ascontiguousarray(matrix.transpose(2, 0, 1), np.float32), mirrored


def _symmetric(noise: Noise, stream: str, count: int, *, limit: float) -> NDArray[np.float64]:
    """Return float64 [B, count], uniform on [-limit, limit)."""
    if not limit:
        return np.zeros((len(noise.clip), count))
    drawn: NDArray[np.float64] = (2 * noise.uniform(stream, count).astype(np.float64) - 1) * limit
    return drawn


def rotation(angle: NDArray[np.float64], *, axis: int) -> NDArray[np.float64]:
    """Return float64 [3, 3, B], right-handed rotations by ``angle`` (rad) about an axis."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.zeros((3, 3, len(angle)))
    matrix[axis, axis] = 1
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[j, i] = np.sin(angle)
    matrix[i, j] = -matrix[j, i]
    return matrix


def _product(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    # Matrices [3, 3, B]: five times as fast as ``@`` on B small ones.
    product: NDArray[np.float64] = np.einsum("ijb,jkb->ikb", left, right)
    return product


def origin_joints(layout: Layout, *, stream: Stream) -> Ints:
    """Return int64 [V], the joint that each joint is measured from; -1: none.

    ``relative``: the centre, which itself keeps its position, so that the path of a person is not
    lost. Else: the parent; the root's bone is 0.
    """
    if stream == "relative":
        origin = np.full(len(layout), layout.centre)
        origin[layout.centre] = -1
        return origin
    origin = np.arange(len(layout))
    for child, parent in layout.bones:
        origin[child] = parent
    return origin


def outward_bones(layout: Layout) -> Ints:
    """Return int64 [V - 1, 2], the layout's bones, (child, parent), from the root outwards."""
    parent = dict(layout.bones)

    def depth(joint: int) -> int:
        steps = 0
        while joint in parent:
            joint, steps = parent[joint], steps + 1
        return steps

    return np.array(sorted(layout.bones, key=lambda bone: depth(bone[0])), np.int64).reshape(-1, 2)


def mirror_tables(layout: Layout) -> Ints:
    """Return int64 [2, V], the source of each joint: as it is, and with left and right swapped."""
    tables = np.tile(np.arange(len(layout)), (2, 1))
    for left, right in layout.mirror:
        tables[1, [left, right]] = right, left
    return tables


@dataclass(frozen=True)
class Trunk:
    """The joints that define which way a person faces.

    Attributes:
        across: int64 [P, 2], (left, right) pairs.
        spine: int64 [2], lowest and uppermost joint.
        upright: turn the spine upright too, and not about the vertical axis alone.
    """

    across: Ints
    spine: Ints
    upright: bool


def trunk_of(layout: Layout, *, align: str) -> Trunk | None:
    """Return what ``augment.align`` needs of a layout; a ``ConfigError`` if it names no trunk."""
    if align == "none":
        return None
    if not layout.across or layout.spine is None:
        raise ConfigError(
            f"augment.align={align} turns people by their hips, shoulders and spine, and layout '{layout.name}' "
            "does not name them: give it `across` and `spine`, or choose augment.align=none"
        )
    return Trunk(np.array(layout.across, np.int64), np.array(layout.spine, np.int64), align == "body")
