from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smae import progress
from smae.data.prepare import CODECS, PrepareSettings, workspace
from smae.data.prepare import plan as plans
from smae.data.prepare.run import prepare
from smae.data.prepare.summary import PrepareSummary
from smae.data.prepare.worker import _resampled
from smae.data.raw.recording import MISSING, Clip
from smae.data.store import open_store
from smae.data.store.chunks import JOINT_CODECS
from smae.data.store.verify import verify
from smae.errors import ConfigError, DataError, EnvironmentFault, Interrupted, LockedError
from tests.data.progress_hook import on_update
from tests.data.raw_folder import files, names, skeleton, write_folder, write_zip

LONG = 1500
"""Frames that make 60 small files fill more than one shard: 60 x 1,500 rows of 65,536."""
TASK = 7
"""Samples of a task in these tests: 9 tasks for 60 files."""


@pytest.fixture(autouse=True, scope="module")
def small_tasks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "TASK_SAMPLES", TASK)
        yield


def run(raw: Path, out: Path, **options: Any) -> PrepareSummary:
    return prepare(raw, out, **{"executor": "inline", **options})


def adds_up(summary: PrepareSummary) -> bool:
    parts = summary.ok + sum(summary.excluded.values()) + len(summary.quarantined) + summary.ignored
    return parts == summary.found


def everything_under(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("prepare") / "raw", files(60))


