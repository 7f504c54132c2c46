"""3D keypoints of pose estimators: ``.npy``, ``.npz`` and JSON files, and arrays in memory.

JSON as MediaPipe's results are usually written (frames of landmarks with x, y, z, visibility), as
MMPose writes Human3.6M poses (``instance_info``), and OpenPose's ``--3d --write_json`` (a file a
frame, ``NAME_000000000000_keypoints.json``). What is in an image plane is refused.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.atomic_io import parse_json
from smae.data.clean import Mode
from smae.data.clean.cleaning import clean
from smae.data.prepare import UNITS
from smae.data.raw.discovery import find_files
from smae.data.raw.file_reader import FileReader
from smae.data.raw.ntu import parse_name
from smae.data.raw.recording import KEYPOINTS, MAX_BYTES, TRACKED, Clip, Recording
from smae.data.raw.source import LARGEST, SMALLEST, BaseSource, Inventory, Refused, Sample
from smae.data.store.clips import ClipFacts
from smae.data.store.convert import layout_map
from smae.errors import BadRecording, ConfigError, DataError, NoBody
from smae.skeleton import Layout, load_layout

FLAT = (
    "points in a picture, which 3D encoders cannot take: depth cannot be read off one picture; "
    "give the pose estimator's 3D output, or lift the points to 3D first"
)
"""Why 2D keypoints are refused."""
_FRAME = re.compile(r"(.+)_[0-9]{12}_keypoints")
_GROUP = "_*_keypoints.json"
_IN_3D: tuple[str, ...] = ("people", "instance_info", "instances", "frames")
_IN_3D += ("pose_world_landmarks", "world_landmarks", "landmarks")
_IN_3D += ("pose_keypoints_3d", "keypoints_3d", "keypoints3d", "keypoints")
_IN_IMAGE = ("pose_keypoints_2d", "pose_landmarks", "keypoints_2d")
_Y_DOWN = ("mediapipe33", "azure32")
_MAX_BODIES = 20


@dataclass(frozen=True)
class Keypoints:
    """A recording in memory with its layout, for ``predict``, ``embed``, ``write_recordings``.

    Attributes:
        recording: in metres.
        layout: of its joints.
        fps: frames a second, None if unknown.
        name: in tables and stores.
        label: its class, where known.
    """

    recording: Recording = field(repr=False)
    layout: Layout
    fps: float | None = None
    name: str = "recording"
    label: str = "unknown"

    def __str__(self) -> str:
        return self.name

    def clip(self, layout: Layout, *, mode: Mode = "reference") -> Clip:
        """Return it cleaned, in the joints of a layout; ``NoBody`` without a body."""
        clip = clean(self.recording, mode=mode, layout=self.layout)
        if layout == self.layout:
            return clip
        return layout_map(self.layout, layout)(clip, gaps=mode == "exact")


def from_keypoints(
    array: NDArray[Any],
    *,
    layout: Layout | str,
    fps: float | None = None,
    unit: str | None = None,
    name: str = "recording",
    label: str = "unknown",
) -> Keypoints:
    """Return a recording of 3D keypoints.

    Args:
        array: float [T, V, 3] or [T, V, 4] (a score, 0 where a joint was not found), or with bodies
            [M, T, V, 3 or 4]; NaN where a joint is missing, a body of NaN or zeros where it is
            absent. MediaPipe's world landmarks and the Azure Kinect's joints have y down: they are
            turned upright. Of other layouts y is up.
        layout: a layout, its name, or a TOML file.
        fps: frames a second.
        unit: ``m``, ``cm`` or ``mm``. By default metres, if a body then has a person's size.
        name, label: for tables and stores.

    Raises:
        ConfigError: unknown layout or unit.
        DataError: another shape, points in a picture, or bodies of a size that no person has.
        NoBody: no joint in any frame.
    """
    chosen = load_layout(layout) if isinstance(layout, str) else layout
    if unit not in (None, *UNITS):
        raise ConfigError(f"unit {unit}: expected one of {', '.join(UNITS)}")
    try:
        recording = _recording(_bodies_by_frame(np.asarray(array), chosen), chosen, max_range=np.inf, strict=False)
    except BadRecording as error:
        raise DataError(f"{name}: {error.message}") from error
    if not len(recording.frame):
        raise NoBody(f"{name}: expected a body in some frame, found none")
    xyz = recording.xyz * np.float32(UNITS[unit or "m"])
    size = float(np.nanmedian(np.nanmax(xyz, axis=1) - np.nanmin(xyz, axis=1), axis=0).max())
    if unit != "m" and not SMALLEST <= size <= LARGEST:
        raise DataError(
            f"{name}: the bodies extend over {size:.3g} m if the numbers are {unit or 'm'}, where people extend over "
            f"{SMALLEST:g} to {LARGEST:g} m: say the unit (unit='mm', 'cm'; 'm' takes any size)"
        )
    return Keypoints(replace(recording, xyz=xyz), chosen, fps, name, label)


class KeypointsSource(BaseSource):
    """A file a recording, or a file a frame (OpenPose), in the layout that the user names.

    The class is the folder's name (``wave/anna-1.npy``) unless the file has an NTU name.
    """

    takes_layout = True
    dataset_name = "keypoints"

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        self.layout = self._given()
        found = find_by_suffix(raw, KEYPOINTS, strict_names=strict_names)
        refused = list(found.refused)
        frames: dict[str, list[Sample]] = {}
        samples: list[Sample] = []
        for sample in found.samples:
            match = _FRAME.fullmatch(sample.name)
            if match is None:
                samples.append(sample)
            elif sample.packed is not None:
                refused.append(Refused(sample.where, "packed", "a file a frame, in a zip: unpack the zip", sample.size))
            else:
                folder = sample.path.rpartition("/")[0]
                frames.setdefault(f"{folder}/{match[1]}".lstrip("/"), []).append(sample)
        for stem, parts in frames.items():
            name = stem.rpartition("/")[2]
            samples.append(Sample(name, stem + _GROUP, "", sum(part.size for part in parts)))
        named = [self._named(sample, raw) for sample in samples]
        return replace(found, samples=tuple(sorted(named)), refused=tuple(sorted(refused, key=str)))

    def _named(self, sample: Sample, raw: Path) -> Sample:
        facts = facts_by_folder(sample, raw)
        self._facts[facts.name] = facts
        return replace(sample, name=facts.name)

    def _given(self) -> Layout:
        if self.given_layout is None:
            raise ConfigError("keypoints do not say whose joints they are: add --layout, for example mediapipe33")
        return self.given_layout

    def reader(self, raw: Path) -> KeypointsReader:
        return KeypointsReader(raw)

    def parse(self, data: bytes, *, strict: bool, max_range: float) -> Recording:
        """Parse one file, or the frames of one recording."""
        layout = self._given()
        return _recording(_read(data, layout), layout, max_range=max_range, strict=strict)


def find_by_suffix(raw: Path, suffixes: Sequence[str], *, strict_names: bool = False) -> Inventory:
    """Return the files with one of several endings, under a folder or zip, or the file ``raw``."""
    looked_for = f"files that end in {', '.join(suffixes)}"
    if raw.is_file() and raw.suffix.lower() in suffixes:
        file = raw.resolve()
        return Inventory((Sample(raw.stem, file.name, "", file.stat().st_size),), (), 0, looked_for)

    def valid(name: str) -> bool:
        return 0 < len(name) <= 100 and name.isascii() and name.isprintable()

    samples: list[Sample] = []
    refused: set[Refused] = set()
    files = 0
    for suffix in suffixes:
        found = find_files(raw, suffix=suffix, valid=valid, looked_for=looked_for, strict_names=strict_names)
        files = len(found.samples) + len(found.refused) + found.ignored
        samples += found.samples
        refused |= set(found.refused)
    ignored = files - len(samples) - len(refused)
    return Inventory(tuple(samples), tuple(sorted(refused, key=str)), ignored, looked_for)


def facts_by_folder(sample: Sample, raw: Path) -> ClipFacts:
    """Return the facts of an NTU name; else the class is the folder's name, as the clip's start."""
    facts = parse_name(sample.name)
    if facts is not None:
        return facts
    folder = (sample.member or sample.path).rpartition("/")[0].rpartition("/")[2]
    action = folder or (raw.parent if raw.is_file() else raw).resolve().name
    # Takes of two classes may have one name.
    return ClipFacts(f"{folder}-{sample.name}".lstrip("-"), action)


class KeypointsReader(FileReader):
    """Reads files; of a recording with a file a frame, all frames as one JSON list."""

    def read(self, sample: Sample) -> bytes | memoryview:
        if not sample.path.endswith(_GROUP):
            return super().read(sample)
        if sample.size > MAX_BYTES:
            raise BadRecording("size", f"{sample.size:,} bytes; at most {MAX_BYTES:,} are read")
        folder, _, stem = sample.path.removesuffix(_GROUP).rpartition("/")
        files = []
        for path in sorted((self.folder / folder).iterdir()):
            match = _FRAME.fullmatch(path.stem)
            if path.suffix == ".json" and match is not None and match[1] == stem:
                name = f"{folder}/{path.name}".lstrip("/")
                files.append(bytes(super().read(Sample(stem, name, "", path.stat().st_size))))
        if sum(map(len, files)) != sample.size:
            raise BadRecording("io", "changed while running: its frames are not those that were found")
        return b"[" + b",".join(files) + b"]"


def _read(data: bytes, layout: Layout) -> list[list[NDArray[np.float32]]]:
    """Return the bodies of each frame of a file, float32 [V, 3] each."""
    try:
        if data[:6] == b"\x93NUMPY":
            return _bodies_by_frame(np.load(io.BytesIO(data), allow_pickle=False), layout)
        if data[:2] == b"PK":
            return _bodies_by_frame(_only_array(data), layout)
        content = parse_json(bytes(data))
    except (ValueError, OSError, EOFError, KeyError, RecursionError, zipfile.BadZipFile) as error:
        if isinstance(error, BadRecording):
            raise
        raise BadRecording("keypoints", f"neither an array of plain numbers nor JSON ({str(error)[:80]})") from error
    if isinstance(content, dict):
        content = _entry(content)
    if not isinstance(content, list):
        raise BadRecording("keypoints", "expected a list of frames")
    return [_people(frame, len(layout), depth=0) for frame in content]


def _only_array(data: bytes) -> NDArray[Any]:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        info = archive.zip.infolist() if archive.zip is not None else []
        if sum(member.file_size for member in info) > MAX_BYTES:
            raise BadRecording("size", f"unpacks to more than {MAX_BYTES:,} bytes")
        names = [name for name in ("keypoints", "positions_3d", "joints") if name in archive.files]
        if not names and len(archive.files) != 1:
            raise BadRecording("keypoints", f"arrays {ascii(archive.files)[:80]}: expected one, or one 'keypoints'")
        array: NDArray[Any] = archive[(names or archive.files)[0]]
        return array


def _bodies_by_frame(array: NDArray[Any], layout: Layout) -> list[list[NDArray[np.float32]]]:
    joints = len(layout)
    if array.dtype.kind not in "fiu":
        raise BadRecording("keypoints", f"expected numbers, found {array.dtype}")
    if array.ndim == 2 and array.shape[1] in (joints * 3, joints * 4):
        array = array.reshape(len(array), joints, -1)
    # Without an axis of bodies there is one.
    if array.ndim == 3:
        array = array[None]
    if array.ndim == 4 and array.shape[2:] == (joints, 2):
        raise BadRecording("flat", FLAT)
    if array.ndim != 4 or array.shape[2] != joints or array.shape[3] not in (3, 4) or len(array) > _MAX_BODIES:
        raise BadRecording(
            "joint-count",
            f"expected [frames, {joints}, 3] or [bodies, frames, {joints}, 3] of layout {layout.name}, "
            f"found {list(array.shape)}",
        )
    return [[_points(array[body, frame]) for body in range(len(array))] for frame in range(array.shape[1])]


def _points(values: Any) -> NDArray[np.float32]:
    """Return [V, 3] of [V, 3 or 4]: NaN where the score is 0."""
    points = np.array(values, np.float32)
    if points.shape[1] == 4:
        points[points[:, 3] == 0, :3] = np.nan
    return points[:, :3]


def _entry(frame: dict[str, Any]) -> Any:
    """Return what a JSON object holds of a pose in 3D."""
    for key in _IN_3D:
        if frame.get(key):
            return frame[key]
    if any(frame.get(key) for key in _IN_IMAGE):
        raise BadRecording("flat", FLAT)
    return []


def _people(value: Any, joints: int, *, depth: int) -> list[NDArray[np.float32]]:
    """Return the bodies of a frame of JSON: float32 [V, 3] each."""
    if isinstance(value, dict):
        value = _entry(value)
    if value is None or value == []:
        return []
    if not isinstance(value, list) or depth > 4:
        raise BadRecording("keypoints", f"expected lists of points, found {ascii(value)[:60]}")
    if _is_point(value[0]) or _is_number(value[0]):
        return [_body(value, joints)]
    people = [body for one in value for body in _people(one, joints, depth=depth + 1)]
    if len(people) > _MAX_BODIES:
        raise BadRecording("keypoints", f"{len(people)} bodies in a frame; at most {_MAX_BODIES} are read")
    return people


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_point(value: Any) -> bool:
    if isinstance(value, dict):
        return "x" in value and "y" in value
    return isinstance(value, list) and 2 <= len(value) <= 4 and all(_is_number(one) for one in value)


def _body(value: list[Any], joints: int) -> NDArray[np.float32]:
    if _is_number(value[0]):
        if len(value) in (joints * 3, joints * 4):
            step = len(value) // joints
            value = [value[at : at + step] for at in range(0, len(value), step)]
        elif len(value) == joints * 2:
            raise BadRecording("flat", FLAT)
    points = [[point[key] for key in "xyz" if key in point] if isinstance(point, dict) else point for point in value]
    if points and all(isinstance(point, list) and len(point) == 2 for point in points):
        raise BadRecording("flat", FLAT)
    # Rows of different lengths would make an array of objects.
    widths = {len(point) if isinstance(point, list) else 0 for point in points}
    if len(points) != joints or len(widths) != 1 or not all(map(_is_point, points)):
        raise BadRecording("joint-count", f"expected {joints} points of x, y, z, found {len(points)}")
    return _points(points)


def _recording(frames: list[list[NDArray[np.float32]]], layout: Layout, *, max_range: float, strict: bool) -> Recording:
    """Return the recording of the bodies of each frame; those of NaN or zeros are absent."""
    rows = [
        (frame, body, points)
        for frame, bodies in enumerate(frames)
        for body, points in enumerate(bodies)
        if (~np.isnan(points) & (points != 0)).any()
    ]
    if not frames:
        raise BadRecording("no-frames", "expected a frame at least")
    xyz = np.array([points for _, _, points in rows], np.float32).reshape(len(rows), len(layout), 3)
    gaps = int(np.isnan(xyz).any(axis=2).sum())
    if np.isinf(xyz).any() or (strict and gaps):
        raise BadRecording("non-finite", "NaN or infinite coordinates")
    largest = float(np.nanmax(np.abs(xyz), initial=0))
    if largest > max_range:
        raise BadRecording(
            "range", f"{largest:g} from the origin; at most {max_range:g} m: give metres, or prepare with --unit"
        )
    if layout.name in _Y_DOWN:
        # Half a turn about the view's axis: x right, y down becomes x left, y up.
        xyz[..., :2] *= -1
    return Recording(
        frames=len(frames),
        frame=np.array([frame for frame, _, _ in rows], np.int32),
        body=np.array([body for _, body, _ in rows], np.uint64),
        xyz=xyz,
        state=np.full(xyz.shape[:2], TRACKED, np.uint8),
        notes={"nan": gaps} if gaps else {},
    )
