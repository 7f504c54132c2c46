from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from smae.data.clean.cleaning import clean
from smae.data.prepare import PrepareSettings
from smae.data.prepare.fast_path import FastPath, fast_path
from smae.data.raw.file_reader import ReadBuffer
from smae.data.raw.skeleton_parser import read_plain
from smae.data.raw.source import SOURCES
from smae.errors import BadRecording, NoBody
from smae.skeleton import NTU25
from tests import corpora
from tests.data.raw_folder import skeleton

ROWS = 400


def rows_to_fill() -> tuple[np.ndarray, np.ndarray]:
    return np.full((ROWS, 25, 3), np.nan, np.float32), np.full((ROWS, 25), 9, np.uint8)


def general(data: bytes) -> tuple[np.ndarray, np.ndarray, dict[str, int]] | None:
    """Return joints, state and notes of the general way, by the plain parser; None without a clip."""
    try:
        recording = read_plain(data)
        clip = clean(recording, story=True)
    except (BadRecording, NoBody):
        return None
    return clip.joints, clip.state, recording.notes | clip.notes


def texts(seed: int, count: int) -> list[tuple[str, bytes]]:
    rng = np.random.default_rng(seed)
    hard = [(kind, corpora.skeleton_text(one, rng)) for kind, one in corpora.recordings(seed, count)]
    one = skeleton(30, seed=seed)
    return [
        *hard,
        ("plain", one),
        ("crlf", one.replace(b"\n", b"\r\n")),
        ("no end", one[:-1]),
        ("cut", one[:-9]),
        ("nan", one.replace(b"256.1", b"nan", 1)),
        ("nan joint", one.replace(b"\n25\n", b"\n25\nnan", 1)),
        ("tab", one.replace(b" ", b"\t", 1)),
        ("exponent", one.replace(b" 256.1", b"e-3 256.1")),
        ("far", one.replace(b"\n25\n", b"\n25\n9", 1)),
        ("zeros", skeleton(3, seed=seed).replace(b"25\n0.", b"25\n0 0 0 0 0 0 0 0 0 0 0 2\n0.", 1)),
        ("empty", b""),
    ]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fast_path_equals_the_general_way(seed: int) -> None:
    fast, taken = FastPath(max_range=20.0, centre=NTU25.centre), 0
    for kind, data in texts(seed, 2 * len(corpora.KINDS)):
        joints, state = rows_to_fill()
        rows, frames = fast(data, joints, state)
        if not rows:
            continue
        expected = general(data)
        assert expected is not None, kind
        taken += 1
        assert np.array_equal(joints[:rows].view(np.uint32), expected[0][0].view(np.uint32)), kind
        assert np.array_equal(state[:rows], expected[1][0]), kind
        assert expected[2] == ({"empty-frames": frames - rows} if frames > rows else {}), kind
    assert taken >= 8, "the fast path takes few kinds, but some"


def test_a_reused_read_buffer_leaves_no_trace() -> None:
    memory, fast = ReadBuffer(1 << 16), FastPath(max_range=20.0, centre=NTU25.centre)
    memory[:] = b"7" * len(memory)
    for frames in (9, 2):
        data = skeleton(frames, seed=frames)
        memory[: len(data)] = data
        joints, state = rows_to_fill()
        assert fast(memoryview(memory)[: len(data)], joints, state) == (frames, frames)
        assert np.array_equal(joints[:frames], clean(read_plain(data)).joints[0])


def test_recordings_that_do_not_fit_need_the_general_way() -> None:
    fast = FastPath(max_range=20.0, centre=NTU25.centre)
    joints, state = rows_to_fill()
    assert fast(skeleton(5), joints[:4], state[:4]) == (0, 0)
    assert fast(skeleton(5), joints[:5], state[:5]) == (5, 5)


@pytest.mark.parametrize(
    ("options", "fast"),
    [
        ({}, True),
        ({"strict": True}, True),
        ({"mode": "exact"}, False),
        ({"frames": 9}, False),
        ({"codec": "int16"}, False),
        ({"source": "nw-ucla"}, False),
    ],
)
def test_some_settings_need_the_general_way(options: dict[str, Any], fast: bool) -> None:
    settings = PrepareSettings(**options)
    source = SOURCES.get(settings.source)()
    assert (fast_path(source, settings, source.layout) is not None) is fast
