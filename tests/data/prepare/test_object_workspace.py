"""Preparing into an object store: the same store as in a folder, also after crashes; one writer at a time."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("obstore", reason="obstore is not installed: pip install 'smae[objects]'")
pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[s3]' flask flask-cors")

from obstore.store import MemoryStore

from smae.data import store as storage
from smae.data.prepare import plan, workspace
from smae.data.prepare.run import prepare
from smae.data.prepare.summary import PrepareSummary
from smae.data.store import open_store
from smae.data.store.file_store import LocalFileStore, open_file_store
from smae.data.store.object_store import ObjectFileStore
from smae.data.store.verify import verify
from smae.errors import ConfigError, DataError, EnvironmentFault, Interrupted, LockedError
from smae.progress import Task
from tests.data import raw_folder
from tests.data.dask_cluster import cluster
from tests.data.object_server import BUCKET, SECRET, s3_server
from tests.data.progress_hook import on_update


@pytest.fixture(scope="module", autouse=True)
def s3() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, s3_server(patch) as address:
        yield address


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a task be two recordings."""
    monkeypatch.setattr(plan, "TASK_SAMPLES", 2)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return f"s3://{BUCKET}/{request.node.name}/ntu.zarr"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    bad = {"S001C001P039R001A002.skeleton": b"1\n"}
    return raw_folder.write_folder(tmp_path / "raw", raw_folder.files(9, bodies=2) | bad)


@pytest.fixture
def local(raw: Path, tmp_path: Path) -> PrepareSummary:
    return prepare(raw, tmp_path / "local.zarr", executor="inline")


def prepared(raw: Path, out: str, **options: Any) -> PrepareSummary:
    return prepare(raw, out, executor="inline", **options)


def test_the_store_is_that_of_a_folder(raw: Path, local: PrepareSummary, url: str) -> None:
    summary = prepared(raw, url)
    assert summary.fingerprint == local.fingerprint
    assert (summary.store, summary.ok, summary.quarantined) == (url, 9, local.quarantined)
    folder = LocalFileStore(Path(local.store))
    assert open_file_store(url).sizes() == folder.sizes()
    assert all(open_file_store(url).read(key, limit=10**8) == folder.read(key, limit=10**8) for key in folder.sizes())
    assert open_file_store(url + ".wip").sizes() == {}


