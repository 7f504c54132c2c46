"""The contract of file stores: one suite for folders and object stores."""

from __future__ import annotations

import itertools
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("obstore", reason="obstore is not installed: pip install 'smae[objects]'")

from obstore.store import LocalStore, MemoryStore

from smae.data.store import object_store
from smae.data.store.file_store import FileStore, LocalFileStore, locate, open_file_store
from smae.data.store.object_store import ObjectFileStore
from smae.errors import ConfigError, DataError, EnvironmentFault
from tests.data.object_server import BUCKET, KEY_ID, SECRET, s3_server

KINDS = ["folder", "memory", "file", "s3"]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server, to which the environment leads."""
    pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[s3]' flask flask-cors")
    with pytest.MonkeyPatch.context() as patch, s3_server(patch) as address:
        yield address


_numbers = itertools.count()


@pytest.fixture(params=KINDS)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    """An empty file store of each kind."""
    if request.param == "folder":
        return LocalFileStore(tmp_path / "store")
    if request.param == "memory":
        return ObjectFileStore("memory://store", store=MemoryStore())
    if request.param == "file":
        return ObjectFileStore("file://store", store=LocalStore(tmp_path / "store", mkdir=True))
    request.getfixturevalue("s3")
    return open_file_store(f"s3://{BUCKET}/files{next(_numbers)}.zarr")


def test_what_is_written_is_read_whole_and_in_parts(files: FileStore) -> None:
    files.write("joints/c/0/0/0", b"0123456789")
    files.write("empty", b"")
    assert files.read("joints/c/0/0/0", limit=10) == b"0123456789"
    assert files.read("empty", limit=0) == b""
    parts = {(0, 3): b"012", (7, 3): b"789", (7, 100): b"789", (10, 5): b"", (99, 1): b"", (4, 0): b""}
    for (start, length), part in parts.items():
        assert files.read_part("joints/c/0/0/0", start, length) == part
    assert files.read_part("empty", 0, 8) == b""


def test_it_lists_sizes_by_key_and_nothing_of_its_neighbours(files: FileStore) -> None:
    assert files.sizes() == {}
    for key, size in {"b": 3, "a/z": 0, "a/b/c": 12, "a.b": 1}.items():
        files.write(key, b"x" * size)
    assert list(files.sizes().items()) == [("a.b", 1), ("a/b/c", 12), ("a/z", 0), ("b", 3)]
    if files.name.startswith("s3://"):
        neighbour = open_file_store(files.name + ".wip")
        neighbour.write("c", b"x")
        assert "c" not in files.sizes()
        assert neighbour.sizes() == {"c": 1}


def test_writing_and_moving_replace_what_is_there(files: FileStore) -> None:
    files.write("a", b"old")
    files.write("a", b"newer")
    assert files.read("a", limit=9) == b"newer"
    files.write("more/1", b"moved")
    files.move("more/1", "a")
    assert files.read("a", limit=9) == b"moved"
    assert list(files.sizes()) == ["a"]


def test_removing(files: FileStore) -> None:
    files.write("a/b", b"x")
    files.remove("a/b")
    files.remove("a/b")
    files.remove("never/there")
    assert files.sizes() == {}


def test_more_than_the_limit_is_not_read(files: FileStore) -> None:
    files.write("a", b"x" * 11)
    with pytest.raises(DataError, match=rf"{files.name}/a: more than 10 bytes: the store is damaged"):
        files.read("a", limit=10)


def test_what_is_not_there(files: FileStore) -> None:
    files.write("there", b"x")
    with pytest.raises(DataError, match=rf"{files.name}/missing: .*copy it or prepare it again"):
        files.read("missing", limit=10)
    with pytest.raises(DataError, match=rf"{files.name}/missing: .*copy it or prepare it again"):
        files.read_part("missing", 0, 1)
    with pytest.raises(EnvironmentFault, match=rf"cannot write {files.name}/b"):
        files.move("missing", "b")


def test_a_reader_never_sees_a_part_of_a_write(files: FileStore) -> None:
    contents = [bytes([number]) * 300_000 for number in range(2)]
    files.write("a", contents[0])
    seen, stop = set(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(files.read("a", limit=300_000))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, 30):
            files.write("a", contents[number % 2])
    finally:
        stop.set()
        reader.join()
    assert seen <= set(contents)


def test_only_one_creates(files: FileStore) -> None:
    if not isinstance(files, ObjectFileStore):
        pytest.skip("a folder is locked otherwise")
    assert files.create("lock", b"mine")
    assert not files.create("lock", b"theirs")
    assert files.create("lock", b"mine")  # as after an answer that was lost
    assert files.read("lock", limit=10) == b"mine"


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_it_crosses_processes(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    where: Path | str = tmp_path
    if kind == "s3":
        request.getfixturevalue("s3")
        where = f"s3://{BUCKET}/crossing.zarr"
    files = open_file_store(where)
    files.write("a", b"x")
    # Workers get it so from our own process.
    pickled = pickle.dumps(files)
    assert pickle.loads(pickled).read("a", limit=1) == b"x"
    assert SECRET.encode() not in pickled


def test_paths_and_urls(tmp_path: Path) -> None:
    assert locate("ntu.zarr") == Path("ntu.zarr")
    assert locate(Path("s3")) == Path("s3")
    assert locate("file:///data/ntu%20a.zarr") == Path("/data/ntu a.zarr")
    assert locate("s3://bucket/ntu.zarr/") == "s3://bucket/ntu.zarr"
    assert isinstance(open_file_store(tmp_path), LocalFileStore)
    assert open_file_store("s3://bucket/ntu.zarr/").name == "s3://bucket/ntu.zarr"


@pytest.mark.parametrize("url", ["s3://bucket", "s3:///ntu.zarr", "http://host/ntu.zarr", "memory://a/b", "gs://b/"])
def test_what_names_no_object_store(url: str) -> None:
    with pytest.raises(ConfigError, match=rf"{url.rstrip('/')}: expected s3://BUCKET/NAME"):
        open_file_store(url)


@pytest.mark.parametrize("url", [f"s3://{KEY_ID}:{SECRET}@bucket/a", f"s3://bucket/a?key={SECRET}"])
def test_keys_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="give them in the environment") as caught:
        open_file_store(url)
    assert SECRET not in str(caught.value)


def test_without_obstore_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "smae.data.store.object_store")
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigError, match=r"pip install 'smae\[objects\]'"):
        open_file_store("s3://bucket/ntu.zarr")


def test_a_bucket_that_is_not_there(s3: str) -> None:
    files = open_file_store("s3://no-such-bucket/a.zarr")
    with pytest.raises(
        EnvironmentFault, match=r"cannot read s3://no-such-bucket/a.zarr/: .*404 Not Found NoSuchBucket"
    ):
        files.sizes()
    with pytest.raises(EnvironmentFault, match=r"cannot write s3://no-such-bucket/a.zarr/k \(3 bytes\): .*--resume"):
        files.write("k", b"abc")


def test_a_server_that_does_not_answer(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(object_store, "_RETRY", {"max_retries": 1})
    files = open_file_store(f"s3://{BUCKET}/a.zarr")
    for act in (files.sizes, lambda: files.read("a", limit=1), lambda: files.write("a", b"x")):
        with pytest.raises(EnvironmentFault, match=r"does not answer: look at AWS_ACCESS_KEY_ID, .*ENDPOINT") as caught:
            act()
        assert SECRET not in str(caught.value)
        assert KEY_ID not in str(caught.value)
