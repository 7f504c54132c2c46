"""The plain reader: what it keeps, what it tolerates, how exactly it reads numbers."""

from __future__ import annotations

import numpy as np
import pytest

from smae.data.raw.skeleton_parser import read_plain
from smae.errors import BadRecording
from tests.skeletons import FIRST_ID, body, walk, write_skeleton


def test_rows_come_in_file_order_with_ids_places_and_states() -> None:
    frames = walk(4, bodies=2)
    frames[1] = []
    recording = read_plain(write_skeleton(frames))
    assert recording.frames == 4
    assert recording.frame.tolist() == [0, 0, 2, 2, 3, 3]
    assert recording.body.tolist() == [FIRST_ID, FIRST_ID + 1] * 3
    assert (recording.xyz.dtype, recording.xyz.shape) == (np.float32, (6, 25, 3))
    assert (recording.state.dtype, recording.state.shape) == (np.uint8, (6, 25))
    row = frames[2][1].rows[7]
    assert recording.xyz[3, 7].tolist() == [float(np.float32(float(token))) for token in row[:3]]
    assert recording.state[3, 7] == int(row[11])
    assert recording.notes == {}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [" ", "\t", "   ", " \t "])
@pytest.mark.parametrize("final_newline", [True, False])
def test_line_ends_and_white_space_do_not_matter(newline: str, separator: str, final_newline: bool) -> None:
    frames = walk(2)
    expected = read_plain(write_skeleton(frames))
    text = write_skeleton(frames, newline=newline, separator=separator, final_newline=final_newline)
    assert np.array_equal(read_plain(text).xyz, expected.xyz)


def test_blank_lines_are_taken_at_the_very_end_only() -> None:
    text = write_skeleton(walk(1))
    assert read_plain(text + b" \r\n\t\n\r").frames == 1


def test_a_joint_with_a_nan_coordinate_is_missing_and_counted() -> None:
    frames = walk(2)
    frames[0][0].rows[3][1] = "-1.#IND"
    frames[1][0].rows[4][0:3] = ["nan", "NaN", "-nan(ind)"]
    frames[1][0].rows[5][8] = "nan"
    recording = read_plain(write_skeleton(frames))
    missing = np.isnan(recording.xyz)
    assert missing[0, 3].all()
    assert missing[1, 4].all()
    assert missing.sum() == 6
    assert recording.notes == {"nan": 2, "nan-unused": 1}


def test_a_frame_of_five_bodies_is_noted() -> None:
    rng = np.random.default_rng(0)
    crowd = [body(rng, id=n) for n in range(5)]
    assert read_plain(write_skeleton([crowd, crowd[:4], crowd])).notes == {"many-bodies": 2}


@pytest.mark.parametrize("spelling", ["1.5", "+1.5", "1.5e0", "15E-1", ".15e+1", "1.5" + "0" * 400, "0" * 300 + "1.5"])
def test_one_number_in_many_spellings(spelling: str) -> None:
    frames = walk(1)
    frames[0][0].rows[0][2] = spelling
    assert read_plain(write_skeleton(frames)).xyz[0, 0, 2] == 1.5


def test_an_error_has_position_and_excerpt() -> None:
    frames = walk(2)
    frames[1][0].rows[9][5] = "1.2.3"
    with pytest.raises(BadRecording, match=r"expected a number, found '1\.2\.3'") as caught:
        read_plain(write_skeleton(frames))
    column = len(" ".join(frames[1][0].rows[9][:5])) + 2
    assert (caught.value.line, caught.value.column, caught.value.excerpt) == (1 + 28 + 3 + 10, column, "1.2.3")


def test_excerpts_are_printable_and_short() -> None:
    with pytest.raises(BadRecording) as caught:
        read_plain(b"7\xff\\" + b"x" * 3000 + b"\n")
    assert caught.value.excerpt.startswith(r"7\xff\x5cxxx")
    assert len(caught.value.excerpt) <= 60
    assert caught.value.excerpt.isprintable()
