"""Finding and reading raw files: names, zips, links, hostile members; the buffer they are read into."""

from __future__ import annotations

import os
import socket
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from smae.data.raw.file_reader import ReadBuffer
from smae.data.raw.ntu import NtuSource
from smae.data.raw.recording import MAX_BYTES
from smae.data.raw.source import Inventory, Sample
from smae.data.store.clips import UNLABELLED
from smae.errors import BadRecording, ConfigError, DataError
from tests.data.raw_folder import files, names, write_folder, write_zip

A, B, C = (f"{name}.skeleton" for name in names(3))


def find(raw: Path, **options: bool) -> Inventory:
    return NtuSource().discover(raw, **options)


def codes(inventory: Inventory) -> dict[str, str]:
    return {refused.path: refused.code for refused in inventory.refused}


def test_samples_are_found_by_name_at_any_depth_and_in_zips(tmp_path: Path) -> None:
    raw = write_folder(tmp_path / "raw", {f"deep/er/{B}": b"bb", "README.md": b"", "notes.skeleton": b""})
    write_zip(raw / "part.ZIP", {f"nturgb+d_skeletons/{A}": b"a", C: b"ccc", "__MACOSX/._" + C: b"x"})
    found = find(raw)
    assert found.samples == (
        Sample(A.removesuffix(".skeleton"), "part.ZIP", f"nturgb+d_skeletons/{A}", 1),
        Sample(B.removesuffix(".skeleton"), f"deep/er/{B}", "", 2),
        Sample(C.removesuffix(".skeleton"), "part.ZIP", C, 3),
    )
    assert (found.refused, found.ignored) == ((), 3)
    with_reader = NtuSource().reader(raw)
    assert [bytes(with_reader.read(sample)) for sample in found.samples] == [b"a", b"bb", b"ccc"]
    with_reader.close()


def test_a_zip_alone_is_a_source(tmp_path: Path) -> None:
    raw = write_zip(tmp_path / "all.zip", files(3))
    found = find(raw)
    assert len(found.samples) == 3
    reader = NtuSource().reader(raw)
    assert [reader.read(sample) for sample in found.samples] == [files(3)[name] for name in sorted(files(3))]
    reader.close()


def test_badly_named_files_are_ignored_or_refused_as_asked(tmp_path: Path) -> None:
    raw = write_folder(tmp_path / "raw", {A: b"", "holiday.skeleton": b"", "S001.SKELETON": b"", "list.txt": b""})
    assert find(raw).ignored == 3
    strict = find(raw, strict_names=True)
    assert codes(strict) == {"holiday.skeleton": "name", "S001.SKELETON": "name"}
    assert strict.ignored == 1


def test_what_is_not_a_regular_file_is_refused_and_never_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write_folder(tmp_path / "raw", {A: b"a", f"inner/{B}": b"b"})
    fifo, folder, link, out, loop, up, gone = (f"{name}.skeleton" for name in names(10)[3:])
    os.mkfifo(raw / fifo)
    (raw / folder).mkdir()
    (raw / link).symlink_to(raw / A)
    (tmp_path / "secret").write_text("x")
    (raw / out).symlink_to(tmp_path / "secret")
    (raw / loop).symlink_to(raw / loop)
    (raw / "inner" / "up").symlink_to(raw)
    (raw / up).symlink_to("..")
    (raw / gone).symlink_to(raw / "nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        # A socket has a name of at most 100 bytes or so.
        monkeypatch.chdir(raw)
        server.bind(C)
    found = find(raw)
    refused = [fifo, folder, out, loop, "inner/up", up, gone, C]
    assert codes(found) == dict.fromkeys(refused, "not-regular")
    assert {sample.name: sample.path for sample in found.samples}[link.removesuffix(".skeleton")] == A


def test_files_over_64_mib_are_refused_unread(tmp_path: Path) -> None:
    raw = write_folder(tmp_path / "raw", {A: b"a"})
    with open(raw / B, "wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert codes(find(raw)) == {B: "size"}


def test_names_that_are_not_utf8_or_carry_escape_codes_do_no_harm(tmp_path: Path) -> None:
    raw = write_folder(tmp_path / "raw", {A: b"a", "\x1b[31mred.skeleton": b""})
    (raw / os.fsdecode(b"\xff\xfe.skeleton")).write_bytes(b"")
    found = find(raw, strict_names=True)
    assert len(found.refused) == 2
    for refused in found.refused:
        assert str(refused).isascii()
        assert str(refused).isprintable()


def test_a_file_that_changes_or_goes_is_refused_when_read(tmp_path: Path) -> None:
    raw = write_folder(tmp_path / "raw", {A: b"abc", B: b"abc", C: b"abc"})
    first, second, third = find(raw).samples
    (raw / A).write_bytes(b"abcd")
    (raw / B).unlink()
    (raw / C).unlink()
    os.mkfifo(raw / C)
    reader = NtuSource().reader(raw)
    for sample, code in ((first, "io"), (second, "io"), (third, "not-regular")):
        with pytest.raises(BadRecording) as caught:
            reader.read(sample)
        assert caught.value.code == code


def test_dangerous_members_are_refused_by_name(tmp_path: Path) -> None:
    raw = tmp_path / "bad.zip"
    d, e, f = (f"{name}.skeleton" for name in names(6)[3:])
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"../{A}", b"a")
        archive.writestr(f"/{B}", b"b")
        archive.writestr(C, b"0" * 1_000_000)
        link = zipfile.ZipInfo(d)
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, b"/etc/passwd")
        archive.writestr(zipfile.ZipInfo(e), b"packed by bzip2", compress_type=zipfile.ZIP_BZIP2)
        archive.writestr(f, b"fine")
    found = find(raw)
    assert codes(found) == {
        f"bad.zip!../{A}": "zip-name",
        f"bad.zip!/{B}": "zip-name",
        f"bad.zip!{C}": "zip-ratio",
        f"bad.zip!{d}": "not-regular",
        f"bad.zip!{e}": "zip-method",
    }
    assert [sample.member for sample in found.samples] == [f]


