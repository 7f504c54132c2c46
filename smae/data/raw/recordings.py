"""The recordings at a path: one file, a folder or a zip, of any source.

Commands that take recordings find and read them here, so that what one of them takes, all do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path

from smae.data.prepare import UNITS
from smae.data.raw.ntu import NPY_SUFFIX
from smae.data.raw.recording import KEYPOINTS, MAX_RANGE, VIDEOS, Clip, Recording
from smae.data.raw.source import (
    SOURCES,
    Inventory,
    Refused,
    Sample,
    SampleReader,
    make_source,
    parse_sample,
)
from smae.data.store.file_store import locate
from smae.data.store.store import Store, open_store
from smae.errors import BadRecording, ConfigError, DataError, UnknownNameError
from smae.registry import nearest
from smae.skeleton import Layout

_BY_SUFFIX = {".skeleton": "ntu", **dict.fromkeys(VIDEOS, "video")}
"""Sources that a file's ending chooses, whichever built-in source the training data came from."""


def source_of(path: Path, default: str) -> str:
    """Return the name of the source that reads ``path``: its ending decides before ``default``."""
    if default not in SOURCES.builtin() or not path.is_file():
        return default
    if path.name.endswith(NPY_SUFFIX):
        return "ntu-npy"
    suffix = path.suffix.lower()
    if default == "ntu" and suffix in KEYPOINTS:
        return "keypoints"
    return _BY_SUFFIX.get(suffix, default)


def is_store(where: Store | Path | str) -> bool:
    """Return whether ``where`` is meant as a store: opened, by URL, by its ending or its content."""
    if isinstance(where, Store):
        return True
    path = locate(where)
    return isinstance(path, str) or path.suffix == ".zarr" or (path / "zarr.json").is_file()


def check_there(where: Path | str) -> None:
    """Raise a ``ConfigError``, or ``DataError`` for a store, unless something is there; URLs are not looked at."""
    path = locate(where)
    if isinstance(path, str) or path.exists():
        return
    if is_store(path):
        open_store(where)
    raise ConfigError(f"nothing at {where}: no such file or folder; give a recording, or a folder or zip of recordings")


class Recordings:
    """Finds and reads the recordings at a path.

    Args:
        path: a recording, or a folder or zip of recordings.
        source: name of the registered source; see ``source_of``.
        layout: of the files, or its name, where they do not say it.

    Attributes:
        source: the source's object, which found the recordings.

    Raises:
        ConfigError: nothing at ``path``.
        UnknownNameError: no such source.
    """

    def __init__(self, path: Path | str, source: str, *, layout: Layout | str | None = None) -> None:
        self.path = Path(path)
        check_there(path)
        self.source = make_source(source_of(self.path, source), layout)

    @cached_property
    def inventory(self) -> Inventory:
        """What was found.

        Raises:
            ConfigError, DataError: see ``Source.discover``; or nothing was found.
        """
        found = self.source.discover(self.path)
        if not found.samples and not found.refused:
            raise DataError(f"no recordings in {self.path}: looked for {found.looked_for or 'those of its source'}")
        return found

    def where(self, found: Sample | Refused) -> str:
        """Return where a sample is, for people: the file, and in archives the member."""
        if isinstance(found, Sample) and not found.member and self.path.is_file():
            return str(self.path)
        root = self.path
        if root.is_file():
            root = root.parent
        name = found.where if isinstance(found, Sample) else found.path
        return str(root / name)

    def find(self, name: str | None, *, by: str = "") -> tuple[Sample, list[str]]:
        """Return a sample by name, and where second copies of it are; the only one without a name.

        Args:
            name: of the sample.
            by: how a name is given, for the message.

        Raises:
            ConfigError: no name, and there are many samples.
            BadRecording: it is there, but cannot be read.
            UnknownNameError: no such sample.
        """
        found = self.inventory
        if name is None and len({sample.name for sample in found.samples}) > 1:
            first = found.samples[0].name
            raise ConfigError(f"{self.path} holds many recordings: name one{by}, for example {first}")
        if name is None and found.samples:
            name = found.samples[0].name
        copies = [sample for sample in found.samples if sample.name == name]
        if copies:
            return copies[0], [sample.where for sample in copies[1:]]
        for refused in found.refused:
            if name is None or refused.concerns(name):
                path = ascii(refused.path)[1:-1]
                raise BadRecording(refused.code, f"{path} is not read: {refused.message}")
        close = nearest(name or "", [sample.name for sample in found.samples])
        raise UnknownNameError(
            f"no recording '{name}' in {self.path}: expected one of {len(found.samples)} names, "
            f"from {found.looked_for or 'this source'}{close}"
        )

    def read(self, sample: Sample) -> bytes:
        """Return the bytes of one sample.

        Raises:
            BadRecording: it cannot be read.
        """
        with closing(self.source.reader(self.path)) as reader:
            return bytes(reader.read(sample))

    def parse(
        self, data: bytes, *, strict: bool = False, max_range: float = MAX_RANGE, unit: str | None = None
    ) -> Recording | Clip:
        """Parse the bytes of one sample; see ``parse_sample``. ``unit`` is a key of ``UNITS``."""
        scale = UNITS[unit or "m"]
        return parse_sample(self.source, data, strict=strict, max_range=max_range, scale=scale)

    def each(self) -> Iterator[tuple[Sample, SampleReader]]:
        """Yield all samples, with one reader for all of them."""
        with closing(self.source.reader(self.path)) as reader:
            for sample in self.inventory.samples:
                yield sample, reader
