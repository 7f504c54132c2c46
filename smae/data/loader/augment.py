"""What a clip goes through between store and model: crop, resize, linear maps of space, noise, stream.

Crop and resize follow the loader that published masked-autoencoder results share (MAMP, ICCV 2023): the valid frames
are the *first* ``n`` of a clip, ``n`` being the *number* of frames in which anything is not zero (a count, not a mask:
an empty frame in the middle shifts the end). smae asks "is any coordinate not zero" where that loader asks "is the sum
not zero", which differs only if a frame's numbers cancel exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from smae.config import Section
from smae.data.loader.batch_plan import Floats, Ints, Stream
from smae.rng import Noise

Share = Annotated[float, Field(gt=0, le=1)]


class Augment(Section):
    """How clips are cropped, resized and varied. Training draws at random; testing takes the centre, unvaried."""

    frames: int = Field(120, ge=1, le=4096, description="frames after resizing")
    crop: tuple[Share, Share] = Field((0.5, 1.0), description="training: smallest and largest share of frames kept")
    min_frames: int = Field(64, ge=1, description="training: a crop has at least so many frames, or all there are")
    rotate: float = Field(0.3, ge=0, le=math.pi, description="largest angle about each of x, y and z, in rad")
    test_crop: Share = Field(0.95, description="testing: share of frames kept, in the centre")
    noise: float = Field(0.0, ge=0, le=1, description="standard deviation of Gaussian noise on each coordinate, metres")
    scale: float = Field(0.0, ge=0, lt=1, description="largest relative change of size: factor in [1 - s, 1 + s)")
    mirror: bool = Field(False, description="swap left and right in every other clip, at random")
    turn: float = Field(0.0, ge=0, le=math.pi, description="largest turn about the vertical axis y, in rad")
    align: Literal["none", "heading", "body"] = Field(
        "none",
        description="first turn each clip, testing's too, so that hips and shoulders of its first frame run along x "
        "(heading), and the spine along y as well (body): what a camera's place adds is gone",
    )
    stream: Stream = Field(
        "joint",
        description="joint: positions; relative: joint minus the layout's centre joint, which keeps its path; bone: "
        "joint minus its parent; motion: next frame minus this one (metres)",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Augment:
        if self.crop[0] > self.crop[1]:
            raise ValueError(f"crop: expected the smallest share first, found {list(self.crop)}")
        return self


@dataclass(frozen=True)
class Variation:
    """How a run of clips is varied: all that can be known of it before their rows are there.

    Attributes:
        crop: float32 [B, 2], uniform numbers that choose the window, or None for testing.
        space: float32 [B, 3, 3], map of space.
        mirrored: bool [B].
    """

    crop: Floats | None
    space: Floats
    mirrored: NDArray[np.bool_]

    def part(self, start: int, stop: int) -> Variation:
        """Return the variation of the clips from ``start`` to ``stop``."""
        crop = None if self.crop is None else self.crop[start:stop]
        return Variation(crop, self.space[start:stop], self.mirrored[start:stop])


def vary(noise: Noise | None, clips: int, *, augment: Augment) -> Variation:
    """Return the variation of ``clips`` clips by their noise, or, without any, none."""
    if noise is None:
        return Variation(None, np.tile(np.eye(3, dtype=np.float32), (clips, 1, 1)), np.zeros(clips, np.bool_))
    return Variation(noise.uniform("crop", 2), *maps(noise, augment=augment))


def windows(valid: Ints, crop: Floats | None, *, augment: Augment) -> tuple[Ints, Ints]:
    """Return the first frame and the number of frames of each clip's crop: two int64 [B].

    Training, n valid frames: share p ~ U[crop], length = min(max(floor(n p), min_frames), n), start uniform on
    {0..n - length}. Testing: floor((1 - test_crop) n / 2) frames fall away at either end.

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
    share, place = crop.astype(np.float64).T
    low, high = augment.crop
    length = np.floor(valid * (low + (high - low) * share)).astype(np.int64)
    length = np.minimum(np.maximum(length, augment.min_frames), valid)
    return np.floor(place * (valid - length + 1)).astype(np.int64), length


def maps(noise: Noise, *, augment: Augment) -> tuple[Floats, NDArray[np.bool_]]:
    """Return each clip's linear map of space, float32 [B, 3, 3] (x' = A x), and whether it is mirrored, bool [B].

    A = scale . Rz Ry Rx . Ry(turn) . mirror: right-handed rotations, the three angles ~ U(-rotate, rotate) (MAMP's
    ``random_rot``, whose angles run the other way round: the same distribution). Mirroring negates x; whoever applies
    it must also swap left and right joints. Computed in float64 on the host, so that every device gets the same map.
    """
    clips = len(noise.clip)
    x, y, z = _around_zero(noise, "rotate", 3, reach=augment.rotate).T
    factor = 1 + _around_zero(noise, "scale", 1, reach=augment.scale)
    turned = _product(_product(rotation(z, axis=2), rotation(y, axis=1)), rotation(x, axis=0))
    if augment.turn:
        turned = _product(turned, rotation(_around_zero(noise, "turn", 1, reach=augment.turn)[:, 0], axis=1))
    mirrored = noise.uniform("mirror", 1)[:, 0] < 0.5 if augment.mirror else np.zeros(clips, np.bool_)
    turned *= factor[:, 0]
    turned[:, 0, mirrored] *= -1
    return np.ascontiguousarray(turned.transpose(2, 0, 1), np.float32), mirrored


def _around_zero(noise: Noise, stream: str, count: int, *, reach: float) -> NDArray[np.float64]:
    """Return float64 [B, count], uniform on [-reach, reach)."""
    if not reach:
        return np.zeros((len(noise.clip), count))
    drawn: NDArray[np.float64] = (2 * noise.uniform(stream, count).astype(np.float64) - 1) * reach
    return drawn


def rotation(angle: NDArray[np.float64], *, axis: int) -> NDArray[np.float64]:
    """Return float64 [3, 3, B], right-handed rotations by ``angle`` (rad) about axis 0 (x), 1 (y) or 2 (z)."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.zeros((3, 3, len(angle)))
    matrix[axis, axis] = 1
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[j, i] = np.sin(angle)
    matrix[i, j] = -matrix[j, i]
    return matrix


def _product(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the B products of matrices [3, 3, B]: five times as fast as ``@`` makes B small ones."""
    product: NDArray[np.float64] = np.einsum("ijb,jkb->ikb", left, right)
    return product
