"""The interface of a source of raw data: find samples, read their bytes, parse them, describe them.

An outside package adds a source through the entry-point group ``smae.sources``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from smae.data.raw.recording import Clip, Recording
from smae.data.store.clips import ClipFacts
from smae.errors import BadRecording, ConfigError, NoBody
from smae.registry import Registry
from smae.skeleton import BUILT_IN, NTU25, Layout, load_layout


@dataclass(frozen=True)
class ZipEntry:
    """A zip member: offset of its local header, compressed size, CRC-32 when uncompressed."""

    offset: int
    size: int
    deflated: bool
    crc: int


@dataclass(frozen=True, order=True)
class Sample:
    """One raw sample to read.

    Attributes:
        name: the sample's name, also its clip's name in the store.
        path: its file or archive, relative to the raw folder, with ``/``.
        member: its name inside the archive; empty for a file of its own.
        size: bytes, uncompressed.
        packed: its position in a zip; None for a file of its own, and in other archives.
    """

    name: str
    path: str
    member: str
    size: int
    packed: ZipEntry | None = field(default=None, compare=False)

    @property
    def where(self) -> str:
        """File and member, and the name where they do not show it, for messages."""
        where = "!".join(filter(None, (self.path, self.member)))
        if re.split(r"[/\\!]", where)[-1].startswith(self.name):
            return where
        return f"{where} ({self.name})"


@dataclass(frozen=True)
class Refused:
    """A file that cannot or must not be read: one line of the quarantine list.

    Attributes:
        path: as ``Sample.where``, which ends in the sample's name or has it in brackets.
        code: short machine-readable kind (``not-regular``, ``io``, ``size``, ``truncated``, ...).
        message: the same for people.
        size: bytes, 0 where unknown.
        sha256: hex, empty where the file was not read.
        line, column: 1-based, 0 where none applies.
        excerpt: escaped piece of the offending text.
    """

    path: str
    code: str
    message: str
    size: int = 0
    sha256: str = ""
    line: int = 0
    column: int = 0
    excerpt: str = ""

    def concerns(self, name: str) -> bool:
        """Whether the sample of this name is meant."""
        last = re.split(r"[/\\!]", self.path)[-1]
        return self.path.endswith(f" ({name})") or re.match(rf"{re.escape(name)}(?![A-Za-z0-9])", last) is not None

    def __str__(self) -> str:
        position = f":{self.line}:{self.column}" if self.line else ""
        return f"{ascii(self.path)[1:-1]}{position}: {self.code}: {self.message}"


@dataclass(frozen=True)
class Inventory:
    """Everything found under a raw path.

    Attributes:
        samples: sorted by name, then path; a name may occur twice.
        refused: found, but not to be read.
        ignored: number of files that are no samples.
        looked_for: what a sample looks like, for the message when there is none.
    """

    samples: tuple[Sample, ...]
    refused: tuple[Refused, ...]
    ignored: int
    looked_for: str = field(default="")


class SampleReader(Protocol):
    """Reads the bytes of samples; keeps archives open until it is closed."""

    def read(self, sample: Sample) -> bytes | memoryview:
        """Return the bytes of one sample; a view is valid until the next call.

        Raises:
            BadRecording: it cannot be read (code ``io``, ``not-regular``, ``zip-damaged``, ...).
        """

    def close(self) -> None:
        """Close all open files."""


class Source(Protocol):
    """One kind of raw data.

    Reading (``reader``, ``parse``) works on any object; the other methods describe what
    ``discover`` found, and are called on the object that ran it.

    Attributes:
        layout: joint layout of the samples.
        cleaned: None where samples are raw; otherwise the mode in which they were cleaned before,
            and ``parse`` returns clips.
    """

    layout: Layout
    cleaned: str | None

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return the samples under ``raw``; containers are checked, samples are not parsed.

        Raises:
            ConfigError: ``raw`` is missing or unreadable.
            DataError: a damaged archive.
        """

    def reader(self, raw: Path) -> SampleReader:
        """Return a reader of the samples under ``raw``."""

    def parse(self, data: bytes, *, strict: bool, max_range: float) -> Recording | Clip:
        """Parse the bytes of one sample, as ``reader`` returned them; a clip where already cleaned.

        Args:
            data: bytes of one sample.
            strict: refuse NaN instead of taking joints as missing.
            max_range: largest accepted coordinate, metres.

        Raises:
            BadRecording: it breaks the format.
            NoBody: a clip without a body.
        """

    def facts(self, name: str) -> ClipFacts:
        """Return class, subject, camera and so on of a sample."""

    def splits(self) -> Mapping[str, Mapping[str, int]]:
        """Return the splits of the data: split -> sample -> 1 (train), 2 (test), 3 (val)."""

    def dataset(self, facts: Sequence[ClipFacts]) -> str:
        """Return the name of the data set that these samples belong to."""

    def missing(self) -> frozenset[str]:
        """Return the names that published results leave out."""


class BaseSource:
    """Defaults for sources whose ``discover`` fills in ``_facts`` and ``_splits``.

    Attributes:
        takes_layout: the files do not say whose joints they hold, so ``prepare --layout`` may.
        given_layout: the layout that it gave; set before ``discover``.
    """

    layout: Layout = NTU25
    cleaned: str | None = None
    takes_layout = False
    given_layout: Layout | None = None
    one_reader = False
    """A reader holds all of the raw data in memory, so that one process reads them."""
    dataset_name = ""

    def __init__(self) -> None:
        self._facts: dict[str, ClipFacts] = {}
        self._splits: dict[str, dict[str, int]] = {}

    def facts(self, name: str) -> ClipFacts:
        return self._facts[name]

    def splits(self) -> Mapping[str, Mapping[str, int]]:
        return self._splits

    def dataset(self, facts: Sequence[ClipFacts]) -> str:
        return self.dataset_name

    def missing(self) -> frozenset[str]:
        return frozenset()


