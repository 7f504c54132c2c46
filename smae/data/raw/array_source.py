"""Shared by sources of cleaned clips: names, labels and splits of array files, and clips as bytes.

Each of these sources reads a sample as the bytes of one ``.npy`` (joints float32 [M, T, V, 3]),
followed by a second one (state uint8 [M, T, V]) if known. The store keeps their BLAKE3.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.ntu import NtuSource, parse_name
from smae.data.raw.recording import MAX_BYTES, MISSING, TRACKED, Clip
from smae.data.raw.source import BaseSource, Sample
from smae.data.store.clips import ClipFacts
from smae.data.store.splits import NTU_PROTOCOLS
from smae.errors import BadRecording, ConfigError, DataError, NoBody
from smae.skeleton import BUILT_IN, NTU25, Layout

MAX_NAME = 200
MAX_CLIPS = 1_000_000
"""Largest number of clips in one array file; NTU-120 has 113,945."""
MAX_CLASSES = 100_000
IMPORTED = ("ctrgcn", "pyskl", "stgcn")
"""Names of data sets known only by their file format: their action ids are class numbers + 1."""


def check_exists(raw: Path) -> None:
    """Raise ``ConfigError`` for a missing path."""
    if not raw.exists():
        raise ConfigError(f"nothing at {raw}: give the file, or the folder that holds it")


def find_array_file(raw: Path, suffixes: Sequence[str]) -> Path:
    """Return ``raw`` if it is a file, else the only file in it with one of the suffixes.

    Several files are a ``DataError``: they may hold the same clips.
    """
    check_exists(raw)
    if raw.is_file():
        return raw
    found = sorted(path for path in raw.iterdir() if path.suffix in suffixes and path.is_file())
    if len(found) == 1:
        return found[0]
    listed = ", ".join(path.name for path in found) or "none"
    raise DataError(f"{raw}: expected one {suffixes[0]} file, found {listed}: give the file itself as --raw")


def find_layout(joints: int, coordinates: int = 3, *, where: object, given: Layout | None) -> Layout:
    """Return the layout of an array of joints: the one given, or the only built-in one that fits.

    25 joints are NTU's unless another layout is given: the public files of this form hold no others.
    A ``DataError`` for flat keypoints, another number of joints, or where several layouts fit.
    """
    if coordinates != 3:
        raise DataError(
            f"{where}: {joints} joints of {coordinates} coordinates: pixels of a picture, which 3D encoders cannot "
            "take; expected x, y, z in metres: take the file of 3D skeletons, or a 3D pose estimator"
        )
    if given is not None:
        if len(given) != joints:
            raise DataError(
                f"{where}: {joints} joints, and layout {given.name} has {len(given)}: name another --layout"
            )
        return given
    fitting = [layout for layout in BUILT_IN if len(layout) == joints]
    if joints == len(NTU25):
        return NTU25
    if len(fitting) == 1:
        return fitting[0]
    flat = " (18 are OpenPose's as in Kinetics-Skeleton: pixels and a score, not 3D)" if joints == 18 else ""
    named = ", ".join(f"{layout.name} ({len(layout)})" for layout in fitting or BUILT_IN)
    raise DataError(
        f"{where}: {joints} joints of 3 coordinates{flat}: say whose they are: --layout with one of {named}, "
        "or a .toml file that describes them"
    )


def find_bodies(numbers: int, *, where: object, given: Layout | None = None) -> int:
    """Return the number of bodies in a frame of so many numbers: 150 are two of 25 joints."""
    sizes = {len(layout) for layout in (BUILT_IN if given is None else (given,))}
    fitting = [bodies for bodies in (2, 1) if numbers in {3 * bodies * joints for joints in sizes}]
    if len(fitting) == 1:
        return fitting[0]
    expected = ", ".join(f"{6 * joints} or {3 * joints}" for joints in sorted(sizes))
    raise DataError(
        f"{where}: {numbers} numbers a frame, which fit {' and '.join(map(str, fitting)) or 'no number of'} "
        f"bodies: expected bodies x joints x 3 for two bodies or one: {expected}"
    )


def is_label(value: object) -> bool:
    """Return whether a value is a class number, 0-based."""
    return type(value) is int and 0 <= value < MAX_CLASSES


def facts_of(name: str, label: int) -> ClipFacts:
    """Return class and, for NTU names, subject, camera and so on of a clip with a 0-based label."""
    facts, action = parse_name(name), f"A{label + 1:03}"
    # If an NTU name's action is not the label's, somebody numbered classes anew: the label counts.
    if facts is not None and facts.action == action:
        return facts
    return ClipFacts(name, action)


def dataset_of(facts: Sequence[ClipFacts], *, otherwise: str) -> str:
    """Return ``ntu60`` or ``ntu120`` if all clips have NTU names, else ``otherwise``."""
    if any(fact.setup <= 0 for fact in facts):
        return otherwise
    return NtuSource().dataset(facts)


def split_name(short: str, *, dataset: str) -> str:
    """Return the store's name of a split: NTU's protocols get their full names (``ntu60-xsub``)."""
    full = f"{dataset}-{short}"
    return full if full in NTU_PROTOCOLS.get(dataset, ()) else short


def check_names(names: Sequence[str], *, where: object) -> None:
    """Raise ``DataError`` for names that a store cannot keep, and for duplicates."""
    seen: set[str] = set()
    for name in names:
        if not (0 < len(name) <= MAX_NAME and name.isascii() and name.isprintable()):
            raise DataError(
                f"{where}: the name {ascii(name)[:80]}: expected 1 to {MAX_NAME} printable ASCII characters"
            )
        if name in seen:
            raise DataError(f"{where}: the clip {name} is there twice")
        seen.add(name)


def array_sample(file: Path, name: str, member: str, size: int) -> Sample:
    """Return a sample inside an array file; refuse one larger than any clip."""
    if size > MAX_BYTES:
        raise DataError(f"{file}: clip {name} takes {size:,} bytes; at most {MAX_BYTES:,} are read")
    return Sample(name=name, path=file.name, member=member, size=size)


def pack(joints: NDArray[Any], state: NDArray[np.uint8] | None = None) -> bytes:
    """Return joints [M, T, V, 3], and state [M, T, V] if known, as a sample's bytes."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(joints, np.float32), version=(1, 0))
    if state is not None:
        np.lib.format.write_array(file, np.ascontiguousarray(state, np.uint8), version=(1, 0))
    return file.getvalue()


