from __future__ import annotations

import numpy as np
import pytest

from smae.data.clean.cleaning import clean
from smae.data.prepare.fast_path import Usual, usual_way
from smae.data.prepare.plan import Settings
from smae.data.raw.discovery import ReadBuffer
from smae.data.raw.skeleton_parser import read_plain
from smae.data.raw.source import SOURCES
from smae.errors import BadRecording, NoBody
from smae.skeleton import NTU25
from tests import corpora
from tests.data.raw_folder import skeleton

ROOM = 400


def room() -> tuple[np.ndarray, np.ndarray]:
    return np.full((ROOM, 25, 3), np.nan, np.float32), np.full((ROOM, 25), 9, np.uint8)


def general(data: bytes) -> tuple[np.ndarray, np.ndarray, dict[str, int]] | None:
    """Return joints, state and notes of the general way, by the reader that is the grammar; None without a clip."""
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
def test_both_ways_give_the_same_rows(seed: int) -> None:
    usual, taken = Usual(max_range=20.0, centre=NTU25.centre), 0
    for kind, data in texts(seed, 2 * len(corpora.KINDS)):
        joints, state = room()
        rows, frames = usual(data, joints, state)
        if not rows:
            continue
        told = general(data)
        assert told is not None, kind
        taken += 1
        assert np.array_equal(joints[:rows].view(np.uint32), told[0][0].view(np.uint32)), kind
        assert np.array_equal(state[:rows], told[1][0]), kind
        assert told[2] == ({"empty-frames": frames - rows} if frames > rows else {}), kind
    assert taken >= 8, "most kinds are not usual, but some are"


def test_text_is_read_where_it_lies_whatever_lay_there_before() -> None:
    memory, usual = ReadBuffer(1 << 16), Usual(max_range=20.0, centre=NTU25.centre)
    memory[:] = b"7" * len(memory)
    for frames in (9, 2):
        data = skeleton(frames, seed=frames)
        memory[: len(data)] = data
        joints, state = room()
        assert usual(memoryview(memory)[: len(data)], joints, state) == (frames, frames)
        assert np.array_equal(joints[:frames], clean(read_plain(data)).joints[0])


def test_what_does_not_fit_goes_the_general_way() -> None:
    usual = Usual(max_range=20.0, centre=NTU25.centre)
    joints, state = room()
    assert usual(skeleton(5), joints[:4], state[:4]) == (0, 0)
    assert usual(skeleton(5), joints[:5], state[:5]) == (5, 5)


@pytest.mark.parametrize(
    ("settings", "short"),
    [(Settings(), True), (Settings(strict=True), True), (Settings(mode="exact"), False), (Settings(frames=9), False),
     (Settings(codec="int16"), False), (Settings(source="nw-ucla"), False)],
)  # fmt: skip
def test_settings_that_ask_for_more_go_the_general_way(settings: Settings, short: bool) -> None:
    source = SOURCES.get(settings.source)()
    assert (usual_way(source, settings, source.layout) is not None) is short
