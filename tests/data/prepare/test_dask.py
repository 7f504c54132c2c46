"""The Dask executor against a real scheduler and two real worker processes."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'smae[dask]'")

from smae import errors
from smae.data.prepare import dask, plan
from smae.data.prepare.dask import DaskExecutor
from smae.data.prepare.executors import make_executor
from smae.data.prepare.run import prepare
from smae.data.store.verify import verify
from smae.errors import ConfigError, EnvironmentFault, Interrupted
from smae.progress import Task
from tests.data import raw_folder
from tests.data.dask_cluster import WITHOUT_SMAE, Cluster, cluster
from tests.data.dask_tasks import Square, Trace, deadly, raising
from tests.data.progress_hook import on_update


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with two workers, which stay."""
    with cluster(tmp_path_factory.mktemp("cluster"), workers=2) as made:
        yield made


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a task be two recordings."""
    monkeypatch.setattr(plan, "TASK_SAMPLES", 2)


def test_every_task_is_done_once_by_two_processes_with_a_function_made_once_in_each(two: Cluster) -> None:
    results = list(DaskExecutor(two.address).run(partial(Square, 0.05), range(40)))
    assert sorted(square for square, _, _ in results) == [number * number for number in range(40)]
    assert {process for _, process, _ in results} == {worker.pid for worker in two.workers}
    assert len({(process, made) for _, process, made in results}) == 2


def test_only_a_few_tasks_are_taken_ahead(two: Cluster) -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    with closing(DaskExecutor(two.address).run(Square, tasks())) as results:
        for _ in range(10):
            next(results)
    assert len(taken) <= 10 + 2 * 2


def test_closing_calls_off_what_waits_and_outlasts_what_has_begun(two: Cluster, tmp_path: Path) -> None:
    with closing(DaskExecutor(two.address).run(partial(Trace, tmp_path), range(100))) as results:
        next(results)
    begun, done = ({path.stem for path in tmp_path.glob(f"*.{what}")} for what in ("begun", "done"))
    assert begun == done
    assert len(begun) <= 6
    assert {int(path.stem) for path in tmp_path.glob("*.closed")} == {worker.pid for worker in two.workers}


@pytest.mark.parametrize("kind", ["BadRecording", "DataError", "EnvironmentFault", "NoBody", "ZeroDivisionError"])
def test_what_a_task_raises_arrives_as_its_own_kind(two: Cluster, kind: str) -> None:
    expected = getattr(errors, kind, ZeroDivisionError)
    with pytest.raises(expected, match=r"task \d|7:0: fields: expected 12") as caught:
        list(DaskExecutor(two.address).run(partial(raising, kind), range(3)))
    assert type(caught.value) is expected


def test_nothing_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "ANSWER_SECONDS", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"--scheduler {address}: no Dask scheduler answers .*`dask scheduler`"):
            DaskExecutor(address)


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:8786", "tcp://127.0.0.1", "tcp://127.0.0.1:99999"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ConfigError, match=rf"--scheduler {address}: expected tcp://HOST:PORT or tls://HOST:PORT"):
        DaskExecutor(address)


def test_tls_needs_certificates() -> None:
    with pytest.raises(ConfigError, match=r"no certificates .*distributed\.comm\.tls"):
        DaskExecutor("tls://127.0.0.1:8786")


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="--executor dask needs the address of its scheduler"):
        make_executor("dask", workers=None, tasks=1)
    with pytest.raises(ConfigError, match="--workers 2: with --executor dask, the workers are those of the scheduler"):
        make_executor("dask", workers=2, tasks=1, scheduler="tcp://127.0.0.1:8786")
    with pytest.raises(ConfigError, match="only for --executor dask"):
        make_executor("processes", workers=2, tasks=1, scheduler="tcp://127.0.0.1:8786")


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "smae.data.prepare.dask")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'smae\[dask\]'"):
        make_executor("dask", workers=None, tasks=1, scheduler="tcp://127.0.0.1:8786")


def test_workers_with_other_software_or_without_the_files_are_refused(
    two: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"does not see {tmp_path}/nowhere: input and output must be on a file sys"):
        DaskExecutor(two.address, shared=[tmp_path, tmp_path / "nowhere"])
    ours = dask.software()
    monkeypatch.setattr(dask, "software", lambda: ours | {"numba": "0.1"})
    with pytest.raises(ConfigError, match=rf"has numba {ours['numba']} where 0\.1 is needed: install the same"):
        DaskExecutor(two.address)


def test_workers_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with cluster(tmp_path, workers=0) as made:
        monkeypatch.setattr(dask, "ANSWER_SECONDS", 1.0)
        with pytest.raises(ConfigError, match=r"it has no worker: start some with `dask worker tcp://"):
            DaskExecutor(made.address)
        monkeypatch.setattr(dask, "ANSWER_SECONDS", 30.0)
        made.add_worker("-c", WITHOUT_SMAE)
        with pytest.raises(ConfigError, match=r"a worker has no module smae: install smae\[dask\]"):
            DaskExecutor(made.address)


@pytest.mark.slow
def test_tasks_of_a_killed_worker_are_done_again_and_the_lost_are_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dask, "ANSWER_SECONDS", 10.0)
    with cluster(tmp_path, workers=2) as made:
        results = DaskExecutor(made.address).run(partial(Square, 0.2), range(20))
        first = next(results)
        made.kill_worker(first[1])
        assert sorted(square for square, _, _ in [first, *results]) == [number * number for number in range(20)]

        monkeypatch.setattr(dask, "ANSWER_SECONDS", 0.5)
        monkeypatch.setattr(dask, "NO_WORKER_SECONDS", 1.0)
        with closing(DaskExecutor(made.address).run(partial(Square, 0.2), range(20))) as results:
            _, last, _ = next(results)
            made.kill_worker(last)
            with pytest.raises(EnvironmentFault, match=r"has had no worker for 1 s: start workers, .*--resume"):
                list(results)

        made.add_worker()
        monkeypatch.setattr(dask, "ANSWER_SECONDS", 30.0)
        results = DaskExecutor(made.address).run(partial(Square, 0.2), range(20))
        next(results)
        made.scheduler.kill()
        with pytest.raises(EnvironmentFault, match=r"scheduler tcp://.* was lost: .*--resume"):
            list(results)


def test_a_task_that_kills_its_workers_is_an_environment_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dask, "ANSWER_SECONDS", 30.0)
    with (
        cluster(tmp_path, workers=2, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as made,
        pytest.raises(EnvironmentFault, match=r"every worker that was given task .* died of it, .*--resume"),
    ):
        list(DaskExecutor(made.address).run(deadly, range(1)))


def test_prepare_gives_the_same_store_as_in_one_process(two: Cluster, small_tasks: None, tmp_path: Path) -> None:
    raw = raw_folder.write_folder(
        tmp_path / "raw", raw_folder.files(9, bodies=2) | {"S001C001P039R001A002.skeleton": b"1\n"}
    )
    inline = prepare(raw, tmp_path / "inline.zarr", executor="inline")
    made = prepare(raw, tmp_path / "dask.zarr", executor="dask", scheduler=two.address)
    assert made.fingerprint == inline.fingerprint
    assert (made.ok, made.quarantined) == (9, inline.quarantined)
    assert verify(tmp_path / "dask.zarr").ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dask.zarr", "inline.zarr", "raw"]


def test_prepare_interrupted_on_a_cluster_goes_on_anywhere(two: Cluster, small_tasks: None, tmp_path: Path) -> None:
    raw = raw_folder.write_folder(tmp_path / "raw", raw_folder.files(30, frames=40))
    whole = prepare(raw, tmp_path / "whole.zarr", executor="inline")

    def interrupt(task: Task) -> None:
        signal.raise_signal(signal.SIGINT)

    with on_update(interrupt), pytest.raises(Interrupted, match="run the same command with --resume"):
        prepare(raw, tmp_path / "a.zarr", executor="dask", scheduler=two.address)
    done = sorted((tmp_path / "a.zarr.wip" / "done").iterdir())
    assert 1 <= len(done) < 15
    resumed = prepare(raw, tmp_path / "a.zarr", executor="inline", resume=True)
    assert resumed.fingerprint == whole.fingerprint


def test_prepare_outlives_a_killed_worker(small_tasks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = raw_folder.write_folder(tmp_path / "raw", raw_folder.files(40, frames=40))
    whole = prepare(raw, tmp_path / "whole.zarr", executor="inline")
    monkeypatch.setattr(dask, "ANSWER_SECONDS", 30.0)
    (tmp_path / "cluster").mkdir()
    with cluster(tmp_path / "cluster", workers=2) as made:
        victims = [made.workers[0].pid]

        def kill(task: Task) -> None:
            if victims:
                made.kill_worker(victims.pop())

        DaskExecutor(made.address)
        with on_update(kill):
            summary = prepare(raw, tmp_path / "a.zarr", executor="dask", scheduler=made.address)
    assert summary.fingerprint == whole.fingerprint
    assert not victims


def test_a_shard_that_was_written_elsewhere_is_missed_before_publishing(small_tasks: None, tmp_path: Path) -> None:
    raw = raw_folder.write_folder(tmp_path / "raw", raw_folder.files(6))
    whole = prepare(raw, tmp_path / "whole.zarr", executor="inline")

    def lose(task: Task) -> None:
        (tmp_path / "a.zarr.wip/store/joints/c/1/0/0").unlink(missing_ok=True)

    message = r"joints/c/1/0/0: not there as it was written: do all workers see"
    with on_update(lose), pytest.raises(EnvironmentFault, match=message):
        prepare(raw, tmp_path / "a.zarr", executor="inline")
    assert prepare(raw, tmp_path / "a.zarr", executor="inline", resume=True).fingerprint == whole.fingerprint
