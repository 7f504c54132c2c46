"""Raw recordings of a kinematic model; this module is read for ``--help``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SynthSettings:
    """Size of a synthetic data set: one recording per action, subject, camera and replication.

    Attributes:
        seed: of everything random.
        actions: number of classes.
        subjects: number of people.
        cameras: sensors that see each performance.
        replications: performances of each action by each person.
    """

    seed: int = 0
    actions: int = 12
    subjects: int = 8
    cameras: int = 3
    replications: int = 2


LIMITS = SynthSettings(seed=2**64 - 1, actions=14, subjects=40, cameras=3, replications=9)
"""Largest accepted values."""
