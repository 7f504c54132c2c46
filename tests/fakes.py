"""Stand-ins for tests: a store in memory, with the reading interface of ``smae.data.store.Store``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from smae.data.store.splits import Split
from smae.skeleton import NTU25, Layout


@dataclass(frozen=True)
class FakeClips:
    """The columns of a clip table."""

    offset: NDArray[np.int64]
    frames: NDArray[np.int32]
    bodies: NDArray[np.uint8]
    label: NDArray[np.int32]
    subject: NDArray[np.int16]
    camera: NDArray[np.int16]
    setup: NDArray[np.int16]
    replication: NDArray[np.int16]
    name: NDArray[np.str_]


@dataclass
class FakeStore:
    """Clips in memory, laid out as in a store; ``reads`` notes every call of ``rows``.

    Its one split tests on every third clip and trains on the others.
    """

    joints: list[NDArray[np.float32]]
    labels: list[int] | None = None
    subjects: list[int] | None = None
    mode: str = "reference"
    fingerprint: str = "ab" * 32
    layout: Layout = NTU25
    path: Path = Path("fake.zarr")
    dataset: str = "fake"
    names: dict[str, str] = field(default_factory=dict)
    reads: list[tuple[int, int]] = field(default_factory=list)
    own_splits: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    attributes: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(names={}, origin={}))

    def __post_init__(self) -> None:
        self.joints = [self._centred(clip) for clip in self.joints]
        counts = np.array([c.shape[0] * c.shape[1] for c in self.joints], np.int64)
        label = self.labels if self.labels is not None else [i % 7 for i in range(len(self.joints))]
        self.clips = FakeClips(
            offset=np.cumsum(counts) - counts,
            frames=np.array([c.shape[1] for c in self.joints], np.int32),
            bodies=np.array([c.shape[0] for c in self.joints], np.uint8),
            label=np.array(label, np.int32),
            subject=np.array(self.subjects or [i // 6 % 5 + 1 for i in range(len(self.joints))], np.int16),
            camera=np.ones(len(self.joints), np.int16),
            setup=np.full(len(self.joints), -1, np.int16),
            replication=np.arange(len(self.joints), dtype=np.int16),
            name=np.array([f"clip{i}" for i in range(len(self.joints))]),
        )
        self._rows = np.concatenate([c.reshape(-1, *c.shape[2:]) for c in self.joints])

    def _centred(self, clip: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a clip as cleaning leaves it: the first body's centre joint, when first seen, is the origin."""
        there = (np.nan_to_num(clip) != 0).any(axis=(2, 3))
        if not there[0].any() or (clip[0, there[0], self.layout.centre] == 0).all(axis=1).any():
            return clip
        moved = clip - clip[0, there[0].argmax(), self.layout.centre]
        moved[~there] = clip[~there]
        return moved

    @classmethod
    def random(
        cls, *, clips: int, seed: int, frames: tuple[int, int] = (20, 150), mode: str = "reference"
    ) -> FakeStore:
        """Return smooth clips of one or two bodies; the second body comes late or leaves early in some."""
        rng = np.random.default_rng(seed)
        made = []
        for _ in range(clips):
            bodies, length = 1 + (rng.random() < 0.3), int(rng.integers(*frames, endpoint=True))
            joints = rng.normal(size=(bodies, length, len(cls.layout), 3)).cumsum(1) * 0.02 + rng.normal(size=3)
            if bodies == 2:
                absent = slice(0, length // 2) if rng.random() < 0.5 else slice(length // 2, length)
                joints[1, absent] = 0 if mode == "reference" else np.nan
            made.append(joints.astype(np.float32))
        return cls(made, mode=mode)

    @classmethod
    def toy(cls, *, clips: int, classes: int, seed: int, frames: int = 24, bodies: int = 1) -> FakeStore:
        """Return people who stand anywhere and swing all joints at their class's amplitude: a task anyone can learn."""
        rng = np.random.default_rng(seed)
        labels = [n % classes for n in range(clips)]
        pose = np.random.default_rng(0).normal(size=(classes, 1, len(cls.layout), 3)) * 0.4
        time = np.linspace(0, 2 * np.pi, frames)[:, None, None]
        made = []
        for label in labels:
            phase = rng.uniform(0, 2 * np.pi, size=(bodies, 1, 1, 1))
            joints = pose[label] * (1 + 0.3 * np.sin(time + phase)) + rng.normal(size=(bodies, 1, 1, 3)) * 0.1
            made.append((joints + rng.normal(size=joints.shape) * 0.01).astype(np.float32))
        return cls(made, labels)

    @property
    def missing(self) -> NDArray[np.bool_]:
        return np.array([[joint in self.lacking for joint in self.layout.joints]])

    @property
    def member(self) -> NDArray[np.int64]:
        return np.zeros(len(self), np.int64)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(f"A{n + 1:03d}" for n in range(int(self.clips.label.max()) + 1))

    def split(self, protocol: str) -> Split:
        index = np.arange(len(self))
        return Split(protocol, train=index[index % 3 != 2], test=index[index % 3 == 2])

    def training_split(self, protocol: str) -> Split:
        return self.split(protocol)

    def protocols(self) -> dict[str, tuple[int, int]]:
        return {}

    def __len__(self) -> int:
        return len(self.joints)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        self.reads.append((start, stop))
        view = self._rows[start:stop]
        view.flags.writeable = False
        return view

    def clip(self, index: int) -> NDArray[np.float32]:
        return self.joints[index]
