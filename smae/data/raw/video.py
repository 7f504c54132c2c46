"""Videos as recordings: the pose of one person in each frame, by MediaPipe, as ``.skeleton`` text.

MediaPipe (Bazarevsky et al., "BlazePose", 2020) estimates 33 landmarks in metres around the centre
of the hips, so where a person walks is not in them. Joints of NTU's that it lacks
follow from others by the rules of ``smae convert``. It is called as a process in an environment of
its own, because its wheel needs old and heavy packages (jax, protobuf < 5).
"""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae import interrupts, progress
from smae.atomic_io import check_output, write_atomic
from smae.data.raw.discovery import find_named
from smae.data.raw.file_reader import FileReader
from smae.data.raw.ntu import NtuSource
from smae.data.raw.recording import MAX_BYTES, RATE, VIDEOS
from smae.data.raw.recordings import Recordings
from smae.data.raw.source import Inventory, Sample
from smae.data.store.convert import layout_map
from smae.errors import BadRecording, ConfigError, EnvironmentFault
from smae.skeleton import MEDIAPIPE33, NTU25

logger = logging.getLogger(__name__)

VERSION = "0.10.14"
"""The last MediaPipe that brings its pose models along; it has no wheel for Python 3.13."""
PYTHON = "SMAE_CAPTURE_PYTHON"
"""Environment variable: a Python with MediaPipe, in place of that of ``setup_capture``."""
NOTE = (
    "poses by MediaPipe: one person; joints are metres from the centre of the hips, so where the "
    "person walks is not in them; spine, neck, hands and hand tips are estimated from other joints"
)
_WORKER = Path(__file__).with_name("pose_worker.py")
_SEEN = 0.5
"""Visibility from which a joint counts as tracked, below as inferred."""
_BODY = "72057594037927936 0 1 1 1 1 0 0 0 2"
_TAIL_BYTES = 2000


@dataclass(frozen=True)
class Poses:
    """Poses of one person in a video.

    Attributes:
        seconds: float64 [T], the time of each frame.
        joints: float64 [T, 33, 3], metres, as the Kinect has them: x to the camera's left, y up, z
            away; NaN in frames without a person.
        seen: float64 [T, 33], visibility from 0 to 1.
    """

    seconds: NDArray[np.float64]
    joints: NDArray[np.float64]
    seen: NDArray[np.float64]


def environment() -> Path:
    """Return the folder of ``setup_capture``, in ``$XDG_DATA_HOME`` or ``~/.local/share``."""
    base = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    return base / "smae" / f"mediapipe-{VERSION}"


def _python() -> Path:
    given = os.environ.get(PYTHON)
    return Path(given) if given else environment() / "bin" / "python"


