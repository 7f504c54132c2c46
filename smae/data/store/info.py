"""What a store holds, counted: for `smae info` and for people who wonder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.labels import names_note
from smae.data.store.manifest import MANIFEST
from smae.data.store.store import Store

BINS = 12


@dataclass(frozen=True)
class Histogram:
    """Lengths of clips, counted in bins of equal width.

    Attributes:
        edges: frames, one more than the counts; a bin holds its lower edge, the last one both.
        counts: clips in each bin.
    """

    edges: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds.

    Attributes:
        path: the store.
        fingerprint: SHA-256, hex, of its manifest.
        dataset, mode, layout: what it says of itself.
        clips: number of clips.
        frames: frames of all clips together.
        rows: body-frames of all clips together.
        classes: number of classes.
        subjects, cameras, setups: how many different ones occur; 0 where the data set has none.
        frames_min, frames_median, frames_max: length of a clip.
        lengths: the same as a histogram.
        bodies: clips by number of bodies.
        protocols: train and test sizes of each protocol that fits.
        counts: what was found, kept and left out when it was prepared.
        codec: how joints are kept.
        bytes: on disk, manifest included.
        names_note: what one should know of the names of its classes; often nothing.
    """

    path: Path | str
    fingerprint: str
    dataset: str
    mode: str
    layout: str
    clips: int
    frames: int
    rows: int
    classes: int
    subjects: int
    cameras: int
    setups: int
    frames_min: int
    frames_median: float
    frames_max: int
    lengths: Histogram
    bodies: dict[int, int]
    protocols: dict[str, tuple[int, int]]
    counts: dict[str, Any]
    codec: str
    bytes: int
    names_note: str


def info(store: Store) -> StoreInfo:
    """Return what ``store`` holds; reads no rows."""
    clips = store.clips
    numbers, clips_with = np.unique(clips.bodies, return_counts=True)
    return StoreInfo(
        path=store.path,
        fingerprint=store.fingerprint,
        dataset=store.dataset,
        mode=store.mode,
        layout=store.layout.name,
        clips=len(store),
        frames=int(clips.frames.sum()),
        rows=int(clips.rows.sum()),
        classes=len(store.classes),
        subjects=_different(clips.subject),
        cameras=_different(clips.camera),
        setups=_different(clips.setup),
        frames_min=int(clips.frames.min()),
        frames_median=float(np.median(clips.frames)),
        frames_max=int(clips.frames.max()),
        lengths=_histogram(clips.frames),
        bodies={int(number): int(count) for number, count in zip(numbers, clips_with, strict=True)},
        protocols=store.protocols(),
        counts=dict(store.attributes.counts),
        codec=store.attributes.codec.name,
        bytes=sum(record.size for record in store.files.values()) + store.place.sizes()[MANIFEST],
        names_note=names_note(store),
    )


def _different(numbers: NDArray[np.int16]) -> int:
    return len(np.unique(numbers[numbers >= 0]))


def _histogram(frames: NDArray[np.int32]) -> Histogram:
    low, high = int(frames.min()), int(frames.max())
    width = max(-(-(high - low + 1) // BINS), 1)
    edges = np.arange(low, high + width + 1, width)
    counts, _ = np.histogram(frames, edges)
    return Histogram(edges=tuple(int(edge) for edge in edges), counts=tuple(int(count) for count in counts))
