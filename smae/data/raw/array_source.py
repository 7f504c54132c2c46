"""Clips that others cleaned, on their way from an array file to a store: packed as bytes, checked, slots told apart.

Every such source reads a sample as the bytes of one ``.npy`` (joints float32 [M, T, V, 3]), followed by a second one
(state uint8 [M, T, V]) where the data know it; these bytes are what a clip's BLAKE3 is of.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.ntu import NtuSource
from smae.data.raw.ntu_names import parse_name
from smae.data.raw.recording import MISSING, Clip
from smae.data.raw.source import MAX_BYTES, Sample
from smae.data.store.clip_table import ClipFacts
from smae.data.store.splits import NTU_PROTOCOLS
from smae.errors import BadRecording, ConfigError, DataError, NoBody
from smae.skeleton import BUILT_IN, Layout

TRACKED = 2
MAX_NAME = 200
MAX_CLIPS = 1_000_000
"""Most clips in one array file; NTU-120 has 113,945."""
MAX_CLASSES = 100_000
IMPORTED = ("ctrgcn", "pyskl", "stgcn")
"""Data sets called after the form they came in, since it names none: their action ids are its class numbers + 1."""
_FLAT = {
    17: "17 joints are COCO's, pixels that a pose estimator found in video",
    18: "18 joints are OpenPose's, pixels and a score, as in Kinetics-Skeleton",
}


def only_file(raw: Path, suffixes: Sequence[str], *, form: str) -> Path:
    """Return ``raw``, or the only file in it with one of the suffixes.

    Raises:
        DataError: no such file in the folder, or several, which may hold the same clips.
    """
    if raw.is_file():
        return raw
    found = sorted(path for path in raw.iterdir() if path.suffix in suffixes and path.is_file())
    if len(found) == 1:
        return found[0]
    listed = ", ".join(path.name for path in found) or "none"
    raise DataError(f"{raw}: expected one {form} file, found {listed}: give the file itself as --raw")


def layout_of(joints: int, coordinates: int = 3, *, where: object) -> Layout:
    """Return the built-in layout with so many joints, in 3D: arrays of others do not say which theirs is.

    Raises:
        DataError: none has, or the joints are flat.
    """
    for layout in BUILT_IN:
        if (len(layout), 3) == (joints, coordinates):
            return layout
    known = " or ".join(f"{len(layout)} ({layout.name})" for layout in BUILT_IN)
    found = f"{joints} joints of {coordinates} coordinates"
    reason = f" ({_FLAT[joints]}: take the file of 3D skeletons)" if joints in _FLAT else ""
    raise DataError(f"{where}: {found}{reason}: expected {known} joints of 3 coordinates, metres")


def is_label(value: object) -> bool:
    """Return whether a value is a class number, 0-based."""
    return type(value) is int and 0 <= value < MAX_CLASSES


def facts_of(name: str, label: int) -> ClipFacts:
    """Return what is known of a clip from its label (0-based), and from its name where that is NTU's."""
    facts = ClipFacts(name, f"A{label + 1:03}")
    numbers = parse_name(name)
    # An NTU name whose action is another than the label's is somebody's own numbering: then only the label counts.
    return NtuSource().facts(name) if numbers is not None and numbers.action == label + 1 else facts


def dataset_of(facts: Sequence[ClipFacts], *, otherwise: str) -> str:
    """Return ``ntu60`` or ``ntu120`` where all clips bear NTU's names, else ``otherwise``."""
    return NtuSource().dataset(facts) if all(fact.setup > 0 for fact in facts) else otherwise


def split_name(short: str, *, dataset: str) -> str:
    """Return the name of a split that the data bring: NTU's own in full, so that they stand for NTU's protocols."""
    full = f"{dataset}-{short}"
    return full if full in NTU_PROTOCOLS.get(dataset, ()) else short


def checked_names(names: Sequence[str], *, where: object) -> None:
    """Refuse names that a store cannot keep.

    Raises:
        DataError: empty, too long, not printable ASCII, or twice there.
    """
    for name in names:
        if not (0 < len(name) <= MAX_NAME and name.isascii() and name.isprintable()):
            raise DataError(
                f"{where}: the name {ascii(name)[:80]}: expected 1 to {MAX_NAME} printable ASCII characters"
            )
    if len(set(names)) != len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise DataError(f"{where}: the clip {twice} is there twice")


