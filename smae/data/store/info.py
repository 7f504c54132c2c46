"""What a store holds: figures for ``smae info`` and a dataset card in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae import progress
from smae.data.raw.labels import NTU_DATASETS, ClassCount, count_classes, names_note
from smae.data.store.manifest import MANIFEST
from smae.data.store.store import Store, open_store

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
        dataset, mode, layout: from its metadata.
        clips: number of clips.
        frames: frames of all clips together.
        rows: body-frames of all clips together.
        classes: number of classes.
        subjects, cameras, setups: number of different ones; 0 where the data set has none.
        frames_min, frames_median, frames_max: length of a clip.
        lengths: lengths of clips as a histogram.
        bodies: clips by number of bodies.
        protocols: train and test sizes of each protocol that fits.
        counts: what was found, kept and left out when it was prepared.
        codec: how joints are kept.
        bytes: on disk, manifest included.
        names_note: a note on the names of its classes; often empty.
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


def info(store: Store | Path | str | None = None) -> StoreInfo:
    """Return what a store holds, without reading rows.

    Args:
        store: a store or its path; found in the current folder if None.

    Raises:
        DataError: no store there, or it is damaged.
    """
    with progress.task("info"):
        return _describe(open_store(store))


def classes(store: Store | Path | str | None = None) -> list[ClassCount]:
    """Return the classes of a store by label, with names where they are known and numbers of clips.

    Raises:
        DataError: no store there, or it is damaged.
    """
    return count_classes(open_store(store))


def _describe(store: Store) -> StoreInfo:
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
        bytes=sum(record.size for record in store.files.values()) + store.root.sizes()[MANIFEST],
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


_MODES = {
    "reference": "as published results were computed; frames without a body are cut out",
    "exact": "every body at its true frames; unseen joints are marked as missing",
}
_NTU_TERMS = (
    "The recordings are named as NTU RGB+D's. If they are that data set's, its owners (ROSE Lab, Nanyang Technological "
    "University) distribute them for academic research under their own licence, which holds for this store too: do "
    "not pass it on to people who have not accepted it, and cite the data set as the owners ask."
)
_OTHER_TERMS = "What may be done with this store depends on the licence of the recordings that it was made of."


def dataset_card(store: Store | Path | str | None = None) -> str:
    """Return a dataset card in Markdown from the metadata of a store; reads no rows.

    Raises:
        DataError: no store there, or it is damaged.
    """
    store = open_store(store)
    about = _describe(store)
    terms = _NTU_TERMS if store.dataset in NTU_DATASETS else _OTHER_TERMS
    sections = {
        "What it holds": _table(_facts(about)),
        "Protocols": _table(
            [("protocol", "train / test clips")]
            + [(name, f"{train:,} / {test:,}") for name, (train, test) in about.protocols.items()]
        ),
        "How it was made": _bullets(_making(about, store.attributes.origin)),
        "What was left out": _bullets(_left_out(about.counts)),
        "Classes": _table(
            [("label", "class", "clips")]
            + [(str(one.label), one.name, f"{one.clips:,}") for one in count_classes(store)]
        ),
        "Licence and people": [
            terms,
            "",
            "Skeletons are recordings of people: gait and build can identify a person without a picture.",
        ],
    }
    lines = [f"# {PurePath(str(about.path)).name}", "", f"3D skeletons of `{about.dataset}`, prepared with smae.", ""]
    for title, content in sections.items():
        lines += [f"## {title}", "", *content, ""]
    return "\n".join(lines)


def _facts(about: StoreInfo) -> list[tuple[str, ...]]:
    bodies = ", ".join(f"{clips:,} with {count}" for count, clips in about.bodies.items())
    return [
        ("", ""),
        ("clips", f"{about.clips:,} (bodies: {bodies})"),
        (
            "frames",
            f"{about.frames:,}; a clip {about.frames_min} to {about.frames_max}, median {about.frames_median:g}",
        ),
        ("joints", f"layout `{about.layout}`, float32 metres when read, kept as {about.codec}"),
        ("subjects, cameras, setups", f"{about.subjects}, {about.cameras}, {about.setups} (0: not known)"),
        ("size", f"{about.bytes / 1e6:,.1f} MB"),
        ("fingerprint", f"`{about.fingerprint}`"),
    ]


def _making(about: StoreInfo, origin: Mapping[str, Any]) -> list[str]:
    settings = {key: value for key, value in origin.items() if key not in ("source", "mode", "inputs", "names")}
    return [
        f"source `{origin.get('source', 'unknown')}`",
        f"mode `{about.mode}`: {_MODES[about.mode]}",
        *[f"{key.replace('_', ' ')}: {_word(value)}" for key, value in settings.items()],
        *([f"SHA-256 of the names and sizes of its recordings: `{origin['inputs']}`"] if "inputs" in origin else []),
    ]


def _left_out(counts: Mapping[str, Any]) -> list[str]:
    if not counts:
        return ["unknown: the clips were written directly"]
    kept, noted = counts["ok"], counts["noted"]
    return [
        f"of {counts['found']:,} files found, {kept:,} became clips",
        *[f"{number:,} left out by rule: {reason}" for reason, number in counts["excluded"].items()],
        f"{counts['quarantined']:,} bad files, listed in `quarantine.jsonl`",
        f"{counts['ignored']:,} other files and second copies",
        *([f"noted of clips: {', '.join(f'{kind} {number:,}' for kind, number in noted.items())}"] if noted else []),
    ]


def _word(value: object) -> str:
    if isinstance(value, bool):
        return ("no", "yes")[value]
    if isinstance(value, float):
        return f"{value:g}"
    return "as recorded" if value is None else str(value)


def _bullets(lines: list[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    head, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    return [head, "|" + "---|" * len(rows[0]), *rest]