SOURCES: Registry[type[Source]] = Registry(
    "source",
    {
        "ntu": "smae.data.raw.ntu:NtuSource",
        "ntu-npy": "smae.data.raw.ntu:NtuNpySource",
        "nw-ucla": "smae.data.raw.single_body:NwUclaSource",
        "utd-mhad": "smae.data.raw.single_body:UtdMhadSource",
        "pku-mmd": "smae.data.raw.pku_mmd:PkuMmdSource",
        "ctrgcn-npz": "smae.data.raw.ctrgcn_npz:CtrgcnNpzSource",
        "stgcn-npy": "smae.data.raw.stgcn_npy:StgcnNpySource",
        "pyskl": "smae.data.raw.pyskl:PysklSource",
        "hdf5": "smae.data.raw.hdf5:Hdf5Source",
        "keypoints": "smae.data.raw.keypoints:KeypointsSource",
        "mocap": "smae.data.raw.mocap:MocapSource",
        "video": "smae.data.raw.video:VideoSource",
    },
)


def make_source(name: str, layout: Layout | str | None = None) -> Source:
    """Return the source of a name; with the layout of its files, or its name, where they do not say it.

    Raises:
        UnknownNameError, ConfigError: no such source or layout; its files have joints of their own.
    """
    source = SOURCES.get(name)()
    if isinstance(layout, str):
        layout = load_layout(layout)
    if layout is not None:
        if not getattr(source, "takes_layout", False):
            raise ConfigError(
                f"--layout {layout.name}: files of source '{name}' say whose joints they hold: leave it out, or, for "
                "files that do not, add their --source, for example keypoints"
            )
        source.given_layout = layout  # type: ignore[attr-defined]
    return source


def parse_sample(
    source: Source, data: bytes, *, strict: bool, max_range: float, scale: float = 1.0
) -> Recording | Clip:
    """Return what a source parses, with coordinates times ``scale``: metres a unit of the file.

    Args:
        source: of the sample.
        data: bytes of the sample.
        strict: see ``Source.parse``.
        max_range: largest accepted coordinate, metres.
        scale: 0.001 for millimetres.
    """
    parsed = source.parse(data, strict=strict, max_range=max_range / scale)
    if scale == 1.0:
        return parsed
    if isinstance(parsed, Clip):
        return replace(parsed, joints=parsed.joints * np.float32(scale))
    return replace(parsed, xyz=parsed.xyz * np.float32(scale))


SMALLEST, LARGEST = 0.4, 8.0
"""Metres that a body may extend along its longest axis: a crouching child, a generous guess."""
_LOOKED_AT = 8


def check_unit(source: Source, raw: Path, samples: Sequence[Sample]) -> None:
    """Look at some samples and refuse bodies that are no people in metres: a ``ConfigError``."""
    sizes: list[float] = []
    flat: list[bool] = []
    with closing(source.reader(raw)) as reader:
        for sample in samples[:: max(1, len(samples) // _LOOKED_AT)][:_LOOKED_AT]:
            # A bad sample is reported where all are read.
            with suppress(BadRecording, NoBody):
                parsed = source.parse(bytes(reader.read(sample)), strict=False, max_range=1e9)
                rows = parsed.joints[0] if isinstance(parsed, Clip) else parsed.xyz
                # A joint that is never there (NaN) must not hide the others.
                there = np.any(np.isfinite(rows).all(axis=2), axis=1)
                seen = rows[there & rows.any(axis=(1, 2))]
                if len(seen):
                    sides = np.nanmax(seen, axis=1) - np.nanmin(seen, axis=1)
                    sizes.append(float(np.median(sides.max(axis=1))))
                    flat.append(bool(sides[:, 2].max() == 0 or (np.nanmin(seen) >= 0 and np.nanmax(seen) <= 1)))
    size = float(np.median(sizes)) if sizes else 1.0
    same = [layout.name for layout in BUILT_IN if len(layout) == len(source.layout)]
    hint = ""
    if len(same) > 1:
        hint = f". {len(source.layout)} joints may be those of {' or '.join(same)}: --layout says which"
    if SMALLEST <= size <= LARGEST:
        # Sensors give no points in a picture; arrays of joints without a name may.
        if not (sizes and all(flat) and getattr(source, "takes_layout", False)):
            return
        raise ConfigError(
            f"{raw}: every joint has the same depth, or all numbers are from 0 to 1: points in a picture and a "
            "confidence, as pose estimators give them, not joints in 3D, which 3D encoders need: "
            f"give the estimator's 3D output, or say --unit m if these are metres{hint}"
        )
    raise ConfigError(
        f"{raw}: the bodies extend over {size:.3g} in its numbers, where people extend over "
        f"{SMALLEST:g} to {LARGEST:g} m: say the unit (--unit mm, --unit cm; --unit m if these "
        "are metres). If the numbers are pixels, or x, y and a confidence, they are not joints in "
        f"3D, which 3D encoders need{hint}"
    )
