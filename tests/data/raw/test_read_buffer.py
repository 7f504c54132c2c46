from __future__ import annotations

import os
import sys

import pytest

from smae.data.raw.discovery import ReadBuffer


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_a_forked_child_has_memory_of_its_own() -> None:
    """Workers are forked from a server that has loaded the reader: sharing its memory, they would mix recordings."""
    memory = ReadBuffer(100)
    memory[:5] = b"mine!"
    child = os.fork()
    if child == 0:
        memory[:5] = b"yours"
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert memory[:5] == b"mine!"


def test_there_is_room_behind_the_text() -> None:
    memory = ReadBuffer(100)
    assert memory.capacity == 100
    assert len(memory) == 100 + ReadBuffer.SLACK