def pack(joints: NDArray[Any], state: NDArray[np.uint8] | None = None) -> bytes:
    """Return joints [M, T, V, 3], and state [M, T, V] where known, as a sample's bytes."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(joints, np.float32), version=(1, 0))
    if state is not None:
        np.lib.format.write_array(file, np.ascontiguousarray(state, np.uint8), version=(1, 0))
    return file.getvalue()


def unpack(data: bytes, *, max_range: float, gaps: bool = False) -> Clip:
    """Return the clip of a sample's bytes; without a state, rows of zeros are ``MISSING`` and all others tracked.

    Args:
        data: what ``pack`` gave.
        max_range: metres; coordinates beyond are refused.
        gaps: NaN stands for what nobody saw (``exact`` mode).

    Raises:
        BadRecording: other shapes than a clip's, NaN or infinite numbers, or coordinates out of range.
        NoBody: all numbers are 0.
    """
    file = io.BytesIO(data)
    joints = _next_array(file)
    if joints.ndim != 4 or joints.shape[0] not in (1, 2) or not joints.shape[1] or joints.shape[3] != 3:
        raise BadRecording("shape", f"expected 1 or 2 bodies over frames of joints in 3D, found {list(joints.shape)}")
    wrong = np.isinf(joints) if gaps else ~np.isfinite(joints)
    if wrong.any():
        body, frame, joint, _ = (int(place) for place in np.argwhere(wrong)[0])
        raise BadRecording("non-finite", f"NaN or infinite at body {body}, frame {frame}, joint {joint}")
    largest = float(np.nanmax(np.abs(joints), initial=0))
    if largest > max_range:
        raise BadRecording("range", f"{largest:g} m from the origin; at most {max_range:g} m are believed")
    if not largest:
        raise NoBody("every coordinate is 0")
    if file.tell() < len(data):
        state = _next_array(file)
        if state.shape != joints.shape[:3] or state.max(initial=0) > MISSING:
            raise BadRecording("state", "tracking states that do not fit the joints")
        if (np.isnan(joints).any(axis=3) & (state != MISSING)).any():
            raise BadRecording("non-finite", "NaN at a joint that somebody saw")
    else:
        shown = joints.any(axis=(2, 3))
        state = np.broadcast_to(np.where(shown, TRACKED, MISSING)[..., None], joints.shape[:3]).astype(np.uint8)
    return Clip(joints, state)


def _next_array(file: io.BytesIO) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, TypeError, SyntaxError) as error:
        raise BadRecording("array", f"not an array of plain numbers ({str(error)[:80]})") from error
    if array.dtype.kind not in "fiu":
        raise BadRecording("array", f"expected numbers, found {array.dtype}")
    return array


def told_apart(rows: NDArray[np.float32], *, doubled: bool) -> NDArray[np.float32]:
    """Return [M, T, V, 3] of rows [T', 2, V, 3]: the padding cut off, and a slot that holds no second body left out.

    Bits are compared, not values, so that writing the rows again gives the same ones.

    Args:
        rows: both slots, zeros after the end.
        doubled: a single body stands in both slots (NTU-120), not beside zeros (NTU-60).

    Raises:
        NoBody: nothing but zeros.
    """
    bits = np.ascontiguousarray(rows).view(np.uint32)
    shown = np.flatnonzero(bits.any(axis=(1, 2, 3)))
    if not len(shown):
        raise NoBody("every coordinate is 0")
    rows, bits = rows[: shown[-1] + 1], bits[: shown[-1] + 1]
    single = np.array_equal(bits[:, 0], bits[:, 1]) if doubled else not bits[:, 1].any()
    return np.ascontiguousarray(rows[:, : 1 if single else 2].swapaxes(0, 1))


class CleanedSource:
    """What the sources of cleaned clips share: facts, splits and layout as ``discover`` found them."""

    layout: Layout
    cleaned: str | None = "reference"
    other_dataset = "imported"

    def __init__(self) -> None:
        self._facts: dict[str, ClipFacts] = {}
        self._splits: dict[str, dict[str, int]] = {}

    def parse(self, data: bytes, *, strict: bool, max_range: float) -> Clip:
        """Return the clip of one sample; see ``Source.parse``."""
        return unpack(data, max_range=max_range, gaps=self.cleaned == "exact")

    def facts(self, name: str) -> ClipFacts:
        """Return what is known of a sample."""
        return self._facts[name]

    def splits(self) -> dict[str, dict[str, int]]:
        """Return the splits that the data bring."""
        return self._splits

    def dataset(self, facts: Sequence[ClipFacts]) -> str:
        """Return the name of the data set."""
        return dataset_of(facts, otherwise=self.other_dataset)

    def missing(self) -> frozenset[str]:
        """Return none: whoever wrote the data has left out what is to be left out."""
        return frozenset()


def need_file(raw: Path) -> None:
    """Refuse what is not there.

    Raises:
        ConfigError: nothing at ``raw``.
    """
    if not raw.exists():
        raise ConfigError(f"nothing at {raw}: give the file, or the folder it lies in")


def sample_of(file: Path, name: str, member: str, size: int) -> Sample:
    """Return a sample inside an array file.

    Raises:
        DataError: it claims more bytes than any clip has.
    """
    if size > MAX_BYTES:
        raise DataError(f"{file}: clip {name} takes {size:,} bytes; at most {MAX_BYTES:,} are read")
    return Sample(name=name, path=file.name, member=member, size=size)