def test_open_read_and_verify_without_a_copy(raw: Path, local: PrepareSummary, url: str) -> None:
    prepared(raw, url)
    there, here = open_store(url), open_store(local.store)
    np.testing.assert_array_equal(there.rows(0, there.row_count), here.rows(0, here.row_count))
    # As loaders send it to their workers.
    again = pickle.loads(pickle.dumps(there))
    np.testing.assert_array_equal(again.clip(3), here.clip(3))
    assert there.path == again.path == url
    assert verify(url).ok
    key = next(key for key in there.files if key.startswith("joints/c/"))
    shard = bytearray(open_file_store(url).read(key, limit=10**8))
    shard[len(shard) // 3] ^= 4
    open_file_store(url).write(key, bytes(shard))
    assert verify(url).problems == (f"{key}: its BLAKE3 is not the manifest's",)
    open_file_store(url).remove(key)
    with pytest.raises(DataError, match=rf"{url}: the store is damaged: {key}: missing"):
        open_store(url)


def test_an_interrupted_run_is_resumed(raw: Path, local: PrepareSummary, url: str) -> None:
    def interrupt(task: Task) -> None:
        signal.raise_signal(signal.SIGINT)

    with on_update(interrupt), pytest.raises(Interrupted, match=r"ntu\.zarr\.wip keeps finished work"):
        prepared(raw, url)
    left = open_file_store(url + ".wip").sizes()
    assert {"plan.json", "done/000000.json"} == set(left)
    with pytest.raises(DataError, match=rf"{url}: expected a store, found no manifest\.json"):
        open_store(url)
    with pytest.raises(ConfigError, match=rf"{url}\.wip holds unfinished work: add --resume"):
        prepared(raw, url)
    with pytest.raises(DataError, match="was begun with other inputs or settings"):
        prepared(raw, url, frames=8, resume=True)
    assert prepared(raw, url, resume=True).fingerprint == local.fingerprint
    assert open_file_store(url + ".wip").sizes() == {}


def test_existing_outputs(raw: Path, url: str) -> None:
    place = open_file_store(url)
    place.write("holiday.jpg", b"x")
    for options in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(ConfigError, match=rf"{url} is there already and is not a store, so it is not replaced"):
            prepared(raw, url, **options)
    assert place.sizes() == {"holiday.jpg": 1}
    place.remove("holiday.jpg")
    first = prepared(raw, url)
    with pytest.raises(ConfigError, match=rf"{url} is there already: add --overwrite"):
        prepared(raw, url)
    assert prepared(raw, url, resume=True).fingerprint == first.fingerprint
    with pytest.raises(DataError, match=r"complete, but of other inputs or settings: frames was None, now 8"):
        prepared(raw, url, resume=True, frames=8)


def test_overwriting_takes_the_old_manifest_away_first(raw: Path, url: str, tmp_path: Path) -> None:
    prepared(raw, url)

    def look(task: Task) -> None:
        with pytest.raises(DataError, match="found no manifest"):
            open_store(url)

    with on_update(look):
        new = prepared(raw, url, overwrite=True, frames=8)
    assert new.fingerprint == prepare(raw, tmp_path / "b.zarr", frames=8, executor="inline").fingerprint
    assert verify(url).ok


def test_one_writer_at_a_time_and_how_to_remove_a_dead_lock(raw: Path, local: PrepareSummary, url: str) -> None:
    lock = json.dumps({"host": "elsewhere", "process": 4711, "id": "0"}).encode()
    open_file_store(url + ".wip").write("lock", lock)
    where = rf"{url}\.wip/lock"
    with pytest.raises(LockedError, match=rf"{where}: process 4711 on elsewhere is writing .*\(`aws s3 rm {where}`\)"):
        prepared(raw, url, resume=True)
    assert open_file_store(url + ".wip").sizes() == {"lock": len(lock)}
    open_file_store(url + ".wip").remove("lock")
    assert prepared(raw, url, resume=True).fingerprint == local.fingerprint


class Crash(BaseException):
    """The process has crashed: no cleanup code of its own takes effect."""


class Fuse:
    """Counts changes to object stores in memory, and crashes before or after one of them.

    Attributes:
        stores: by URL.
        changes: number so far.
        at: the change at which to crash; 0 for none.
        before: whether to crash before that change instead of after it.
    """

    def __init__(self) -> None:
        self.stores: dict[str, MemoryStore] = {}
        self.changes, self.at, self.before = 0, 0, False

    def open(self, url: str) -> ObjectFileStore:
        return Fragile(url, self)

    def change(self, what: Callable[[], Any]) -> Any:
        self.changes += 1
        if self.at and (self.changes > self.at or (self.changes == self.at and self.before)):
            raise Crash
        result = what()
        if self.changes == self.at:
            raise Crash
        return result


class Fragile(ObjectFileStore):
    """A file store that reports every change to a fuse."""

    def __init__(self, url: str, fuse: Fuse) -> None:
        super().__init__(url, store=fuse.stores.setdefault(url, MemoryStore()))
        self.fuse = fuse

    def write(self, key: str, *pieces: bytes, durable: bool = True) -> None:
        self.fuse.change(lambda: super(Fragile, self).write(key, *pieces))

    def create(self, key: str, data: bytes) -> bool:
        return bool(self.fuse.change(lambda: super(Fragile, self).create(key, data)))

    def move(self, key: str, to: str) -> None:
        self.fuse.change(lambda: super(Fragile, self).move(key, to))

    def remove(self, key: str) -> None:
        self.fuse.change(lambda: super(Fragile, self).remove(key))


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 11])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("old", [False, True])
def test_every_crash_point_can_be_resumed(
    old: bool, before: bool, step: int, raw: Path, local: PrepareSummary, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, fuse, crashes = "s3://bucket/ntu.zarr", Fuse(), 0
    monkeypatch.setattr(workspace, "open_file_store", fuse.open)
    monkeypatch.setattr(storage, "open_file_store", fuse.open)
    for at in itertools.count(1, step):
        fuse.stores.clear()
        fuse.at = 0
        if old:
            prepared(raw, url, frames=8)
        fuse.changes, fuse.at, fuse.before = 0, at, before
        try:
            prepared(raw, url, overwrite=old)
            break
        except Crash:
            crashes += 1
        fuse.at = 0
        fuse.open(url + ".wip").remove("lock")
        # Where the old store is still whole, --resume alone would say that it is of other settings.
        assert prepared(raw, url, resume=True, overwrite=old).fingerprint == local.fingerprint
        assert fuse.open(url + ".wip").sizes() == {}
        assert open_store(url).fingerprint == local.fingerprint
    assert crashes > 40 // step


def test_from_the_command_line_with_two_processes(raw: Path, local: PrepareSummary, url: str, tmp_path: Path) -> None:
    def smae(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = "from smae.data.prepare import plan; plan.TASK_SAMPLES = 2; from smae_cli.main import main; main()"
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=os.environ)

    done = smae("prepare", "--raw", "raw", "--out", url, "--workers", "2", "--json")
    assert (done.returncode, json.loads(done.stdout)["fingerprint"]) == (3, local.fingerprint)
    about = smae("info", url, "--json")
    assert (json.loads(about.stdout)["path"], json.loads(about.stdout)["fingerprint"]) == (url, local.fingerprint)
    assert smae("verify", url).returncode == 0
    missing = smae("verify", url + ".nothing")
    assert missing.returncode == 4
    assert SECRET not in done.stdout + done.stderr


def test_a_bucket_that_is_not_there_is_an_environment_fault(raw: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"s3://no-such-bucket/ntu\.zarr\.wip/lock .*NoSuchBucket"):
        prepared(raw, "s3://no-such-bucket/ntu.zarr")


def test_on_a_dask_cluster(raw: Path, local: PrepareSummary, url: str, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'smae[dask]'")
    (tmp_path / "cluster").mkdir()
    with cluster(tmp_path / "cluster", workers=2) as made:
        summary = prepare(raw, url, executor="dask", scheduler=made.address)
    assert summary.fingerprint == local.fingerprint
    assert verify(url).ok
