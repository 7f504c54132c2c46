"""Explaining one recording: raw files, folders, zips and stores, good and bad."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from smae.data.prepare.explain import explain
from smae.data.prepare.run import prepare
from smae.data.store import open_store
from smae.data.store.verify import verify
from smae.errors import ConfigError, DataError, UnknownNameError
from smae.viz.scene import find_clip
from tests import corpora
from tests.data import imported
from tests.data.raw_folder import files, skeleton, write_folder

NAME = "S001C002P001R001A001"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "raw", files(6))


def test_one_file_step_by_step(raw: Path) -> None:
    result = explain(raw / f"{NAME}.skeleton")
    assert (result.name, result.verdict, result.exit_code) == (NAME, "clip", 0)
    text = "\n".join((*result.raw, *result.steps))
    for words in ("BLAKE3", "LF", "3 frames, 3 rows", "tracked", "actor 1", "origin: spine mid", "clip: bodies 1"):
        assert words in text


def test_folders_and_zips_are_searched_by_name(raw: Path, tmp_path: Path) -> None:
    assert f"{NAME}.skeleton" in explain(raw, NAME).raw[0]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"deep/{NAME}.skeleton", skeleton(5, bodies=2))
    result = explain(tmp_path / "a.zip", NAME)
    assert f"a.zip!deep/{NAME}.skeleton" in result.raw[0]
    assert any("bodies: 2" in line for line in result.steps)
    with pytest.raises(UnknownNameError, match=f"did you mean '{NAME}'"):
        explain(raw, NAME[:-1] + "9")
    with pytest.raises(ConfigError, match="name one, for example"):
        explain(raw)
    with pytest.raises(ConfigError, match="nothing at"):
        explain(raw / "gone")


def test_bad_and_empty_recordings(raw: Path) -> None:
    path = raw / f"{NAME}.skeleton"
    path.write_bytes(skeleton(3)[:-40])
    result = explain(raw, NAME)
    assert (result.verdict, result.exit_code) == ("bad", 3)
    assert "quarantined" in result.steps[0]
    path.write_bytes(b"2\r\n0\r\n0\r\n")
    result = explain(raw, NAME)
    assert (result.verdict, result.exit_code) == ("no body", 0)
    assert any("frames without anybody: 1-2" in line for line in result.raw)


def test_a_stored_clip_is_described_and_compared_with_the_raw_file(raw: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    prepare(raw, store, executor="inline")
    result = explain(store, NAME)
    assert result.verdict == "stored"
    assert any("class A001 (label 0), subject 1, camera 2, setup 1, replication 1" in line for line in result.stored)
    result = explain(store, NAME, raw=raw)
    assert (result.verdict, result.exit_code) == ("clip", 0)
    assert "equals, bit for bit" in result.stored[-1]
    assert explain(store, NAME, raw=raw, mode="exact").exit_code == 0
    (raw / f"{NAME}.skeleton").write_bytes(skeleton(4, seed=99))
    result = explain(store, NAME, raw=raw)
    assert "NOT the one" in result.stored[-1]
    assert result.exit_code == 4
    with pytest.raises(ConfigError, match="--raw goes with a store"):
        explain(raw, NAME, raw=raw)


def test_what_a_store_leaves_out_is_explained_from_the_store_alone(tmp_path: Path) -> None:
    content = pickle.loads(imported.write_pickle(tmp_path / "a.pkl").read_bytes())
    notes = content["annotations"]
    notes[0]["keypoint"][0, 2, 3] = np.nan
    notes[1]["keypoint"][:] = 0
    notes[2]["label"] = "wave"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    summary = prepare(tmp_path / "a.pkl", tmp_path / "s.zarr", source="pyskl", executor="inline")
    assert (summary.ok, summary.exit_code) == (3, 3)
    assert not verify(summary.store).problems, "the list is no stray file"
    verdicts = [
        ("bad", 3, "annotations[0]", "frame 2"),
        ("no body", 0, "annotations[1]", "no body"),
        ("bad", 3, "annotations[2]", "found other types"),
    ]
    for note, (verdict, code, row, reason) in zip(notes, verdicts, strict=False):
        name = note["frame_dir"]
        result = explain(summary.store, name)
        assert (result.name, result.verdict, result.exit_code) == (name, verdict, code)
        assert f"a.pkl!{row} ({name}): " in result.stored[1]
        assert reason in result.stored[1]
        with pytest.raises(DataError, match=f"{re.escape(f'{row} ({name})')}.*it was quarantined or left out"):
            find_clip(open_store(summary.store), name)
    assert explain(summary.store, notes[0]["frame_dir"], raw=tmp_path / "a.pkl").verdict == "bad"
    with pytest.raises(UnknownNameError, match="unknown clip"):
        explain(summary.store, notes[3]["frame_dir"][:-1])
    again = prepare(tmp_path / "a.pkl", summary.store, source="pyskl", executor="inline", resume=True)
    assert (again.left_out, set(again.quarantined)) == (summary.left_out, set(summary.quarantined))
    (summary.store / "excluded.jsonl").unlink()
    assert open_store(summary.store).fingerprint == summary.fingerprint
    with pytest.raises(UnknownNameError):
        explain(summary.store, notes[1]["frame_dir"])
    (summary.store / "excluded.jsonl").write_bytes(b"{}\n")
    with pytest.raises(DataError, match=r"excluded\.jsonl: not a list"):
        explain(summary.store, notes[1]["frame_dir"])


def test_the_official_list_is_named_where_it_leaves_out(tmp_path: Path) -> None:
    made, missing = files(6), "S001C002P005R002A008"
    raw = write_folder(tmp_path / "raw", {**made, f"{missing}.skeleton": next(iter(made.values()))})
    prepare(raw, tmp_path / "s.zarr", executor="inline")
    result = explain(tmp_path / "s.zarr", missing)
    assert (result.verdict, result.exit_code) == ("left out", 0)
    assert "missing-list: on the official list of missing skeletons" in result.stored[1]


def test_resampled_clips_are_compared_as_resampled(raw: Path, tmp_path: Path) -> None:
    prepare(raw, tmp_path / "s.zarr", executor="inline", frames=8)
    result = explain(tmp_path / "s.zarr", NAME, raw=raw)
    assert "resampled to 8 frames" in result.steps[-1]
    assert not result.differs


def test_every_kind_of_line_end(raw: Path) -> None:
    path = raw / f"{NAME}.skeleton"
    lines = path.read_bytes().count(b"\n")
    for ends, counted in {"\n": f"{lines} LF", "\r\n": f"{lines} CRLF", "\r": f"{lines} CR"}.items():
        path.write_bytes(skeleton(3).replace(b"\n", ends.encode()))
        assert f"line ends: {counted}" in explain(raw, NAME).raw
    path.write_bytes(skeleton(3).replace(b"\n", b"\r", 1).replace(b"\n", b"\r\n", 1)[:-1])
    (line,) = (line for line in explain(raw, NAME).raw if line.startswith("line ends"))
    assert line == f"line ends: mixed, 1 CRLF, {lines - 3} LF, 1 CR; the last line has no end"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("phantom", ["removed: wider than a person in", "(100%; from 70% on)"]),
        ("returns", ["placed at frames 1 to", "their rows packed away from their true frames: 1"]),
        ("ties", ["left out: less motion than actor 1 (", ") and actor 2 ("]),
        ("all-wide", ["since they show a body but no actor: "]),
        ("all-short", ["removed: too short, a person has more than 11 rows", "the one that moves most was kept"]),
        ("late-and-gone", ["of them without anybody; bodies: "]),
    ],
)
def test_hard_recordings_show_the_rules_that_applied(raw: Path, kind: str, words: list[str]) -> None:
    rng = np.random.default_rng(3)
    (raw / f"{NAME}.skeleton").write_bytes(corpora.skeleton_text(corpora.recording(kind, rng), rng))
    result = explain(raw, NAME)
    assert result.steps[0] == "in reference mode"
    assert explain(raw, NAME, mode="exact").steps[0] == "in exact mode"
    for piece in words:
        assert piece in "\n".join(result.steps)


def test_rounded_clips_are_compared_as_rounded(raw: Path, tmp_path: Path) -> None:
    prepare(raw, tmp_path / "s.zarr", executor="inline", codec="int16")
    result = explain(tmp_path / "s.zarr", NAME, raw=raw)
    assert result.stored[-1].endswith("what the file gives now (rounded as int16 rounds)")
    assert not result.differs
