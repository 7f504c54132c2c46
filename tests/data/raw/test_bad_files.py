"""Every kind of bad `.skeleton` file ends as the table of bad inputs says: code, place, never a traceback."""

from __future__ import annotations

import tracemalloc

import pytest

from smae.data.raw.fast_parser import read_skeleton
from smae.data.raw.skeleton_parser import read_plain
from smae.errors import BadRecording
from tests.bad_files import BAD, FIRST_ROW, GOOD_ENOUGH, field
from tests.skeletons import walk, write_skeleton


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_code_and_place(name: str) -> None:
    text, code, line, column = BAD[name]
    with pytest.raises(BadRecording) as caught:
        read_skeleton(text)
    assert (caught.value.code, caught.value.line) == (code, line)
    assert caught.value.column == column or (column == -1 and caught.value.column >= 1)
    assert len(caught.value.message) > 10
    assert len(caught.value.excerpt) <= 60
    assert bool(caught.value.excerpt) or code in ("empty", "size", "truncated", "structure", "header")


@pytest.mark.parametrize("name", GOOD_ENOUGH)
def test_what_is_tolerated_is_noted(name: str) -> None:
    text, notes = GOOD_ENOUGH[name]
    recording = read_skeleton(text)
    assert recording.notes == notes
    assert recording.frames == (3 if name.startswith("15") else 6)


def test_strict_refuses_nan_and_hints_name_the_locale() -> None:
    with pytest.raises(BadRecording) as caught:
        read_skeleton(field(0, 1, "nan"), strict=True)
    assert (caught.value.code, caught.value.line) == ("non-finite", FIRST_ROW)
    with pytest.raises(BadRecording, match="locale"):
        read_skeleton(field(0, 1, "0,25"))


def test_the_range_is_an_option() -> None:
    text = field(0, 2, "20.5")
    assert read_skeleton(text, max_range=25).xyz[2, 0, 2] == 20.5
    with pytest.raises(BadRecording, match="20 m"):
        read_skeleton(text)


def test_hostile_files_take_little_memory() -> None:
    hostile = [
        b"1000000000000\n" + b"0\n" * 10,
        b"1\n" + b"1" * (8 << 20),
        b"\n" * (8 << 20),
        b"60\n" + b"0\n" * 60 + b"\n" * (1 << 20) + b"x",
        b"900000\n" + b"0\n" * 4 + b" " * (2 << 20),
    ]
    for text in hostile:
        tracemalloc.start()
        try:
            with pytest.raises(BadRecording):
                read_plain(text)
            assert tracemalloc.get_traced_memory()[1] < 2 * len(text) + (1 << 20)
        finally:
            tracemalloc.stop()


def test_every_truncation_is_refused() -> None:
    text = write_skeleton([*walk(1, digits=2), []])
    end = len(text.rstrip())
    for size in range(len(text)):
        if size >= end:
            assert read_skeleton(text[:size]).frames == 2
        else:
            with pytest.raises(BadRecording) as caught:
                read_skeleton(text[:size])
            assert caught.value.code == ("truncated" if size else "empty")
