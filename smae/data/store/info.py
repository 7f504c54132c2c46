"""Statistics of a store, its classes, and a dataset card in Markdown; no rows are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae import progress
from smae.data.raw.labels import NTU_DATASETS, class_names, names_note
from smae.data.store import Store, open_store
from smae.data.store.format import MANIFEST
from smae.tables import Grid, Table

_BINS = 12
_MODES = {
    "reference": "as in published results, frames without a body cut out",
    "exact": "every body at its true frames, gaps marked as missing",
}
_NTU_TERMS = """\
The recordings are named as NTU RGB+D's. If they are from that data set: it is distributed by ROSE Lab
(Nanyang Technological University) for academic research under its own licence, which holds for this
store too. Do not pass it on to people who have not accepted that licence, and cite the data set as it
asks."""
_OTHER_TERMS = "The licence of this store is that of the recordings; ask the people who distribute them."


@dataclass(frozen=True)
class ClassCount:
    """One class of a store.

    Attributes:
        label: index into ``Store.classes``.
        id: as in the raw data (``A013``).
        name: for people (``A013 tear up paper``).
        clips: number of clips.
    """

    label: int
    id: str
    name: str
    clips: int


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
class StoreInfo(Table):
    """Statistics of a store.

    Attributes:
        path: the store.
        fingerprint: SHA-256, hex, of its manifest.
        dataset, mode, layout: its attributes.
        clips: number of clips.
        frames: frames of all clips together.
        rows: body-frames of all clips together.
        classes: number of classes.
        subjects, cameras, setups: numbers of different ones; 0 where the data set has none.
        frames_min, frames_median, frames_max: length of a clip.
        lengths: the same as a histogram.
        bodies: clips by number of bodies.
        protocols: train and test sizes of each protocol that fits.
        validation: sizes of the validation parts, of protocols that have one.
        counts: samples found, kept and left out by the preparation.
        codec: how joints are stored.
        bytes: on disk, manifest included.
        names_note: a caution about the names of its classes; often empty.
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
    validation: dict[str, int]
    counts: dict[str, Any]
    codec: str
    bytes: int
    names_note: str

    def tables(self) -> list[Grid]:
        bodies = ", ".join(f"{count:,} with {number}" for number, count in self.bodies.items())
        noun = "body" if list(self.bodies) == [1] else "bodies"
        lengths = f"a clip {self.frames_min} to {self.frames_max}, median {self.frames_median:g}"
        rows = [
            ("clips", f"{self.clips:,}  ({bodies} {noun})"),
            ("frames", f"{self.frames:,}  ({lengths})"),
            ("body-frames", f"{self.rows:,}"),
            ("classes", f"{self.classes}"),
            ("subjects", f"{self.subjects}"),
            ("cameras", f"{self.cameras}"),
            ("setups", f"{self.setups}"),
            ("layout, mode", f"{self.layout}, {self.mode}"),
            ("on disk", f"{self.bytes / 1e6:,.1f} MB, joints as {self.codec}"),
            ("fingerprint", self.fingerprint),
            *((f"protocol {name}", self._sizes(name)) for name in self.protocols),
        ]
        if not self.protocols:
            rows.append(("protocols", "none: smae split gives the store train and test parts"))
        return [Grid(("", ""), rows, f"{self.path} ({self.dataset})")]

    def _sizes(self, protocol: str) -> str:
        train, test = self.protocols[protocol]
        middle = f" / val {self.validation[protocol]:,}" if protocol in self.validation else ""
        return f"train {train:,}{middle} / test {test:,}"


def info(path: Store | Path | str | None = None) -> StoreInfo:
    """Return statistics of a store: an open one, a path or URL, or that of ``find_store``.

    Raises:
        DataError: no store there, or a damaged one.
    """
    with progress.task("info"):
        store = open_store(path)
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
            subjects=_distinct(clips.subject),
            cameras=_distinct(clips.camera),
            setups=_distinct(clips.setup),
            frames_min=int(clips.frames.min()),
            frames_median=float(np.median(clips.frames)),
            frames_max=int(clips.frames.max()),
            lengths=_histogram(clips.frames),
            bodies=dict(zip(numbers.tolist(), clips_with.tolist(), strict=True)),
            protocols=store.protocols(),
            validation={name: count for name in store.protocols() if (count := len(store.split(name).val))},
            counts=dict(store.attributes.counts),
            codec=store.codec.name,
            bytes=sum(record.size for record in store.files.values()) + store.root.sizes()[MANIFEST],
            names_note=names_note(store),
        )


