"""What every source of raw data offers: finding samples, reading their bytes, parsing them, reading their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from smae.data.raw.recording import Clip, Recording
from smae.data.store.clip_table import ClipFacts
from smae.registry import Registry
from smae.skeleton import Layout

MAX_BYTES = 64 * 2**20
"""Largest raw file that is read; the largest of NTU's is below 10 MB."""


@dataclass(frozen=True)
class Packed:
    """Where a member lies in its zip.

    Attributes:
        offset: of its local header.
        size: bytes, packed.
        deflated: whether it is packed at all.
        crc: CRC-32 of its bytes, unpacked.
    """

    offset: int
    size: int
    deflated: bool
    crc: int


@dataclass(frozen=True, order=True)
class Sample:
    """One raw file that will be read.

    Attributes:
        name: the sample's name, which is its clip's name in the store.
        path: the file or archive it lies in, relative to the raw folder, with ``/``.
        member: its name inside the archive; empty for a file of its own.
        size: bytes, unpacked.
        packed: where it lies in a zip; None for a file of its own, and in archives of other kinds.
    """

    name: str
    path: str
    member: str
    size: int
    packed: Packed | None = field(default=None, compare=False)

    @property
    def where(self) -> str:
        """How messages and quarantine lists call it."""
        return f"{self.path}!{self.member}" if self.member else self.path


@dataclass(frozen=True)
class Refused:
    """A file that is not read, or could not be: what the quarantine list says of it.

    Attributes:
        path: as ``Sample.where``.
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

    def __str__(self) -> str:
        place = f":{self.line}:{self.column}" if self.line else ""
        return f"{ascii(self.path)[1:-1]}{place}: {self.code}: {self.message}"


@dataclass(frozen=True)
class Inventory:
    """Everything that was found under a raw path.

    Attributes:
        samples: sorted by name, then place; the same name may occur twice.
        refused: found, but not to be read.
        ignored: how many files are no samples.
        looked_for: what the source takes for a sample, for the message when there is none.
    """

    samples: tuple[Sample, ...]
    refused: tuple[Refused, ...]
    ignored: int
    looked_for: str = field(default="")


class SampleReader(Protocol):
    """Reads the bytes of samples; holds archives open until it is closed."""

    def read(self, sample: Sample) -> bytes | memoryview:
        """Return the bytes of one sample; a view is valid until the next call.

        Raises:
            BadRecording: the sample cannot be had (code ``io``, ``not-regular``, ``zip-damaged``, ...).
        """
        ...

    def close(self) -> None:
        """Close whatever is open."""
        ...


class Source(Protocol):
    """One kind of raw data.

    Reading (``reader``, ``parse``) works on any object; everything else tells of what ``discover`` found, and is asked
    of the object that found it.

    Attributes:
        layout: joint layout of the samples.
        cleaned: None where samples are raw; else the mode in which they were cleaned before, and ``parse`` gives clips.
    """

    layout: Layout
    cleaned: str | None

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return what lies under ``raw``; opens no sample.

        Raises:
            ConfigError: ``raw`` is missing or unreadable.
            DataError: an archive whose directory is damaged.
        """
        ...

    def reader(self, raw: Path) -> SampleReader:
        """Return a reader of the samples under ``raw``."""
        ...

    def parse(self, data: bytes, *, strict: bool, max_range: float) -> Recording | Clip:
        """Return what one sample holds, of what ``reader`` gave; a clip where it was cleaned before.

        Raises:
            BadRecording: it breaks the format.
            NoBody: a clip that shows nobody.
        """
        ...

    def facts(self, name: str) -> ClipFacts:
        """Return what is known of a sample besides its joints."""
        ...

    def splits(self) -> Mapping[str, Mapping[str, int]]:
        """Return the splits that the data bring: for each, the samples that train (1) and test (2)."""
        ...

    def dataset(self, facts: Sequence[ClipFacts]) -> str:
        """Return the name of the data set that these samples are of."""
        ...

    def missing(self) -> frozenset[str]:
        """Return the names that published results leave out."""
        ...


SOURCES: Registry[type[Source]] = Registry(
    "source",
    {
        "ntu": "smae.data.raw.ntu:NtuSource",
        "nw-ucla": "smae.data.raw.nw_ucla:NwUclaSource",
        "utd-mhad": "smae.data.raw.utd_mhad:UtdMhadSource",
        "pku-mmd": "smae.data.raw.pku_mmd:PkuMmdSource",
        "ctrgcn-npz": "smae.data.raw.ctrgcn_npz:CtrgcnNpzSource",
        "stgcn-npy": "smae.data.raw.stgcn_npy:StgcnNpySource",
        "pyskl": "smae.data.raw.pyskl:PysklSource",
        "hdf5": "smae.data.raw.hdf5:Hdf5Source",
    },
)
