"""A recording that grows: answers are those of ``predict`` for the whole file, given as soon as they can be."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest

import smae
from smae.errors import ConfigError, DataError
from smae.eval import follow as follow_module
from smae.eval.export import read_weights
from smae.eval.follow import Follower
from smae.eval.predict import probabilities
from smae.eval.raw_clips import read_recordings, windows_of
from smae_cli.main import run
from tests.eval.test_exported_program import folder_of
from tests.skeletons import walk, write_skeleton
from tests.train.small import CPU

WINDOW, STRIDE = 20, 6
LIVE = {"stride": STRIDE / 30, "idle": 0.01, "device": "cpu"}


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("follow") / "head", head="mean", clip_frames=(WINDOW, 30))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "live.skeleton"


def frames_of(frames):
    """Return frames with one body; from frame 30 to 55 there is none."""
    made = walk(frames)
    return [[] if 30 <= number < 55 else bodies for number, bodies in enumerate(made)]


@pytest.mark.parametrize("frames", [80, 82, 12, 20])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_windows_and_classes_are_those_of_predict(path, head, frames, step):
    model, made = read_weights(head), frames_of(frames)
    text = write_skeleton(made, count="0")
    path.write_bytes(write_skeleton(made))
    windows = windows_of(model.config.prepared, frames=12, stride=STRIDE / 30)
    (whole,) = read_recordings([path], prepared=model.config.prepared, layout=model.layout, windows=windows).found
    rows = iter(probabilities([clip for clip in whole.clips if clip], model, CPU))
    expected = [
        (start, min(start + WINDOW, frames), None if clip is None else float(next(rows).max()))
        for start, clip in zip(whole.starts, whole.clips, strict=True)
    ]
    follower = Follower(path, model, stride=STRIDE / 30, device="cpu")
    pieces = [write_skeleton(made[:stop], count="0") for stop in range(step, frames, step)]
    found = []
    for piece in [*pieces, text]:
        path.write_bytes(piece)
        if (new := follower.update()) is not None:
            found += new
            last = follower.file.frames
            assert [one.stop for one in found][-1:] in ([], [max(range(WINDOW, last + 1, STRIDE), default=0)])
        assert follower._kept.frames <= WINDOW + STRIDE, "memory does not grow with the recording"
    found += follower.rest()
    assert [(one.start, one.stop) for one in found] == [one[:2] for one in expected]
    for one, (_, _, probability) in zip(found, expected, strict=True):
        assert (one.label is None) == (probability is None)
        assert one.probability == pytest.approx(probability or 0.0, abs=1e-6)
        assert one.bodies == (probability is not None)
    assert follower.file.restarts == 0


def test_a_command_prints_an_object_a_line(path, head, capsys):
    path.write_bytes(write_skeleton(frames_of(62), count="9999")[:-40])
    options = ["--stride", str(STRIDE / 30), "--idle", "0.01", "--device", "cpu", "--head", str(head)]
    assert run(["predict", "--follow", str(path), *options, "--json"]) == 0
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(one["start"], one["stop"]) for one in lines[-2:]] == [(36, 56), (41, 61)]
    keys = {"version", "path", "start", "stop", "seconds", "label", "name", "probability", "first", "bodies"}
    assert all(one["version"] == 1 and set(one) == keys for one in lines)
    notes = [json.loads(line)["note"] for line in err.splitlines()]
    assert f"{path}: frame 62 is incomplete, and left out" in notes
    assert notes[-1] == f"{path}: no new frame in 0.01 s, ended after 61 frames"
    assert run(["predict", "--follow", str(path), *options]) == 0
    text = capsys.readouterr().out.splitlines()
    assert len(text) == len(lines)
    assert text[0].startswith("    0.0 to     0.7 s  ")
    assert text[0].count(" %") == 3


def test_after_a_replacement_windows_begin_again(path, head):
    path.write_bytes(write_skeleton(walk(WINDOW)))
    answers = smae.follow(path, head=head, stride=STRIDE / 30, idle=0.3, device="cpu")
    first = next(answers)
    path.unlink()
    path.write_bytes(write_skeleton(walk(WINDOW + STRIDE, seed=1)))
    assert [(one.start, one.stop) for one in [first, *answers]] == [(0, 20), (0, 20), (6, 26)]


def test_ctrl_c_ends_it_with_130_while_it_waits(path, head, monkeypatch, capsys):
    signals = iter([signal.SIGINT])
    monkeypatch.setattr(follow_module.time, "sleep", lambda seconds: signal.raise_signal(next(signals)))
    assert run(["predict", "--follow", str(path), "--head", str(head), "--device", "cpu", "--json"]) == 130
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["kind"] == "Interrupted"
    assert "is not there yet: waiting for it" in err


def test_a_bad_frame_ends_it_with_the_line(path, head, capsys):
    text = write_skeleton(walk(30)).replace(b"\r\n25\r\n", b"\r\n24\r\n", 1)
    path.write_bytes(text)
    assert run(["predict", "--follow", str(path), "--head", str(head), "--device", "cpu"]) == 4
    assert f"{path}:4:1: joint-count: expected 25 joints" in capsys.readouterr().err


def test_what_cannot_be_followed_is_refused(path, head, capsys):
    with pytest.raises(DataError, match=r"no whole frame came in 0\.01 s"):
        list(smae.follow(path, head=head, **LIVE))
    with pytest.raises(ConfigError, match=r"only \.skeleton files can be followed"):
        smae.follow(path.with_suffix(".mp4"), head=head, **LIVE)
    with pytest.raises(ConfigError, match="--idle 0: expected seconds above 0"):
        smae.follow(path, head=head, idle=0)
    for wrong in (["--follow", "a.skeleton", "b.skeleton"], ["a.skeleton", "--idle", "3"]):
        assert run(["predict", *wrong]) == 2
    assert "--follow takes one .skeleton file" in capsys.readouterr().err


def test_an_encoder_of_another_layout_is_refused(path, head):
    model = read_weights(head)
    other = follow_module.replace(model, layout=smae.skeleton.COCO17)
    with pytest.raises(DataError, match="has layout ntu25, the encoder was trained on coco17"):
        Follower(path, other)


def test_long_recordings_are_caught_up_with_in_steps(path, head, monkeypatch):
    monkeypatch.setattr("smae.data.raw.recordings.CHUNK", 50_000)
    path.write_bytes(write_skeleton(walk(60)))
    found = list(smae.follow(path, head=head, **LIVE))
    assert [one.start for one in found] == [*range(0, 41, STRIDE), 40]
    assert np.isfinite([one.probability for one in found]).all()
