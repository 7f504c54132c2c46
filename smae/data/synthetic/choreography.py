"""The actions of the synthetic data: a phase in [0, 1] to the joint angles of each body.

All are written for right-handed people who face the sensor; angles are estimates, not measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from smae.data.synthetic.simulator import JOINT, Floats, Motion
from smae.skeleton import NTU25


def ease(phase: Floats, *keys: tuple[float, float]) -> Floats:
    """Return a curve [T] through ``(phase, value)`` keys, minimum-jerk between them, flat outside.

    Each piece is 10 s^3 - 15 s^4 + 6 s^5 (Flash and Hogan, "Coordination of arm movements", 1985).
    """
    times, values = (np.array(column) for column in zip(*keys, strict=True))
    piece = np.clip(np.searchsorted(times, phase, side="right") - 1, 0, len(times) - 2)
    s = np.clip((phase - times[piece]) / (times[piece + 1] - times[piece]), 0, 1)
    curve: Floats = values[piece] + (values[piece + 1] - values[piece]) * s**3 * (10 - 15 * s + 6 * s**2)
    return curve


def hold(phase: Floats, start: float = 0.25, stop: float = 0.75) -> Floats:
    """Return a curve [T] that rises from 0 to 1 until ``start`` and falls back after ``stop``."""
    return ease(phase, (0, 0), (start, 1), (stop, 1), (1, 0))


class Stage:
    """One body's angles being written: starts from a relaxed stance."""

    def __init__(self, phase: Floats) -> None:
        self.phase = phase
        self.angles = np.zeros((len(phase), len(NTU25), 3))
        self.yaw, self.lift = np.zeros(len(phase)), np.zeros(len(phase))
        self.support = np.full((len(phase), 2), 0.5)
        for side in ("left", "right"):
            self.bend(f"{side} shoulder", 2, 9)
            self.bend(f"{side} elbow", 12)
            self.bend(f"{side} hip", 2, 3)
            self.bend(f"{side} knee", 4)

    def bend(self, joint: str, flex: Floats | float = 0, out: Floats | float = 0, twist: Floats | float = 0) -> None:
        """Add degrees of flexion, abduction and inward twist, numbers or curves [T], to a joint."""
        for axis, value in enumerate((flex, out, twist)):
            self.angles[:, JOINT[joint], axis] += value

    def arms(self, flex: Floats | float = 0, out: Floats | float = 0, twist: Floats | float = 0) -> None:
        """Bend both shoulders."""
        self.bend("left shoulder", flex, out, twist)
        self.bend("right shoulder", flex, out, twist)

    def elbows(self, flex: Floats | float) -> None:
        self.bend("left elbow", flex)
        self.bend("right elbow", flex)

    def squat(self, depth: Floats) -> None:
        """Bend hips by ``depth`` and knees by twice as much: the hips sink straight down."""
        for side in ("left", "right"):
            self.bend(f"{side} hip", depth)
            self.bend(f"{side} knee", 2 * depth)

    def done(self) -> Motion:
        """Return what was written."""
        return Motion(self.angles, self.yaw, self.lift, self.support)


def _wave(stage: Stage, size: float) -> None:
    up = hold(stage.phase, 0.22, 0.8)
    swing = np.sin(2 * np.pi * 4 * stage.phase)
    stage.bend("right shoulder", 10 * up, (58 + 18 * size) * up, -85 * up)
    stage.bend("right elbow", (78 + 26 * size * swing) * up)
    stage.bend("right wrist", 0, 14 * swing * up)


def _drink(stage: Stage, size: float) -> None:
    up = hold(stage.phase, 0.3, 0.72)
    tip = hold(np.clip(stage.phase * 1.6 - 0.3, 0, 1), 0.4, 0.7)
    stage.bend("right shoulder", 52 * up + 8 * size * tip, 2 * up, 36 * up)
    stage.bend("right elbow", 118 * up)
    stage.bend("neck", -16 * size * tip)


def _clap(stage: Stage, size: float) -> None:
    up = hold(stage.phase, 0.2, 0.82)
    beat = 0.5 - 0.5 * np.cos(2 * np.pi * 6 * stage.phase)
    stage.arms(24 * up, 2 * up, (45 - 34 * size * beat) * up)
    stage.elbows(66 * up)