def test_encrypted_and_damaged_members_are_refused(tmp_path: Path) -> None:
    raw = tmp_path / "all.zip"
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr(A, b"first contents")
        archive.writestr(B, b"second contents")
    data = bytearray(raw.read_bytes())
    data[data.index(b"first")] ^= 1
    directory = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    data[directory + 8] |= 1  # the flag bit "encrypted" of the second member
    raw.write_bytes(data)
    found = find(raw)
    assert codes(found) == {f"all.zip!{B}": "zip-encrypted"}
    reader = NtuSource().reader(raw)
    with pytest.raises(BadRecording, match="zip-damaged: cannot be unpacked: its CRC-32"):
        reader.read(found.samples[0])
    reader.close()


def test_a_damaged_archive_stops_everything(tmp_path: Path) -> None:
    raw = write_zip(tmp_path / "raw" / "half.zip", files(3))
    raw.write_bytes(raw.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"half\.zip: not a readable zip"):
        find(raw.parent)


def test_a_missing_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot list"):
        find(tmp_path / "nowhere")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_a_forked_child_has_a_buffer_of_its_own() -> None:
    """Workers are forked from a server that has loaded the reader: sharing its memory, they would mix recordings."""
    memory = ReadBuffer(100)
    memory[:5] = b"mine!"
    child = os.fork()
    if child == 0:
        memory[:5] = b"yours"
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert memory[:5] == b"mine!"


def test_the_buffer_has_slack_behind_the_text() -> None:
    memory = ReadBuffer(100)
    assert memory.capacity == 100
    assert len(memory) == 100 + ReadBuffer.SLACK


def test_one_file_is_a_sample_under_any_name_also_by_a_link(tmp_path: Path) -> None:
    raw = write_folder(tmp_path / "raw", {"mine.skeleton": b"mine", "pose.txt": b"pose"})
    (tmp_path / "link.skeleton").symlink_to(raw / "mine.skeleton")
    for path, name, data in (
        (raw / "mine.skeleton", "mine", b"mine"),
        (raw / "pose.txt", "pose.txt", b"pose"),
        (tmp_path / "link.skeleton", "link", b"mine"),
    ):
        (sample,) = find(path).samples
        reader = NtuSource().reader(path)
        assert (sample.name, bytes(reader.read(sample))) == (name, data)
        reader.close()


def test_own_names_count_where_there_are_no_others(tmp_path: Path) -> None:
    raw = write_folder(tmp_path / "raw", {"a/take.skeleton": b"1", "b/take.skeleton": b"2", "日.skeleton": b"3"})
    assert [sample.name for sample in find(raw).samples] == ["\\u65e5", "a/take", "b/take"]
    assert NtuSource().facts("a/take").action == UNLABELLED
    (raw / A).write_bytes(b"4")
    assert ([sample.path for sample in find(raw).samples], find(raw).ignored) == ([A], 3)


def test_a_folder_that_is_linked_into_the_input_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    raw, other = write_folder(tmp_path / "raw", {A: b"a"}), write_folder(tmp_path / "other", {f"in/{B}": b"b"})
    (other / "again").symlink_to(other)
    (raw / "more").symlink_to(other)
    (raw / "second").symlink_to(other)
    found = find(raw)
    assert [sample.path for sample in found.samples] == [A, f"more/in/{B}"] or [
        sample.path for sample in found.samples
    ] == [A, f"second/in/{B}"]
    assert "which is read too" in caplog.text
    assert "which is read once" in caplog.text
    reader = NtuSource().reader(raw)
    assert [bytes(reader.read(sample)) for sample in found.samples] == [b"a", b"b"]
    reader.close()


def test_a_deeper_link_to_a_folder_stops_before_anything_is_read(tmp_path: Path) -> None:
    raw, other = write_folder(tmp_path / "raw", {f"in/{A}": b"a"}), write_folder(tmp_path / "other", {B: b"b"})
    (raw / "in" / "more").symlink_to(other)
    with pytest.raises(DataError, match="put the link into"):
        find(raw)
