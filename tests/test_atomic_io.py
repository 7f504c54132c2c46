from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from smae import atomic_io
from smae.atomic_io import exchange, read_json, write_json
from smae.errors import DataError


@pytest.mark.skipif(sys.platform != "linux", reason="names are exchanged in one step on Linux alone")
def test_two_folders_exchange_their_names(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    if not exchange(tmp_path / "old", tmp_path / "new"):
        pytest.skip("this file system cannot exchange names")
    assert [(tmp_path / name / "content").read_text() for name in ("old", "new")] == ["new", "old"]
    with pytest.raises(OSError, match="No such file"):
        exchange(tmp_path / "old", tmp_path / "none")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xff", b"[" * 20_000])
def test_a_file_that_is_not_json_is_refused_by_name(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.json: no readable thing .*: do this"):
        read_json(tmp_path / "x.json", what="thing", remedy="do this")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(DataError, match="not a regular file"):
        read_json(tmp_path / "x.json", what="thing", remedy="do this")


def test_json_is_written_atomically(tmp_path, monkeypatch):
    write_json(tmp_path / "x.json", {"a": 1})
    monkeypatch.setattr(atomic_io.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_json(tmp_path / "x.json", {"a": 2})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


def test_nan_never_gets_into_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not (tmp_path / "x.json").exists()