def _throw(stage: Stage, size: float) -> None:
    p = stage.phase
    stage.bend(
        "right shoulder",
        ease(p, (0.05, 0), (0.4, -15), (0.6, 95 * size), (0.72, 55), (1, 0)),
        ease(p, (0.05, 0), (0.4, 75), (0.6, 15), (1, 0)),
        ease(p, (0.05, 0), (0.4, -85), (0.58, -10), (0.75, 20), (1, 0)),
    )
    stage.bend("right elbow", ease(p, (0.05, 0), (0.4, 95), (0.6, 5), (1, 0)))
    stage.bend("spine mid", ease(p, (0.3, 0), (0.62, 14), (1, 0)), 0, ease(p, (0, 0), (0.4, -28), (0.62, 24), (1, 0)))
    stage.bend("left shoulder", ease(p, (0, 0), (0.4, 35), (0.65, -10), (1, 0)))


def _lower(stage: Stage, down: Floats) -> None:
    """Sit (``down`` = 1) or stand (0); the trunk leans forward on the way."""
    lean = 4 * down * (1 - down)
    for side in ("left", "right"):
        stage.bend(f"{side} hip", 82 * down)
        stage.bend(f"{side} knee", 84 * down)
        stage.bend(f"{side} elbow", 30 * down)
    stage.bend("spine base", 24 * lean)
    stage.bend("spine mid", 20 * lean + 4 * down)
    stage.arms(24 * lean + 16 * down)


def _sit_down(stage: Stage, size: float) -> None:
    _lower(stage, ease(stage.phase, (0.12, 0), (0.75, 0.85 + 0.15 * size)))


def _stand_up(stage: Stage, size: float) -> None:
    _lower(stage, ease(stage.phase, (0.18, 0.85 + 0.15 * size), (0.78, 0)))


def _kick(stage: Stage, size: float) -> None:
    p = stage.phase
    stage.bend("right hip", ease(p, (0.1, 0), (0.35, -25), (0.55, 75 * size), (0.9, 0)))
    stage.bend("right knee", ease(p, (0.1, 0), (0.38, 75), (0.55, 8), (0.72, 30), (0.9, 0)))
    stage.bend("right ankle", ease(p, (0.1, 0), (0.35, -40), (0.55, 30), (0.9, 0)))
    stage.bend("spine base", ease(p, (0.2, 0), (0.55, -12), (0.95, 0)))
    stage.arms(0, 28 * hold(p, 0.4, 0.6))
    stage.bend("left shoulder", ease(p, (0.1, 0), (0.35, -20), (0.55, 35), (0.95, 0)))
    stage.support[:, 1] = 0.5 - 0.5 * hold(p, 0.15, 0.85)
    stage.support[:, 0] = 1 - stage.support[:, 1]


def _jump(stage: Stage, size: float) -> None:
    p = stage.phase
    stage.squat(ease(p, (0.1, 0), (0.38, 44), (0.48, 0), (0.62, 4), (0.74, 34), (0.95, 0)))
    air = np.clip((p - 0.46) / 0.2, 0, 1)
    stage.lift += 1.1 * size * air * (1 - air)
    stage.bend("spine mid", ease(p, (0.1, 0), (0.38, 28), (0.5, 0), (0.74, 20), (0.95, 0)))
    stage.arms(ease(p, (0.1, 0), (0.36, -40), (0.54, 130 * size), (0.78, 20), (0.95, 0)))
    for side in ("left", "right"):
        stage.bend(f"{side} ankle", -35 * np.sin(np.pi * air))


def _bow(stage: Stage, size: float) -> None:
    down = hold(stage.phase, 0.4, 0.55) * size
    stage.bend("spine base", 34 * down)
    stage.bend("spine mid", 24 * down)
    stage.bend("neck", 16 * down)
    stage.arms(22 * down)


