"""A `.skeleton` file that grows is read frame by frame; its writer may do what it likes."""

from __future__ import annotations

import logging
import os
from itertools import pairwise

import numpy as np
import pytest

from smae.data.raw.fast_parser import read_skeleton
from smae.data.raw.recordings import GrowingFile
from smae.errors import BadRecording, ConfigError
from tests.skeletons import walk, write_skeleton


@pytest.fixture
def path(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    return tmp_path / "live.skeleton"


def frames_of(seed=0, frames=6):
    """Return frames with none, one and two bodies."""
    made = walk(frames, bodies=2, seed=seed)
    return [bodies[: number % 3] for number, bodies in enumerate(made)]


def read_all(growing):
    """Read until nothing is new; return the numbers of frames and all coordinates."""
    counts, xyz = [], []
    while (new := growing.read()) is not None:
        counts.append(new.frames)
        xyz.append(new.xyz)
    return counts, xyz


@pytest.mark.parametrize("newline", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("count", ["0", "6", "100", "000000"])
def test_cut_anywhere_the_frames_are_those_of_the_whole_file(path, newline, count):
    text = write_skeleton(frames_of(), newline=newline, count=count)
    expected = read_skeleton(write_skeleton(frames_of(), newline=newline))
    growing, rows, frame = GrowingFile(path, read_skeleton), [], []
    cuts = sorted(np.random.default_rng(0).integers(0, len(text), 40).tolist())
    for start, stop in pairwise([0, *cuts, len(text)]):
        with open(path, "ab") as file:
            file.write(text[start:stop])
        before = growing.frames
        if (new := growing.read()) is not None:
            rows.append(new.xyz)
            frame += (new.frame + before).tolist()
    if (new := growing.finish()) is not None:
        rows.append(new.xyz)
        frame += (new.frame + growing.frames - new.frames).tolist()
    assert growing.frames == 6
    assert frame == expected.frame.tolist()
    assert np.array_equal(np.concatenate(rows), expected.xyz)


def test_a_file_that_is_not_there_is_waited_for(path, caplog):
    growing = GrowingFile(path, read_skeleton)
    assert growing.read() is growing.read() is None
    assert [record.message for record in caplog.records] == [f"{path} is not there yet: waiting for it"]
    path.write_bytes(write_skeleton(frames_of()))
    assert read_all(growing)[0] == [6]
    path.unlink()
    assert growing.read() is growing.read() is None
    assert [record.message for record in caplog.records[1:]] == [f"{path} is gone: waiting for it to come back"]
    path.write_bytes(write_skeleton(frames_of(1)))
    assert read_all(growing)[0] == [6]


def replaced(path, text):
    path.with_name("new").write_bytes(text)
    os.replace(path.with_name("new"), path)


@pytest.mark.parametrize(
    ("change", "frames", "words"),
    [
        (replaced, 9, "was replaced"),
        (lambda path, text: path.write_bytes(text), 9, "was written anew"),
        (lambda path, text: path.write_bytes(text), 2, "was cut"),
    ],
)
def test_another_file_is_read_from_its_beginning(path, caplog, change, frames, words):
    path.write_bytes(write_skeleton(frames_of()))
    growing = GrowingFile(path, read_skeleton)
    assert read_all(growing)[0] == [6]
    text = write_skeleton(frames_of(1, frames))
    change(path, text)
    counts, xyz = read_all(growing)
    assert (counts, growing.frames, growing.restarts) == ([frames], frames, 1)
    assert np.array_equal(np.concatenate(xyz), read_skeleton(text).xyz)
    assert [record.message for record in caplog.records] == [f"{path} {words}: read from its beginning again"]


def test_a_frame_count_that_is_corrected_at_the_end_is_no_other_file(path):
    path.write_bytes(write_skeleton(frames_of(), count="000"))
    growing = GrowingFile(path, read_skeleton)
    assert read_all(growing)[0] == [6]
    with open(path, "r+b") as file:
        file.write(b"007")
        file.seek(0, os.SEEK_END)
        file.write(b"0\r\n")
    assert read_all(growing)[0] == [1]
    assert growing.restarts == 0


def test_blank_lines_at_the_end_are_no_frame(path):
    path.write_bytes(write_skeleton(frames_of()) + b"\r\n  \r\n")
    growing = GrowingFile(path, read_skeleton)
    assert read_all(growing)[0] == [6]
    assert growing.finish() is None


def test_an_incomplete_last_frame_is_left_out_in_words(path, caplog):
    text = write_skeleton(walk(3))
    path.write_bytes(text[:-30])
    growing = GrowingFile(path, read_skeleton)
    assert read_all(growing)[0] == [2]
    assert growing.finish() is None
    assert caplog.records[-1].message == f"{path}: frame 3 is incomplete, and left out"
    path.write_bytes(text.rstrip())
    growing = GrowingFile(path, read_skeleton)
    assert read_all(growing)[0] == [2]
    assert growing.finish().frames == 1, "all of it is there but the line end"


def test_a_bad_frame_is_refused_where_it_stands_after_the_good_ones(path):
    bad = walk(4)
    bad[2][0].rows[5][0] = "0,1"
    text = write_skeleton(bad)
    with pytest.raises(BadRecording) as whole:
        read_skeleton(text)
    growing = GrowingFile(path, read_skeleton)
    path.write_bytes(text[: text.index(b"0,1")])
    assert growing.read().frames == 2
    path.write_bytes(text)
    with pytest.raises(BadRecording, match="decimal comma") as caught:
        growing.read()
    assert (caught.value.line, caught.value.column) == (whole.value.line, whole.value.column)
    assert str(caught.value).startswith(f"{path}:{whole.value.line}:")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"\x1f\x8b\x08 ...\n", "gzip"),
        (b"<html>\n", "html"),
        (b"many\n", "header"),
        (b"9" * 5000, "line-length"),
        (b"3\n" + b"9" * 5000, "line-length"),
        (b"3\n0\n65\n", "body-count"),
        (b"3\n0\n\n0\n", "structure"),
        (b"3\n0\n1 2\n", "structure"),
    ],
)
def test_what_is_no_recording_is_refused_by_the_grammar(path, text, code):
    path.write_bytes(text)
    growing = GrowingFile(path, read_skeleton)
    with pytest.raises(BadRecording) as caught:
        read_all(growing)
    assert caught.value.code == code


def test_only_a_regular_file_is_followed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigError, match="expected a regular file"):
            GrowingFile(path, read_skeleton).read()
