"""HDF5 files of ``smae export --format hdf5``, read back into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from smae.atomic_io import parse_json
from smae.data.raw import array_source as arrays
from smae.data.raw.recording import Clip
from smae.data.raw.source import Inventory, Sample
from smae.data.store.clips import FACTS, ClipFacts
from smae.data.store.format import MODES
from smae.errors import BadRecording, DataError
from smae.skeleton import layout_from_json

VERSION = 1
_SUFFIXES = (".h5", ".hdf5")


class Hdf5Source(arrays.CleanedSource):
    """One exported store, with its mode, data set, classes, facts and splits."""

    takes_layout = False

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        import h5py

        file = arrays.find_array_file(raw, _SUFFIXES)
        try:
            with h5py.File(file, "r") as content:
                return self._read(content, file)
        except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise DataError(f"{file}: not a store that smae exported ({type(error).__name__}: {error})") from error

    def _read(self, content: Any, file: Path) -> Inventory:
        _check_own(content)
        about = dict(content.attrs)
        if int(about["version"]) != VERSION or about["mode"] not in MODES:
            raise ValueError("version or mode is unknown")
        skeleton = parse_json(str(about["skeleton"])) if "skeleton" in about else None
        self.layout, self.cleaned = layout_from_json(str(about["layout"]), skeleton), str(about["mode"])
        self.dataset_name = str(about["dataset"])
        classes = [name.decode("ascii") for name in about["classes"].tolist()]
        clips = {name: content[f"clips/{name}"][:] for name in ("offset", "frames", "bodies", "label", *FACTS)}
        names = [name.decode("ascii") for name in content["clips/name"][:].tolist()]
        arrays.check_names(names, where=file)
        if any(len(column) != len(names) for column in clips.values()) or not np.isin(clips["bodies"], (1, 2)).all():
            raise ValueError("its columns do not fit together")
        rows = clips["frames"].astype(np.int64) * clips["bodies"]
        shape = (int(rows.sum()), len(self.layout))
        if content["joints"].shape != (*shape, 3) or content["state"].shape != shape:
            raise ValueError(f"joints {content['joints'].shape} do not hold the {shape[0]} rows of its clips")
        samples = []
        for index, name in enumerate(names):
            numbers = {column: int(clips[column][index]) for column in FACTS}
            self._facts[name] = ClipFacts(name, classes[int(clips["label"][index])], **numbers)
            # The reader finds a clip's rows by its member name alone. 13 bytes a joint: xyz and
            # state.
            member = f"{clips['offset'][index]}:{clips['bodies'][index]}x{clips['frames'][index]}"
            samples.append(arrays.array_sample(file, name, member, int(rows[index]) * len(self.layout) * 13))
        for split, roles in content.get("splits", {}).items():
            self._splits[split] = {name: int(role) for name, role in zip(names, roles[:].tolist(), strict=True) if role}
        return Inventory(tuple(sorted(samples)), (), 0, "clips")

    def parse(self, data: bytes, *, strict: bool, max_range: float) -> Clip:
        """Return the clip of one sample; its state marks the joints that may be NaN."""
        return arrays.unpack(data, max_range=max_range, gaps=True)

    def reader(self, raw: Path) -> Hdf5Reader:
        return Hdf5Reader(arrays.find_array_file(raw, _SUFFIXES))


def _check_own(content: Any) -> None:
    """Refuse links, datasets in other files, and columns longer than a store can have."""
    import h5py

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
            raise ValueError(f"{name} is stored in another file")
        if name.startswith(("clips/", "splits/")) and item.shape[0] > arrays.MAX_CLIPS:
            raise ValueError(f"{name} has {item.shape[0]} entries; at most {arrays.MAX_CLIPS} are read")

    for group in (content, content["clips"], content.get("splits", {})):
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name!a} is a link")
    content.visititems(visit)


class Hdf5Reader:
    """Reads the rows that a sample's member name gives (``offset:bodiesxframes``)."""

    def __init__(self, file: Path) -> None:
        self._path = file
        self._file: Any = None

    def read(self, sample: Sample) -> bytes:
        """Return one clip, packed with its state."""
        import h5py

        offset, _, size = sample.member.partition(":")
        bodies, _, frames = size.partition("x")
        start, shape = int(offset), (int(bodies), int(frames))
        stop = start + shape[0] * shape[1]
        try:
            if self._file is None:
                self._file = h5py.File(self._path, "r")
            joints, state = self._file["joints"][start:stop], self._file["state"][start:stop]
            if self._file.attrs["mode"] == "reference" and np.isnan(joints).any():
                raise BadRecording("non-finite", "NaN in a store of reference mode")
            return arrays.pack(joints.reshape(*shape, *joints.shape[1:]), state.reshape(*shape, state.shape[1]))
        except (OSError, ValueError, KeyError) as error:
            raise BadRecording("io", f"cannot be read: {error}") from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
