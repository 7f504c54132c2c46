"""Videos as recordings, with a program in place of MediaPipe's: lines, rate, joints, files, and what goes wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import smae
from smae.data.raw.fast_parser import read_skeleton
from smae.data.raw.recordings import Recordings
from smae.data.raw.video import PYTHON, Poses, capture_text, resample_poses
from smae.errors import BadRecording, ConfigError, EnvironmentFault
from smae.skeleton import MEDIAPIPE33, NTU25

# The "video" is the text that the worker writes; its first line may be the worker's exit code.
WORKER = f"""#!{sys.executable}
import sys
head, _, text = open(sys.argv[3]).read().partition(chr(10))
sys.stdout.write(text)
sys.exit(int(head))
"""


@pytest.fixture(autouse=True)
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text(WORKER)
    program.chmod(0o755)
    monkeypatch.setenv(PYTHON, str(program))


def pose(frame: int) -> list[list[float]]:
    """Return 33 joints: x of MediaPipe is the joint's number / 30 m, y minus that, z the frame in cm."""
    return [[joint / 30, -joint / 30, frame / 100, 0.4 if joint == 15 else 0.9] for joint in range(33)]


def video(path: Path, frames: list[Any], *, fps: float = 30.0, code: int = 0, end: int | None = None) -> Path:
    lines: list[Any] = [{"mediapipe": "0.10.14", "frames": len(frames), "fps": fps}]
    lines += [{"seconds": number / fps, "joints": joints} for number, joints in enumerate(frames)]
    lines.append({"end": len(frames) if end is None else end})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([str(code), *map(json.dumps, lines), ""]))
    return path


def test_joints_are_turned_to_the_kinects_axes_and_mapped_to_ntus(tmp_path: Path) -> None:
    recording = read_skeleton(capture_text(video(tmp_path / "a.mp4", [pose(0), None, pose(2)])))
    assert (recording.frames, recording.frame.tolist()) == (3, [0, 2])
    hip = MEDIAPIPE33.joints.index("left hip") / 30
    assert recording.xyz[1, NTU25.joints.index("left hip")] == pytest.approx((-hip, hip, 0.02), abs=1e-5)
    base = (MEDIAPIPE33.joints.index("left hip") + MEDIAPIPE33.joints.index("right hip")) / 60
    assert recording.xyz[0, NTU25.joints.index("spine base"), 1] == pytest.approx(base, abs=1e-5)
    state = dict(zip(NTU25.joints, recording.state[0].tolist(), strict=True))
    assert (state["left hip"], state["left wrist"], state["spine base"]) == (2, 1, 1)


def test_other_rates_become_30_frames_a_second(tmp_path: Path) -> None:
    recording = read_skeleton(capture_text(video(tmp_path / "a.mp4", [pose(2 * n) for n in range(16)], fps=15)))
    assert recording.frames == 31
    assert recording.xyz[:, 3, 2] == pytest.approx(np.arange(31) / 100, abs=1e-5)


def test_between_a_frame_with_and_one_without_a_person_the_nearest_counts() -> None:
    joints = np.zeros((3, 33, 3))
    joints[1] = np.nan
    found = resample_poses(Poses(np.array([0, 0.1, 0.2]), joints, np.ones((3, 33))))
    assert np.isfinite(found.joints[:, 0, 0]).tolist() == [True, True, False, False, False, True, True]
    one = resample_poses(Poses(np.zeros(1), joints[:1], np.ones((1, 33))))
    assert one.joints.shape == (1, 33, 3)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"end": 5}, BadRecording, "cut short"),
        ({"code": 2}, BadRecording, "not a video that OpenCV can read"),
        ({"code": 9}, EnvironmentFault, "ended with 9"),
        ({"frames": [None, None]}, BadRecording, "no person was found in 2 frames"),
        ({"frames": [[[0, 0, 0, 1]]]}, EnvironmentFault, r"shape \[1, 1, 4\]"),
    ],
)
def test_what_goes_wrong_is_said(tmp_path: Path, change: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        capture_text(video(tmp_path / "a.mp4", **{"frames": [pose(0), pose(1)], **change}))


def test_other_output_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("0\nhello\n")
    with pytest.raises(EnvironmentFault, match="wrote b'hello"):
        capture_text(tmp_path / "a.mp4")


def test_without_mediapipe_the_way_to_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with pytest.raises(ConfigError, match="smae capture --setup"):
        capture_text(video(tmp_path / "a.mp4", [pose(0)]))
    with pytest.raises(EnvironmentFault, match=r"Python 3\.9 to 3\.12"):
        smae.setup_capture(tmp_path / "no-python")


def test_captured_files_are_what_a_video_is_read_as(tmp_path: Path) -> None:
    clip = video(tmp_path / "in" / "S001C001P002R001A003.mp4", [pose(n) for n in range(5)])
    other = video(tmp_path / "in" / "b" / "mine.MOV", [pose(n) for n in range(4)])
    done = smae.capture([tmp_path / "in"], tmp_path / "out")
    assert [(one.frames, one.with_person) for one in done] == [(5, 5), (4, 4)]
    assert (tmp_path / "out" / "mine.skeleton").read_bytes() == capture_text(other)
    found = Recordings(clip, "ntu")
    sample, _ = found.find(None)
    assert found.read(sample) == (tmp_path / "out" / "S001C001P002R001A003.skeleton").read_bytes()
    assert found.source.facts(sample.name).subject == 2
    with pytest.raises(ConfigError, match="--overwrite"):
        smae.capture([clip], tmp_path / "out")
    smae.capture([clip], tmp_path / "out", overwrite=True)
    summary = smae.prepare(clip, tmp_path / "x.zarr", executor="inline")
    assert (summary.ok, summary.frames) == (1, 5)
