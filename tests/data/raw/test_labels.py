"""Names of classes: read from a file in three spellings, kept in the store, shown in place of NTU's."""

from __future__ import annotations

from pathlib import Path

import pytest

from smae.data.prepare import PrepareSettings
from smae.data.prepare.run import prepare
from smae.data.raw.labels import (
    CLASSES_FILE,
    class_name,
    class_names,
    load_class_names,
    names_note,
    ntu_actions,
    read_class_names,
)
from smae.data.store import open_store
from smae.data.store.info import classes
from smae.data.synthetic.synth import CLASSES, synthesise
from smae.errors import ConfigError, DataError
from smae.viz.scene import scene_of_clip, scene_of_raw
from tests.data.raw_folder import files, write_folder

IDS = ("A001", "A002", "A010")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A001,squat\nA010,lunge\n", {"A001": "squat", "A010": "lunge"}),
        ("1, squat\n010; lunge, left\n", {"A001": "squat", "A010": "lunge, left"}),
        ("squat\r\nlunge\r\n", {"A001": "squat", "A002": "lunge"}),
        ("\ufeff# named by hand\n\nA002\tsit → stand\n", {"A002": "sit → stand"}),
        ("7,no such class\n", {}),
        ("# my actions\nsquat\n\n  # more\nlunge\n", {"A001": "squat", "A002": "lunge"}),
        ("0,squat\n1,lunge\n9,bow\n", {"A001": "squat", "A002": "lunge", "A010": "bow"}),
        ("A1. squat\nA02. lunge\n", {"A001": "squat", "A002": "lunge"}),
        ("id,name\n1,squat\n2,lunge\n", {"A001": "squat", "A002": "lunge"}),
        ("1. squat\n10. lunge\n", {"A001": "squat", "A010": "lunge"}),
        ("0: squat\n1: 2 lunges\n", {"A001": "squat", "A002": "2 lunges"}),
        ("2 steps\nlunge\n", {"A001": "2 steps", "A002": "lunge"}),
    ],
)
def test_names_are_read_however_they_are_spelt(tmp_path: Path, text: str, names: dict[str, str]) -> None:
    file = tmp_path / "names.txt"
    file.write_text(text, encoding="utf-8", newline="")
    assert read_class_names(file, IDS) == names


def test_ids_without_a_number_are_named_by_themselves_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("wave1,waving\n", encoding="utf-8")
    assert read_class_names(file, ("wave1", "bow")) == {"wave1": "waving"}


def test_numbers_from_0_are_taken_as_the_classes_show(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("0,nothing\n1,squat\n2,lunge\n", encoding="utf-16")
    assert read_class_names(file, ("c0", "c1")) == {"c0": "nothing", "c1": "squat"}, "ids that begin at 0 themselves"
    assert read_class_names(file, ("A001", "A003")) == {"A001": "nothing", "A003": "lunge"}
    assert read_class_names(file, ("A001", "A002")) == {"A001": "nothing", "A002": "squat"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1,squat\n01,lunge\n", "names.txt:2: class 01 has the name 'squat' already"),
        (b"1,\x1b[31mred\n", "names.txt:1: expected a name of at most 100 printable characters"),
        (b"1," + b"x" * 101, "at most 100 printable"),
        (b"\xff\xfe\x00", "class names cannot be read"),
        ("1,挥手\n".encode("gbk"), "class names cannot be read: not UTF-8 text (byte 2 is 0xbb): it is in another"),
        (b"1,squat\nlunge\n", "names.txt:2: a name without a number, where other lines have one"),
        (b"x" * (2**20 + 1), "which no file of class names has"),
    ],
)
def test_what_is_no_list_of_names_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_class_names(file, IDS)
    assert message in str(caught.value)


def test_synthetic_recordings_have_names_of_their_own(tmp_path: Path) -> None:
    synthesise(tmp_path / "raw", actions=2, subjects=2, cameras=1, replications=1, hard=False)
    summary = prepare(tmp_path / "raw", tmp_path / "own.zarr", executor="inline")
    assert (summary.found, summary.ignored) == (4, 0), "the list of names is no stray file"
    store = open_store(tmp_path / "own.zarr")
    own = [f"{id_} {name}" for id_, name in list(CLASSES.items())[:2]]
    assert class_names(store) == own == [one.name for one in classes(store)]
    assert names_note(store) == ""
    assert scene_of_clip(store, 0).title.endswith(own[0])
    name = str(store.clips.name[0])
    file = tmp_path / "raw" / f"{name}.skeleton"
    assert scene_of_raw(file, None, PrepareSettings()).title.endswith(own[0])
    (tmp_path / "raw" / CLASSES_FILE).write_bytes(b"\xff")
    assert scene_of_raw(file, None, PrepareSettings()).title.endswith("A001 drink water"), "a picture needs no names"


def test_names_are_part_of_what_a_store_is(tmp_path: Path) -> None:
    raw, out = write_folder(tmp_path / "raw", files(3)), tmp_path / "out.zarr"
    prepare(raw, out, executor="inline")
    plain = open_store(out)
    assert "names" not in plain.attributes.origin
    assert names_note(plain).startswith("Class names are NTU RGB+D's")
    names = tmp_path / "names.txt"
    names.write_text("A001,hop\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"names was None, now \{'A001': 'hop'\}"):
        prepare(raw, out, executor="inline", resume=True, classes=names)
    prepare(raw, out, executor="inline", overwrite=True, classes=names)
    named = open_store(out)
    assert named.names == {"A001": "hop"}
    assert named.fingerprint != plain.fingerprint


def test_a_file_that_names_nothing_here_is_refused_before_any_work(tmp_path: Path) -> None:
    raw = write_folder(tmp_path / "raw", files(3))
    (raw / CLASSES_FILE).write_text("999,nothing\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="names none of the classes that occur, such as A001"):
        prepare(raw, tmp_path / "out.zarr", executor="inline")
    assert not (tmp_path / "out.zarr").exists()


def test_classes_that_a_file_leaves_out_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "names.txt").write_text("squat\n")
    with caplog.at_level("INFO"):
        assert load_class_names(tmp_path, IDS, given=tmp_path / "names.txt") == {"A001": "squat"}
    assert "names.txt: 2 of 3 classes have no name there: A002, A010" in caplog.text


def test_there_are_120_different_names():
    names = ntu_actions()
    assert len(names) == len(set(names)) == 120
    assert all(name == name.strip() and name for name in names)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("A001", "drink water"),
        ("A013", "tear up paper"),
        ("A031", "pointing to something with finger"),
        ("A050", "punching/slapping other person"),
        ("A060", "walking apart from each other"),
        ("A061", "put on headphone"),
        ("A099", "running on the spot"),
        ("A120", "finger-guessing game (playing rock-paper-scissors)"),
    ],
)
def test_an_id_gets_its_name(label, name):
    assert class_name("ntu120", label) == f"{label} {name}"


@pytest.mark.parametrize(
    ("dataset", "label"),
    [("nw-ucla", "A001"), ("ntu60", "wave"), ("ntu120", "A121"), ("ntu120", "A000"), ("ntu60", "")],
)
def test_other_classes_stay_as_they_are(dataset, label):
    assert class_name(dataset, label) == label