def pack_padded(slots: NDArray[np.float32], *, doubled: bool) -> bytes:
    """Return zero-padded rows [T', 2, V, 3] as a sample's bytes, without the padding.

    Rows of zeros alone become one frame of zeros, which ``unpack`` reports as ``NoBody``.
    """
    try:
        return pack(remove_padding(slots, doubled=doubled))
    except NoBody:
        return pack(slots[:1, :1].swapaxes(0, 1))


def remove_padding(slots: NDArray[np.float32], *, doubled: bool) -> NDArray[np.float32]:
    """Return [M, T, V, 3] of slots [T', 2, V, 3], without trailing zeros and an empty slot.

    Bits are compared, not values, so that an export writes the same rows again.

    Args:
        slots: two bodies per frame, zeros after the end.
        doubled: a single body is in both slots (NTU-120), not beside zeros (NTU-60).

    Raises:
        NoBody: nothing but zeros.
    """
    bits = np.ascontiguousarray(slots).view(np.uint32)
    shown = np.flatnonzero(bits.any(axis=(1, 2, 3)))
    if not len(shown):
        raise NoBody("every coordinate is 0")
    slots, bits = slots[: shown[-1] + 1], bits[: shown[-1] + 1]
    single = np.array_equal(bits[:, 0], bits[:, 1]) if doubled else not bits[:, 1].any()
    return np.ascontiguousarray(slots[:, : 1 if single else 2].swapaxes(0, 1))


def unpack(data: bytes, *, max_range: float, gaps: bool = False) -> Clip:
    """Return the clip of a sample's bytes; without states, rows of zeros are ``MISSING``.

    Args:
        data: returned by ``pack``.
        max_range: largest accepted coordinate, metres.
        gaps: NaN marks missing joints (``exact`` mode).

    Raises:
        BadRecording: not the shape of a clip, NaN or infinite numbers, or coordinates out of range.
        NoBody: all numbers are 0.
    """
    file = io.BytesIO(data)
    joints = _next_array(file)
    if joints.ndim != 4 or joints.shape[0] not in (1, 2) or not joints.shape[1] or joints.shape[3] != 3:
        raise BadRecording("shape", f"expected 1 or 2 bodies over frames of joints in 3D, found {list(joints.shape)}")
    wrong = np.isinf(joints) if gaps else ~np.isfinite(joints)
    if wrong.any():
        body, frame, joint, _ = np.argwhere(wrong)[0].tolist()
        raise BadRecording("non-finite", f"NaN or infinite at body {body}, frame {frame}, joint {joint}")
    largest = float(np.nanmax(np.abs(joints), initial=0))
    if largest > max_range:
        raise BadRecording("range", f"{largest:g} m from the origin; at most {max_range:g} m are accepted")
    if not largest:
        raise NoBody("every coordinate is 0")
    if file.tell() < len(data):
        state = _next_array(file)
        if state.shape != joints.shape[:3] or state.max(initial=0) > MISSING:
            raise BadRecording("state", "tracking states that do not fit the joints")
        if (np.isnan(joints).any(axis=3) & (state != MISSING)).any():
            raise BadRecording("non-finite", "NaN at a joint that is tracked")
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


class CleanedSource(BaseSource):
    """Shared by the sources of cleaned clips; ``discover`` finds ``dataset_name``."""

    cleaned: str | None = "reference"
    takes_layout = True

    def parse(self, data: bytes, *, strict: bool, max_range: float) -> Clip:
        return unpack(data, max_range=max_range, gaps=self.cleaned == "exact")