@pytest.fixture(scope="module")
def fingerprint(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return run(raw, tmp_path_factory.mktemp("undisturbed") / "x.zarr", frames=LONG).fingerprint


def test_a_folder_becomes_a_store(tmp_path: Path) -> None:
    contents = files(7, frames=20) | {f"{names(8)[7]}.skeleton": skeleton(15, seed=9, bodies=2)}
    seen: list[tuple[str, int, int | None, str, str]] = []
    with on_update(lambda task: seen.append((task.name, task.done, task.total, task.unit, task.note))):
        summary = run(write_folder(tmp_path / "raw", contents), tmp_path / "out.zarr")
    assert (summary.found, summary.ok, summary.exit_code, summary.dataset) == (8, 8, 0, "ntu60")
    assert (summary.frames, summary.rows) == (7 * 20 + 15, 7 * 20 + 2 * 15)
    assert summary.bytes_read == sum(len(data) for data in contents.values())
    assert seen[-1][:4] == ("prepare", 8, 8, "files")
    assert re.fullmatch(r"[\d,]+ files/s  [\d,]+ MB/s", seen[-1][4])
    store = open_store(tmp_path / "out.zarr")
    assert store.fingerprint == summary.fingerprint
    assert list(store.clips.name) == sorted(names(8))
    assert store.classes == ("A001",)
    assert store.clip(0).shape == (1, 20, 25, 3)
    assert verify(tmp_path / "out.zarr").ok
    assert everything_under(tmp_path) == ["out.zarr", "raw"]


def test_workers_order_paths_and_packing_change_no_byte(raw: Path, fingerprint: str, tmp_path: Path) -> None:
    contents = files(60)
    backwards = dict(reversed(contents.items()))
    half = dict(list(contents.items())[:30])
    elsewhere = write_folder(tmp_path / "else where" / "raw", {f"sub/{name}": data for name, data in backwards.items()})
    mixed = write_folder(tmp_path / "mixed", {name: contents[name] for name in contents if name not in half})
    write_zip(mixed / "rest.zip", {f"nturgb+d_skeletons/{name}": data for name, data in half.items()})
    zipped = write_zip(tmp_path / "all.zip", backwards)
    for number, source in enumerate((elsewhere, mixed, zipped)):
        assert run(source, tmp_path / f"{number}.zarr", frames=LONG).fingerprint == fingerprint


def test_two_workers_write_the_same_store(raw: Path, fingerprint: str, tmp_path: Path) -> None:
    summary = run(raw, tmp_path / "x.zarr", frames=LONG, executor="processes", workers=2)
    assert summary.fingerprint == fingerprint


def test_bad_files_are_quarantined_and_the_rest_is_prepared(tmp_path: Path) -> None:
    contents = files(9)
    stray, cut, empty = list(contents)[2:5]
    contents[stray] = contents[stray].replace(b"960.3", b"960. 3", 1)
    contents[cut] = contents[cut][:-700]
    contents[empty] = b""
    notes: list[str] = []
    with on_update(lambda task: notes.append(task.note)):
        summary = run(write_folder(tmp_path / "raw", contents), tmp_path / "out.zarr")
    assert notes[-1].endswith(" MB/s  3 bad")
    assert (summary.ok, summary.exit_code) == (6, 3)
    assert adds_up(summary)
    by_path = {refused.path: refused for refused in summary.quarantined}
    assert {path: refused.code for path, refused in by_path.items()} == {
        stray: "fields",
        cut: "truncated",
        empty: "empty",
    }
    assert by_path[stray].line == 5
    assert len(by_path[stray].sha256) == 64
    lines = (tmp_path / "out.zarr" / "quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == sorted([stray, cut, empty])
    assert open_store(tmp_path / "out.zarr").attributes.counts["quarantined"] == 3
    assert verify(tmp_path / "out.zarr").ok


def test_every_file_found_is_counted_once(tmp_path: Path) -> None:
    contents = files(6)
    first, without_body, copied, *_ = contents
    contents[without_body] = b"2\n0\n0\n"
    contents["S001C002P005R002A008.skeleton"] = skeleton()
    contents["notes.txt"] = b"hello"
    contents[f"again/{copied}"] = contents[copied]
    contents[first] = contents[first].replace(b"256.1", b"nan", 1)
    raw = write_folder(tmp_path / "raw", contents)
    os.mkfifo(raw / f"{names(8)[7]}.skeleton")
    summary = run(raw, tmp_path / "out.zarr")
    assert summary.found == 6 + 4
    assert summary.excluded == {"missing-list": 1, "no-body": 1}
    assert (summary.ok, summary.ignored, summary.noted["duplicate"]) == (5, 2, 1)
    assert [refused.code for refused in summary.quarantined] == ["not-regular"]
    assert adds_up(summary)
    with_missing = run(raw, tmp_path / "all.zarr", missing_list=False)
    assert (with_missing.ok, with_missing.excluded) == (6, {"no-body": 1})
    assert adds_up(with_missing)


def test_a_sample_with_two_contents_stops_before_anything_is_written(tmp_path: Path) -> None:
    contents = files(3)
    twice = next(iter(contents))
    raw = write_folder(tmp_path / "raw", contents | {f"other/{twice}": skeleton(seed=99)})
    with pytest.raises(DataError, match=f"{names(1)[0]} occurs with different contents"):
        run(raw, tmp_path / "out.zarr")
    assert everything_under(tmp_path) == ["raw"]


def test_too_many_bad_files_publish_nothing_but_their_list(tmp_path: Path) -> None:
    contents = files(20)
    bad = list(contents)[:4]
    raw = write_folder(tmp_path / "raw", contents | dict.fromkeys(bad, b"junk"))
    with pytest.raises(DataError, match=r"4 of 20 recordings are bad, more than --max-bad 0.01 allows \(3\)") as caught:
        run(raw, tmp_path / "out.zarr")
    assert caught.value.exit_code == 4
    listed = tmp_path / "out.zarr.wip" / "quarantine.jsonl"
    assert str(listed) in str(caught.value)
    assert len(listed.read_text().splitlines()) == 4
    assert not (tmp_path / "out.zarr").exists()
    summary = run(raw, tmp_path / "out.zarr", max_bad=0.2, resume=True)
    assert (summary.ok, len(summary.quarantined)) == (16, 4)
    assert everything_under(tmp_path) == ["out.zarr", "raw"]


def test_max_bad_0_and_strict_tolerate_nothing(tmp_path: Path) -> None:
    contents = files(20)
    bad = list(contents)[3]
    raw = write_folder(tmp_path / "raw", contents | {bad: b"junk"})
    with pytest.raises(DataError, match="1 of 20"):
        run(raw, tmp_path / "a.zarr", max_bad=0.0)
    with pytest.raises(DataError, match=f"{bad}.*--strict stops at the first bad file"):
        run(raw, tmp_path / "b.zarr", strict=True)


def test_folders_without_usable_recordings(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match="is empty"):
        run(empty, tmp_path / "out.zarr")
    other = write_folder(tmp_path / "other", {"a.txt": b"", "b.txt": b""})
    with pytest.raises(DataError, match=r"looked for \.skeleton files or zip members, as S001.*found 2 other files"):
        run(other, tmp_path / "out.zarr")
    without_body = write_folder(tmp_path / "without-body", dict.fromkeys(files(2), b"1\n0\n"))
    with pytest.raises(DataError, match="none of 2 recordings can be used"):
        run(without_body, tmp_path / "out.zarr")


def test_paths_that_cannot_work_are_refused_before_any_work(raw: Path, tmp_path: Path) -> None:
    checks: list[tuple[Path, Path, str]] = [
        (tmp_path / "none", tmp_path / "out", "no input at"),
        (raw, raw, "this output would replace, or be inside"),
        (raw, raw / "sub" / "out.zarr", "this output would replace, or be inside"),
        (raw, raw.parent, "this output would replace, or be inside"),
    ]
    for source, out, message in checks:
        with pytest.raises(ConfigError, match=message):
            run(source, out)
    assert everything_under(tmp_path) == []


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "exactly"},
        {"frames": 0},
        {"workers": 0},
        {"max_bad": 1.5},
        {"max_bad": float("nan")},
        {"max_range": float("nan")},
        {"executor": "threads"},
        {"source": "ntv"},
    ],
)
def test_settings_that_cannot_work_are_refused(raw: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        run(raw, tmp_path / "out.zarr", **options)
    assert everything_under(tmp_path) == []


def test_existing_outputs_stay_without_overwrite(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    first = run(raw, out)
    with pytest.raises(ConfigError, match="--overwrite"):
        run(raw, out)
    assert run(raw, out, resume=True).fingerprint == first.fingerprint
    with pytest.raises(DataError, match="frames was None, now 5"):
        run(raw, out, resume=True, frames=5)
    second = run(raw, out, overwrite=True, frames=5)
    assert open_store(out).fingerprint == second.fingerprint != first.fingerprint
    assert everything_under(tmp_path) == ["out.zarr"]


@pytest.mark.parametrize("options", [{"overwrite": True}, {"resume": True}, {}])
def test_foreign_outputs_and_inputs_are_never_replaced(raw: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    (tmp_path / "letter.txt").write_text("dear")
    (tmp_path / "link").symlink_to(tmp_path / "home")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("home", "letter.txt", "link", "loop"):
        reason = "is (there already and is not a store, so it|a link, which) is not replaced"
        with pytest.raises(ConfigError, match=reason):
            run(raw, tmp_path / name, **options)
    copy = write_folder(tmp_path / "raw", files(2))
    for out in (copy, copy / "x.zarr", tmp_path):
        with pytest.raises(ConfigError, match="this output would replace, or be inside"):
            run(copy, out, **options)
    assert everything_under(tmp_path) == ["home", "letter.txt", "link", "loop", "raw"]
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"
    assert everything_under(copy) == sorted(files(2))


def test_an_empty_folder_may_become_the_store(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "out.zarr").mkdir()
    assert run(raw, tmp_path / "out.zarr").ok == 60


def test_the_codecs_of_the_command_line_are_those_of_the_store() -> None:
    assert tuple(JOINT_CODECS) == CODECS


def test_resume_with_nothing_there_simply_starts(raw: Path, tmp_path: Path) -> None:
    assert run(raw, tmp_path / "out.zarr", resume=True).ok == 60


@contextmanager
def interrupt_after(updates: int) -> Iterator[None]:
    """Send SIGINT after a number of finished tasks."""
    seen: list[int] = []

    def interrupt(task: progress.Task) -> None:
        seen.append(task.done)
        if len(seen) == updates:
            signal.raise_signal(signal.SIGINT)

    with on_update(interrupt), pytest.raises(Interrupted, match="--resume") as caught:
        yield
    assert caught.value.exit_code == 130


@pytest.mark.parametrize("tasks", [1, 7, 9])
def test_an_interrupted_run_resumes_to_the_same_bytes(raw: Path, fingerprint: str, tmp_path: Path, tasks: int) -> None:
    out = tmp_path / "out.zarr"
    with interrupt_after(tasks):
        run(raw, out, frames=LONG)
    assert everything_under(tmp_path) == ["out.zarr.wip"]
    with pytest.raises(ConfigError, match="unfinished work"):
        run(raw, out, frames=LONG)
    summary = run(raw, out, frames=LONG, resume=True)
    assert summary.fingerprint == fingerprint
    assert summary.ok == 60
    contents = files(60)
    rest = sorted(contents)[TASK * tasks :]
    assert summary.bytes_read == sum(len(contents[name]) for name in rest), "what was done is not done again"
    assert everything_under(tmp_path) == ["out.zarr"]


def test_resume_with_other_inputs_or_settings_lists_each_difference(tmp_path: Path) -> None:
    contents = files(10)
    raw, out = write_folder(tmp_path / "raw", contents), tmp_path / "out.zarr"
    with interrupt_after(1):
        run(raw, out)
    gone, changed = list(contents)[:2]
    (raw / gone).unlink()
    (raw / changed).write_bytes(skeleton(4))
    (raw / f"{names(11)[10]}.skeleton").write_bytes(skeleton())
    with pytest.raises(DataError) as caught:
        run(raw, out, resume=True, max_range=10.0)
    message = str(caught.value)
    for part in ("max_range was 20.0, now 10.0", f"gone: {gone[:20]}", f"changed: {changed[:20]}", "new: S001"):
        assert part in message
    assert run(raw, out, overwrite=True).ok == 10


def test_damage_to_unfinished_work_is_done_again(raw: Path, fingerprint: str, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    with interrupt_after(8):
        run(raw, out, frames=LONG)
    shard = tmp_path / "out.zarr.wip/store/joints/c/0/0/0"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    (tmp_path / "out.zarr.wip/done/000001.json").write_bytes(b'{"half')
    (tmp_path / "out.zarr.wip/store/state/c/9.partial").write_bytes(b"x")
    assert run(raw, out, frames=LONG, resume=True).fingerprint == fingerprint


def refuse_once(call: str, number: int) -> Callable[..., Any]:
    """Return ``os.<call>``, whose call ``number`` finds the disk full."""
    original, calls = getattr(os, call), iter(range(10**9))

    def refusing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args, **kwargs)

    return refusing


def survives(raw: Path, folder: Path, patch: pytest.MonkeyPatch, *, call: str, number: int) -> str | None:
    """Let one call fail and resume; return the fingerprint, or None where no call was refused any more."""
    out = folder / f"{call}{number}.zarr"
    with patch.context() as patched:
        patched.setattr(os, call, refuse_once(call, number))
        try:
            run(raw, out, frames=LONG)
        except EnvironmentFault as error:
            message, code = str(error), error.exit_code
        else:
            return None
    assert code == 5
    assert "No space left on device" in message
    assert str(folder) in message
    fingerprint = run(raw, out, frames=LONG, resume=True).fingerprint
    assert out.name in everything_under(folder)
    assert not list(folder.glob("*.wip")) + list(folder.glob("*.lock"))
    return fingerprint


@pytest.mark.parametrize(("call", "number"), [("fsync", 0), ("fsync", 6), ("fsync", 40), ("replace", 1), ("rename", 0)])
def test_a_full_disk_is_reported_and_resumed_from(
    raw: Path, fingerprint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    assert survives(raw, tmp_path, monkeypatch, call=call, number=number) == fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fsync", "replace", "rename", "unlink", "truncate"])
def test_a_disk_that_fills_at_any_moment_is_reported_and_resumed_from(
    raw: Path, fingerprint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    for number in range(1000):
        result = survives(raw, tmp_path, monkeypatch, call=call, number=number)
        if result is None:
            break
        assert result == fingerprint


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_replaced_store_stays_until_the_new_one_is_there(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_step: bool
) -> None:
    out = tmp_path / "out.zarr"
    old = run(raw, out).fingerprint
    original = os.rename

    def refuse(source: Any, target: Any) -> None:
        if os.fspath(target) == os.fspath(out) and os.path.basename(source) == "store":
            raise OSError(errno.EIO, "Input/output error")
        original(source, target)

    def exchange(one: Path, other: Path) -> bool:
        if in_one_step:
            raise OSError(errno.EIO, "Input/output error")
        return False

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        patch.setattr(workspace, "exchange", exchange)
        with pytest.raises(EnvironmentFault):
            run(raw, out, overwrite=True, frames=5)
    assert open_store(out).fingerprint == old
    with pytest.raises(ConfigError, match="is there already"):
        run(raw, out, frames=5)
    assert open_store(out).fingerprint == old
    new = run(raw, out, resume=True, frames=5).fingerprint
    assert open_store(out).fingerprint == new != old
    assert everything_under(tmp_path) == ["out.zarr"]


def test_one_writer_at_a_time(raw: Path, tmp_path: Path) -> None:
    lock = tmp_path / "out.zarr.lock"
    with open(lock, "w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(LockedError, match="another process is writing") as caught:
            run(raw, tmp_path / "out.zarr")
        assert caught.value.exit_code == 6
    assert run(raw, tmp_path / "out.zarr").ok == 60
    assert everything_under(tmp_path) == ["out.zarr"]


def test_exact_mode_and_frames_reach_the_store(tmp_path: Path) -> None:
    raw = write_folder(tmp_path / "raw", files(3))
    summary = run(raw, tmp_path / "out.zarr", mode="exact", frames=11)
    store = open_store(tmp_path / "out.zarr")
    assert (store.mode, store.attributes.frames) == ("exact", 11)
    assert store.clips.frames.tolist() == [11, 11, 11]
    assert summary.frames == 33
    assert np.isfinite(store.rows(0, store.row_count)).all()


def test_the_plan_contains_no_paths_or_machine_names(raw: Path) -> None:
    text = plans.make_plan(raw, PrepareSettings()).encode().decode()
    assert str(raw) not in text
    assert os.uname().nodename not in text


def test_gaps_are_missing_after_resampling() -> None:
    joints = np.ones((1, 4, 25, 3), np.float32)
    joints[0, 2] = np.nan
    state = np.full((1, 4, 25), 2, np.uint8)
    state[0, 2] = MISSING
    clip = _resampled(Clip(joints=joints, state=state), 9)
    assert clip.joints.shape == (1, 9, 25, 3)
    assert np.array_equal(np.isnan(clip.joints).any(-1), clip.state == MISSING)
    assert (clip.state == MISSING).any()
    assert (clip.state == 2).any()