def _distinct(numbers: NDArray[np.int16]) -> int:
    return len(np.unique(numbers[numbers >= 0]))


def _histogram(frames: NDArray[np.int32]) -> Histogram:
    low, high = int(frames.min()), int(frames.max())
    width = max(-(-(high - low + 1) // _BINS), 1)
    edges = np.arange(low, high + width + 1, width)
    counts, _ = np.histogram(frames, edges)
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))


def classes(path: Store | Path | str | None = None) -> list[ClassCount]:
    """Return the classes of a store by label, with names in words and numbers of clips.

    Raises:
        DataError: no store there, or a damaged one.
    """
    store = open_store(path)
    clips = np.bincount(store.clips.label, minlength=len(store.classes)).tolist()
    rows = zip(store.classes, class_names(store), clips, strict=True)
    return [ClassCount(label, *row) for label, row in enumerate(rows)]


def dataset_card(path: Store | Path | str | None = None) -> str:
    """Return a dataset card in Markdown: content, preparation, what was left out, licence.

    Raises:
        DataError: no store there, or a damaged one.
    """
    store = open_store(path)
    about = info(store)
    protocols = [(name, f"{train:,} / {test:,}") for name, (train, test) in about.protocols.items()]
    counted = [(str(entry.label), entry.name, f"{entry.clips:,}") for entry in classes(store)]
    terms = _NTU_TERMS if store.dataset in NTU_DATASETS else _OTHER_TERMS
    sections = {
        "Content": _table(("", ""), _facts(about)),
        "Protocols": _table(("protocol", "train / test clips"), protocols),
        "Preparation": _bullets(_preparation(about, store.attributes.origin)),
        "Left out": _bullets(_left_out(about.counts)),
        "Classes": _table(("label", "class", "clips"), counted),
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


def _facts(about: StoreInfo) -> list[tuple[str, str]]:
    bodies = ", ".join(f"{clips:,} with {count}" for count, clips in about.bodies.items())
    lengths = f"{about.frames_min} to {about.frames_max}, median {about.frames_median:g}"
    return [
        ("clips", f"{about.clips:,} (bodies: {bodies})"),
        ("frames", f"{about.frames:,}; a clip {lengths}"),
        ("joints", f"layout `{about.layout}`, float32 metres when read, stored as {about.codec}"),
        ("subjects, cameras, setups", f"{about.subjects}, {about.cameras}, {about.setups} (0: unknown)"),
        ("size", f"{about.bytes / 1e6:,.1f} MB"),
        ("fingerprint", f"`{about.fingerprint}`"),
    ]


def _preparation(about: StoreInfo, origin: Mapping[str, Any]) -> list[str]:
    lines = [f"source `{origin.get('source', 'unknown')}`", f"mode `{about.mode}`: {_MODES[about.mode]}"]
    for key, value in origin.items():
        if key not in ("source", "mode", "inputs", "names"):
            lines.append(f"{key.replace('_', ' ')}: {_value(value)}")
    if "inputs" in origin:
        lines.append(f"SHA-256 of the names and sizes of its recordings: `{origin['inputs']}`")
    return lines


def _left_out(counts: Mapping[str, Any]) -> list[str]:
    if not counts:
        return ["unknown: the clips were written directly"]
    noted = ", ".join(f"{kind} {number:,}" for kind, number in counts["noted"].items())
    lines = [
        f"of {counts['found']:,} files found, {counts['ok']:,} became clips",
        *[f"{number:,} left out by rule: {reason}" for reason, number in counts["excluded"].items()],
        f"{counts['quarantined']:,} bad files, listed in `quarantine.jsonl`",
        f"{counts['ignored']:,} other files and second copies",
    ]
    if noted:
        lines.append(f"noted of clips: {noted}")
    return lines


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    # By their text, since 1 and True are the same key.
    words = {"None": "as recorded", "True": "yes", "False": "no"}
    return words.get(str(value), str(value))


def _bullets(lines: list[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in (columns, *rows)]
    return [lines[0], "|" + "---|" * len(columns), *lines[1:]]