def _steps(stage: Stage, count: int, high: float) -> None:
    """Lift each foot ``count`` times, knees up to ``high`` degrees, arms against the legs."""
    wave = np.sin(2 * np.pi * count * stage.phase) * np.clip(8 * stage.phase * (1 - stage.phase), 0, 1)
    for side, up in (("left", np.maximum(wave, 0) ** 1.5), ("right", np.maximum(-wave, 0) ** 1.5)):
        stage.bend(f"{side} hip", high * up)
        stage.bend(f"{side} knee", 1.45 * high * up)
        stage.bend(f"{side} ankle", -20 * up)
    swing = np.sign(wave) * np.abs(wave) ** 1.2
    stage.bend("left shoulder", -0.6 * high * swing)
    stage.bend("right shoulder", 0.6 * high * swing)


def _walk(stage: Stage, size: float) -> None:
    _steps(stage, 3, 50 * size)
    stage.elbows(35 * hold(stage.phase, 0.15, 0.85))


def _turn_round(stage: Stage, size: float) -> None:
    _steps(stage, 3, 24 * size)
    stage.yaw += ease(stage.phase, (0.08, 0), (0.92, 360))
    stage.bend("neck", 0, 0, 22 * hold(stage.phase, 0.2, 0.6))


def _point(stage: Stage, size: float) -> None:
    up = hold(stage.phase, 0.3, 0.75)
    stage.bend("right shoulder", (66 + 18 * size) * up, 2 * up)
    stage.bend("right elbow", ease(stage.phase, (0, 0), (0.2, 45), (0.38, -10), (0.75, -10), (0.88, 20), (1, 0)))
    stage.bend("spine mid", 0, 0, 8 * up)


def _shake(stage: Stage, size: float) -> None:
    up = hold(stage.phase, 0.3, 0.75)
    pump = np.sin(2 * np.pi * 5 * stage.phase) * hold(stage.phase, 0.38, 0.7)
    stage.bend("right shoulder", 40 * up - 4 * pump, 0, 12 * up)
    stage.bend("right elbow", 34 * up + 13 * size * pump)
    stage.bend("spine mid", 9 * up)


def _punch(stage: Stage, size: float) -> None:
    p = stage.phase
    out = ease(p, (0.34, 0), (0.46, 1), (0.62, 0))
    guard = hold(p, 0.22, 0.78)
    stage.arms(34 * guard, 4 * guard, 12 * guard)
    stage.elbows(100 * guard)
    stage.bend("right shoulder", 50 * out * size)
    stage.bend("right elbow", -104 * out)
    stage.bend("spine mid", 8 * out, 0, 30 * size * out)
    stage.bend("left hip", 14 * guard)
    stage.bend("left knee", 10 * guard)


def _struck(stage: Stage, size: float) -> None:
    hit = ease(stage.phase, (0.42, 0), (0.54, 1), (0.9, 0)) * size
    stage.bend("spine base", -10 * hit)
    stage.bend("spine mid", -18 * hit)
    stage.bend("neck", -20 * hit)
    stage.arms(30 * hit, 12 * hit)
    stage.elbows(40 * hit)


Act = Callable[[Stage, float], None]


@dataclass(frozen=True)
class Action:
    """One class: name, typical length in frames at 30 Hz, and the motion of each body."""

    name: str
    frames: int
    acts: tuple[Act, ...]


ACTIONS = (
    Action("drink", 84, (_drink,)),
    Action("wave", 80, (_wave,)),
    Action("clap", 72, (_clap,)),
    Action("throw", 68, (_throw,)),
    Action("sit down", 70, (_sit_down,)),
    Action("stand up", 68, (_stand_up,)),
    Action("kick", 64, (_kick,)),
    Action("jump", 62, (_jump,)),
    Action("bow", 78, (_bow,)),
    Action("walk in place", 90, (_walk,)),
    Action("shake hands", 84, (_shake, _shake)),
    Action("punch another", 66, (_punch, _struck)),
    Action("turn round", 92, (_turn_round,)),
    Action("point", 76, (_point,)),
)


def perform(act: Act, *, phase: Floats, size: float) -> Motion:
    """Return one body's motion for a phase [T] in [0, 1]; ``size`` scales its amplitude."""
    stage = Stage(phase)
    act(stage, size)
    return stage.done()
