"""The loader of many public repositories: all clips padded to 300 frames and two bodies in RAM, one clip at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

Floats = NDArray[np.float32]
LONGEST = 300
BODIES = 2


class Draw(NamedTuple):
    """The random numbers of one clip: share of frames kept, place of the crop, both on [0, 1), and three angles."""

    share: float
    place: float
    angles: tuple[float, float, float]


class NaiveClips(Dataset[tuple[Tensor, int]]):
    """Clips as float32 [2, frames, V, 3], a second body that is not there included.

    Args:
        clips: each float32 [M, T, V, 3].
        label: of each clip.
        frames: frames after resizing.
        draw: gives a clip's random numbers; fresh ones every time when left out.
    """

    def __init__(
        self,
        clips: Sequence[Floats],
        label: Sequence[int],
        *,
        frames: int = 120,
        draw: Callable[[int], Draw] | None = None,
    ) -> None:
        longest = max(LONGEST, *(clip.shape[1] for clip in clips))
        self.data = np.zeros((len(clips), BODIES, longest, clips[0].shape[2], 3), np.float32)
        for number, clip in enumerate(clips):
            self.data[number, : clip.shape[0], : clip.shape[1]] = clip
        self.label, self.frames, self.draw = list(label), frames, draw or fresh

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        draw = self.draw(index)
        clip = self.data[index]
        valid = int((clip.sum(axis=(0, 2, 3)) != 0).sum())
        length = min(max(int(valid * (0.5 + 0.5 * draw.share)), 64), valid)
        start = int(draw.place * (valid - length + 1))
        window = torch.from_numpy(clip[:, start : start + length])
        bodies, _, joints, axes = window.shape
        lines = window.permute(0, 2, 3, 1).reshape(1, bodies * joints * axes, length)
        lines = interpolate(lines, size=self.frames, mode="linear", align_corners=False)
        resized = lines.reshape(bodies, joints, axes, self.frames).permute(0, 3, 1, 2)
        return resized @ rotation(draw.angles).T, self.label[index]


def rotation(angles: tuple[float, float, float]) -> Tensor:
    """Return float32 [3, 3], Rz Ry Rx of the angles (rad) about x, y and z."""
    (sx, sy, sz), (cx, cy, cz) = np.sin(angles), np.cos(angles)
    x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return torch.from_numpy((z @ y @ x).astype(np.float32))


def fresh(index: int) -> Draw:
    """Return new random numbers; they do not depend on the clip."""
    share, place = np.random.random(2)  # noqa: NPY002
    x, y, z = np.random.uniform(-0.3, 0.3, 3)  # noqa: NPY002
    return Draw(share, place, (x, y, z))