def setup_capture(python: Path | str | None = None) -> str:
    """Make the environment of MediaPipe from a package index (1.1 GB), once; return its version.

    Args:
        python: a Python 3.9 to 3.12; default this one.

    Raises:
        EnvironmentFault: it cannot be made or does not work; the message has the last lines.
    """
    folder, python = environment(), str(python or sys.executable)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    steps = (
        [python, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", f"mediapipe=={VERSION}"],
    )
    with progress.task("set up MediaPipe"):
        for step in steps:
            interrupts.check()
            try:
                ended = subprocess.run(step, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            except OSError as error:
                raise EnvironmentFault(f"{step[0]}: {error.strerror}: name a Python 3.9 to 3.12 by --python") from None
            if ended.returncode:
                raise EnvironmentFault(
                    f"`{' '.join(step)}` failed (MediaPipe {VERSION} has wheels for Python 3.9 to 3.12; --python "
                    f"names another one): {(ended.stderr or ended.stdout)[-_TAIL_BYTES:].strip()}"
                )
    return str(next(_lines(""))["mediapipe"])


def _lines(video: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of the pose worker, and end it with this generator.

    Raises:
        ConfigError: there is no environment of MediaPipe.
        BadRecording: the worker cannot read the video.
        EnvironmentFault: the worker fails.
    """
    python = _python()
    if not python.is_file():
        raise ConfigError(
            f"reading videos needs MediaPipe in an environment of its own, and {python} is not "
            "there: make it once by `smae capture --setup` (1.1 GB from a package index)"
        )
    with tempfile.TemporaryFile() as errors:
        # Arguments begin with a folder, so that no file name is taken for an option.
        where = [os.path.abspath(video)] if video else []
        worker = subprocess.Popen(
            [str(python), "-I", str(_WORKER), *where], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
        assert worker.stdout is not None
        try:
            for line in worker.stdout:
                interrupts.check()
                try:
                    yield dict(json.loads(line))
                except (ValueError, TypeError):
                    raise EnvironmentFault(
                        f"MediaPipe's process wrote {line[:80]!r}: run smae capture --setup"
                    ) from None
            code = worker.wait()
            interrupts.check()
        finally:
            worker.kill()
            worker.wait()
            worker.stdout.close()
        if code == 2:
            raise BadRecording("video", "not a video that OpenCV can read: convert it to .mp4 (H.264)")
        if code:
            errors.seek(0)
            tail = errors.read()[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
            raise EnvironmentFault(f"MediaPipe's process ended with {code}; run smae capture --setup again: {tail}")


def read_poses(video: Path) -> Poses:
    """Return the poses in a whole video, at MediaPipe's pace: 20 to 45 ms a frame on one core."""
    lines = _lines(str(video))
    about = next(lines)
    rate = about.get("fps") or RATE
    if not 1 <= rate <= 1000:
        rate = RATE
    seconds, rows, end = list[float](), list[Any](), None
    empty = [[math.nan] * 4] * len(MEDIAPIPE33)
    with progress.task("capture", total=max(int(about.get("frames", 0)), 0) or None, unit="frames") as task:
        for line in lines:
            if "end" in line:
                end = line["end"]
                continue
            # Some files give no times: then frames are counted.
            at = float(line["seconds"])
            if seconds and not at > seconds[-1]:
                at = seconds[-1] + 1 / rate
            seconds.append(at)
            rows.append(line["joints"] or empty)
            if task.total is None or len(seconds) <= task.total:
                task.update(len(seconds))
    if end != len(seconds) or not seconds:
        raise BadRecording("video", f"{len(seconds)} frames were read, then no more: is the file cut short?")
    table = np.array(rows, np.float64)
    if table.shape[1:] != (len(MEDIAPIPE33), 4):
        raise EnvironmentFault(f"MediaPipe gave joints of shape {list(table.shape)}: run smae capture --setup again")
    # MediaPipe's x runs to the picture's right and y down.
    joints = table[..., :3] * (-1, -1, 1)
    return Poses(np.array(seconds) - seconds[0], joints, table[..., 3])


def resample_poses(poses: Poses) -> Poses:
    """Return poses at 30 frames a second: linear between frames with a person, else nearest."""
    count = math.floor(poses.seconds[-1] * RATE + 1e-6) + 1
    times = np.arange(count) / RATE
    after = np.clip(np.searchsorted(poses.seconds, times), 1, max(len(poses.seconds) - 1, 1))
    after = np.minimum(after, len(poses.seconds) - 1)
    before = np.maximum(after - 1, 0)
    span = poses.seconds[after] - poses.seconds[before]
    weight = np.clip((times - poses.seconds[before]) / np.where(span > 0, span, 1), 0, 1)
    both = np.isfinite(poses.joints[before] + poses.joints[after]).all(axis=(1, 2))
    weight = np.where(both, weight, np.round(weight))[:, None]

    def mix(values: NDArray[np.float64]) -> NDArray[np.float64]:
        share = weight.reshape(-1, *[1] * (values.ndim - 1))
        mixed: NDArray[np.float64] = values[before] + share * (values[after] - values[before])
        # Where one of the two is NaN, the sum would be.
        return np.where(share == 0, values[before], np.where(share == 1, values[after], mixed))

    return Poses(times, mix(poses.joints), mix(poses.seen))


def skeleton_text(poses: Poses) -> bytes:
    """Return poses as the text of a ``.skeleton`` file of NTU's 25 joints."""
    map_ = layout_map(MEDIAPIPE33, NTU25)
    joints = np.einsum("wv,tvc->twc", map_.weights, np.nan_to_num(poses.joints))
    # A joint is as good as the worst of those that it follows from.
    seen = np.where(map_.weights > 0, poses.seen[:, None], 1).min(2) >= _SEEN
    direct = (map_.weights > 0).sum(1) == 1
    state = np.where(seen & direct, 2, 1)
    lines = [str(len(joints))]
    for frame in range(len(joints)):
        if not np.isfinite(poses.joints[frame]).all():
            lines.append("0")
            continue
        lines += ["1", _BODY, str(len(NTU25))]
        rows = zip(joints[frame].tolist(), state[frame].tolist(), strict=True)
        lines += [f"{x:.5f} {y:.5f} {z:.5f} 0 0 0 0 0 0 0 0 {kind}" for (x, y, z), kind in rows]
    return "\n".join([*lines, ""]).encode("ascii")


def capture_text(video: Path) -> bytes:
    """Return a video as the text of a ``.skeleton`` file; raises as ``read_poses`` does."""
    poses = resample_poses(read_poses(video))
    if not np.isfinite(poses.joints).any():
        raise BadRecording("video", f"no person was found in {len(poses.seconds)} frames")
    text = skeleton_text(poses)
    if len(text) > MAX_BYTES:
        minutes = poses.seconds[-1] / 60
        raise BadRecording("size", f"{minutes:.0f} minutes, more than a recording may have: cut it into shorter ones")
    return text


class VideoSource(NtuSource):
    """Videos with one person each; names like NTU's carry label and subject, others do not."""

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return the videos in a folder (its sub-folders), or one video."""
        logger.info(NOTE)
        return find_named(raw, suffixes=VIDEOS)

    def reader(self, raw: Path) -> VideoReader:
        return VideoReader(raw)


class VideoReader(FileReader):
    """Reads videos as ``.skeleton`` texts."""

    def read(self, sample: Sample) -> bytes:
        return capture_text(self.folder / sample.path)


@dataclass(frozen=True)
class Captured:
    """One video that became a recording.

    Attributes:
        video: its file.
        recording: the ``.skeleton`` file that was written.
        frames: of the recording, 30 a second.
        with_person: frames in which a person was found.
    """

    video: str
    recording: str
    frames: int
    with_person: int


@interrupts.deferred("run it again: recordings that are there are kept")
def capture(videos: Sequence[Path | str], out: Path | str, *, overwrite: bool = False) -> list[Captured]:
    """Write the poses in videos as ``.skeleton`` files of NTU's 25 joints, 30 frames a second.

    Args:
        videos: videos with one person each, and folders of them.
        out: the folder of the recordings; made if it is not there.
        overwrite: replace earlier recordings of the same names.

    Raises:
        ConfigError: nothing at a path, a name twice or there already, or MediaPipe is not set up.
        BadRecording: a video cannot be read, or shows no person; those before it are written.
        EnvironmentFault: MediaPipe fails.
    """
    out, targets = Path(out), dict[Path, tuple[Recordings, int]]()
    places = [Recordings(video, "video") for video in videos]
    for place in places:
        for number, sample in enumerate(place.inventory.samples):
            target = out / f"{sample.name.replace('/', '-')}.skeleton"
            if target in targets:
                raise ConfigError(f"two videos are named {sample.name}: rename one, or give another folder for it")
            inputs = [place.path] if place.path.is_file() else []
            check_output(target, kind="a recording", is_kind=Path.is_file, overwrite=overwrite, inputs=inputs)
            targets[target] = place, number
    out.mkdir(parents=True, exist_ok=True)
    done = []
    for target, (place, number) in targets.items():
        interrupts.check()
        sample = place.inventory.samples[number]
        where = place.where(sample)
        try:
            data = place.read(sample)
        except BadRecording as error:
            raise BadRecording(error.code, f"{where}: {error.message}") from None
        write_atomic(target, data)
        frames, bodies = int(data.partition(b"\n")[0]), data.count(b"\n25\n")
        done.append(Captured(where, str(target), frames, bodies))
    return done
