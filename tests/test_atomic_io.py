"""Atomic files and folders: complete or absent, links never followed, only outputs of ours replaced."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest

from smae import atomic_io
from smae.atomic_io import (
    atomic_file,
    atomic_folder,
    check_output,
    exchange,
    partial_path,
    read_json,
    write_atomic,
    write_json,
)
from smae.errors import ConfigError, DataError, EnvironmentFault, LockedError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, way: str) -> None:
    if way == "bytes":
        write_atomic(path, b"new")
    elif way == "file":
        with atomic_file(path) as partial:
            partial.write_text("new")
    else:
        with atomic_folder(path) as partial:
            (partial / "new").write_text("new")


def fail_at(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic_io.os, function, full)


def test_a_file_is_written_whole_into_a_new_folder(tmp_path: Path) -> None:
    write_atomic(tmp_path / "new" / "a", b"one ", b"two")
    assert (tmp_path / "new" / "a").read_bytes() == b"one two"
    assert names(tmp_path / "new") == ["a"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("way", ["bytes", "file", "folder"])
def test_a_failed_write_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, function: str
) -> None:
    path = tmp_path / "a"
    if way == "folder":
        path.mkdir()
        (path / "old").write_text("old")
        function = "fsync"
    else:
        path.write_text("old")
    fail_at(monkeypatch, function)
    with pytest.raises(EnvironmentFault, match=r"cannot write .*a.*: No space left on device"):
        write(path, way)
    assert names(tmp_path) == ["a"]
    content = path / "old" if way == "folder" else path
    assert content.read_text() == "old"


def test_a_stale_temporary_file_is_replaced(tmp_path: Path) -> None:
    partial_path(tmp_path / "a").write_text("left by a killed process")
    write_atomic(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("way", ["bytes", "file", "folder"])
def test_a_link_under_the_temporary_name_is_not_followed(tmp_path: Path, way: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "shell-start-up").write_text("mine")
    target = victim if way == "folder" else victim / "shell-start-up"
    path = tmp_path / "run" / "a"
    path.parent.mkdir()
    partial_path(path).symlink_to(target)
    write(path, way)
    assert names(victim) == ["shell-start-up"]
    assert (victim / "shell-start-up").read_text() == "mine"
    assert not path.is_symlink()


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_replaces_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool) -> None:
    if not can_exchange:
        monkeypatch.setattr(atomic_io, "exchange", lambda one, other: False)
    for content in ("first", "second"):
        with atomic_folder(tmp_path / "a") as partial:
            (partial / content).write_text(content)
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["second"]


def test_an_error_of_the_block_is_passed_on_and_leaves_nothing(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with atomic_folder(tmp_path / "a") as partial:
            (partial / "b").write_text("half")
            raise KeyError("why")

    with pytest.raises(KeyError):
        fail_half_way()
    assert names(tmp_path) == []


def is_note(path: Path) -> bool:
    return path.is_file() and path.read_text().startswith("note")


def test_only_an_output_of_the_same_kind_is_replaced(tmp_path: Path) -> None:
    def check(path: Path, *, overwrite: bool = True, inputs: tuple[Path, ...] = ()) -> None:
        check_output(path, kind="a note", is_kind=is_note, overwrite=overwrite, inputs=inputs)

    ours, foreign = tmp_path / "ours", tmp_path / "foreign"
    ours.write_text("note: buy milk")
    foreign.write_text("thesis")
    check(tmp_path / "absent")
    check(ours)
    with pytest.raises(ConfigError, match="add --overwrite"):
        check(ours, overwrite=False)
    with pytest.raises(ConfigError, match="foreign is there already and is not a note"):
        check(foreign)
    link = tmp_path / "link"
    link.symlink_to(ours)
    with pytest.raises(ConfigError, match="is a link, which is not replaced"):
        check(link)
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is a link, which is not replaced"):
        check(link)
    read = tmp_path / "read"
    read.mkdir()
    for output in (read, read / "inside" / "a", tmp_path):
        with pytest.raises(ConfigError, match="would replace, or be inside"):
            check(output, inputs=(read,))
    check(tmp_path / "beside", inputs=(read,))


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_json_that_is_not_an_object_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"run\.json.*: train again"):
        read_json(path, what="run", remedy="train again")
    with pytest.raises(DataError, match="no run there"):
        read_json(tmp_path / "absent.json", what="run", remedy="train again")


@pytest.mark.skipif(sys.platform != "linux", reason="names are exchanged in one step on Linux alone")
def test_two_folders_exchange_their_names(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    if not exchange(tmp_path / "old", tmp_path / "new"):
        pytest.skip("this file system cannot exchange names")
    assert [(tmp_path / name / "content").read_text() for name in ("old", "new")] == ["new", "old"]
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
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


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "1e999", "9" * 5000, str(2**63), str(-(2**63)), "[-Infinity]"])
def test_numbers_of_json_are_finite_and_fit_64_bits(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        atomic_io.parse_json(text)


def test_other_numbers_of_json_are_read_as_they_are() -> None:
    assert atomic_io.parse_json(f'[1, -2.5e3, {2**63 - 1}, true, "1e999"]') == [1, -2500.0, 2**63 - 1, True, "1e999"]


@pytest.mark.parametrize("way", ["bytes", "file", "folder"])
def test_what_another_process_is_writing_is_not_written(tmp_path: Path, way: str) -> None:
    with atomic_io._temporary(tmp_path / "a", folder=way == "folder"), pytest.raises(LockedError, match="wait for it"):
        write(tmp_path / "a", way)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("way", ["bytes", "file", "folder"])
@pytest.mark.parametrize("stale", ["file", "folder", "link", "link to nothing", "pipe"])
def test_a_stale_temporary_name_is_no_obstacle(tmp_path: Path, way: str, stale: str) -> None:
    partial, mine = atomic_io.partial_path(tmp_path / "a"), tmp_path / "mine"
    mine.write_text("mine")
    {
        "file": partial.touch,
        "folder": partial.mkdir,
        "link": lambda: partial.symlink_to(mine),
        "link to nothing": lambda: partial.symlink_to(tmp_path / "nothing"),
        "pipe": lambda: os.mkfifo(partial),
    }[stale]()
    write(tmp_path / "a", way)
    assert names(tmp_path) == ["a", "mine"]
    assert mine.read_text() == "mine"
