"""Scenes: panels of skeletons that move together, and their cameras, for any way of drawing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smae.errors import DataError
from smae.skeleton import Layout

NOT_TRACKED, INFERRED, TRACKED, ABSENT, MASKED, RECONSTRUCTED = range(6)
"""Kinds of joint. The first four are the tracking states of recordings and stores."""

KIND_WORDS = ("not tracked", "inferred", "tracked", "absent", "masked", "reconstructed")
ROLES = ("body 1", "body 2", "another body")
RATE = 30
"""Frames per second of the Kinect v2."""

YAW, PITCH = 0.35, 0.12
"""Initial camera angles in radians: a little from one side, a little from above."""

_DISTANCE = 5.0
_SMALLEST = 0.5


@dataclass(frozen=True, eq=False)
class Panel:
    """Skeletons of one panel.

    Attributes:
        title: shown above the panel.
        joints: float [M, T, V, 3], metres: x to the sensor's left, y up, z away from it.
        kind: uint8 [M, T, V], see ``KIND_WORDS``; joints that are ``ABSENT`` are not drawn.
        bodies: M names; default ``body 1``, ``body 2``, ...
        roles: M numbers, which give the colours: 0 and 1 for the first and second actor, 2 for
            any other body; default in order.
        ghost: index of the panel that is drawn faintly behind this one; -1 for none.
    """

    title: str
    joints: NDArray[np.float32]
    kind: NDArray[np.uint8]
    bodies: tuple[str, ...] = ()
    roles: tuple[int, ...] = ()
    ghost: int = -1

    def __post_init__(self) -> None:
        shape = self.joints.shape
        if len(shape) != 4 or shape[-1] != 3 or self.kind.shape != shape[:3] or not shape[1]:
            raise DataError(
                f"panel '{self.title}': expected joints [M, T, V, 3] and kinds [M, T, V], found {shape} and "
                f"{self.kind.shape}"
            )
        kind = np.where(np.isfinite(self.joints).all(-1), self.kind, np.uint8(ABSENT))
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "bodies", self.bodies or tuple(f"body {m + 1}" for m in range(shape[0])))
        object.__setattr__(self, "roles", self.roles or tuple(min(m, len(ROLES) - 1) for m in range(shape[0])))

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return int(self.joints.shape[1])

    @cached_property
    def box(self) -> NDArray[np.float64]:
        """Float64 [2, 3]: the 0.5th and 99.5th percentile of drawn coordinates, metres."""
        drawn = self.joints[self.kind != ABSENT].astype(np.float64)
        if not len(drawn):
            return np.zeros((2, 3))
        box: NDArray[np.float64] = np.percentile(drawn, (0.5, 99.5), axis=0)
        return box


class Camera(NamedTuple):
    """Projects a panel's positions to pixels; ``player.js`` does the same.

    It looks at ``centre`` [3]; ``width`` and ``height`` (metres) fill the picture.
    """

    centre: NDArray[np.float64]
    width: float
    height: float

    def project(self, positions: NDArray[np.float32], width: float, height: float) -> NDArray[np.float64]:
        """Return positions [..., 3] in metres as (x, y) [..., 2] in pixels of a picture, y down.

        The view is the sensor's: a person who faces it has the left hand on the picture's right.
        """
        x, y, z = np.moveaxis(positions - self.centre, -1, 0)
        across, depth = z * np.sin(YAW) - x * np.cos(YAW), z * np.cos(YAW) + x * np.sin(YAW)
        up, away = y * np.cos(PITCH) + depth * np.sin(PITCH), depth * np.cos(PITCH) - y * np.sin(PITCH)
        zoom = 0.84 * min(width / self.width, height / self.height) * _DISTANCE / np.maximum(_DISTANCE + away, 0.5)
        return np.stack([width / 2 + across * zoom, height / 2 - up * zoom], axis=-1)


@dataclass(frozen=True, eq=False)
class Scene:
    """Panels that play in time with each other, and what is written around them.

    Attributes:
        name: the clip's; files are named after it.
        title: shown above all panels.
        panels: drawn side by side; shorter ones are stretched to the longest.
        layout: joints and bones of all panels.
        facts: (label, value) pairs for people.
        notes: remarks about the data shown.
        real_time: whether a frame lasts 1 / ``RATE`` seconds; false for resampled clips.
    """

    name: str
    title: str
    panels: tuple[Panel, ...]
    layout: Layout
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    real_time: bool = True

    def __post_init__(self) -> None:
        for panel in self.panels:
            if panel.joints.shape[2] != len(self.layout):
                raise DataError(
                    f"panel '{panel.title}': expected the {len(self.layout)} joints of {self.layout.name}, found "
                    f"{panel.joints.shape[2]}"
                )

    @property
    def frames(self) -> int:
        """Number of frames of the longest panel."""
        return max(panel.frames for panel in self.panels)

    @cached_property
    def kinds(self) -> tuple[int, ...]:
        """Kinds of joint that are drawn in some panel, ascending; never ``ABSENT``."""
        return tuple(sorted({int(k) for panel in self.panels for k in np.unique(panel.kind)} - {ABSENT}))

    @cached_property
    def roles(self) -> tuple[int, ...]:
        """Roles of bodies that are drawn in some panel, ascending."""
        return tuple(sorted({role for panel in self.panels for role in panel.roles}))

    @cached_property
    def cameras(self) -> tuple[Camera, ...]:
        """One camera a panel, all on one scale; a panel with a ghost shares the ghost's centre."""
        size = np.max([panel.box[1] - panel.box[0] for panel in self.panels], axis=0)
        width, height = max(float(np.hypot(size[0], size[2])), _SMALLEST), max(float(size[1]), _SMALLEST)
        boxes = [panel.box for panel in self.panels]
        for number, panel in enumerate(self.panels):
            if panel.ghost >= 0:
                boxes[number] = self.panels[panel.ghost].box
        return tuple(Camera(box.mean(axis=0), width, height) for box in boxes)

    def frame_of(self, panel: Panel, frame: int) -> int:
        """Return which of a panel's frames is shown at ``frame`` of the scene."""
        return frame * panel.frames // self.frames

    def time_label(self, frame: int) -> str:
        """Return a frame's time in seconds, or its number where the clip was resampled."""
        return f"{frame / RATE:.1f} s" if self.real_time else f"frame {frame + 1}"

    def sample_frames(self, count: int) -> list[int]:
        """Return up to ``count`` evenly spaced frames, the first and last among them."""
        frames = np.linspace(0, self.frames - 1, min(count, self.frames)).round().astype(int)
        return [int(frame) for frame in np.unique(frames)]
