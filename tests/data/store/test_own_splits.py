"""Splits of one's own: strict lists, groups, shares; kept beside the store without changing it."""

from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

import smae
from smae.data.prepare.run import prepare
from smae.data.store import Store, open_store
from smae.data.store.own_splits import _spread_over_classes, read_lists
from smae.data.store.splits import TEST, TRAIN, VAL, collect_parts, parse_part
from smae.errors import ConfigError, DataError
from tests.data import imported

NAMES = [f"clip{number}" for number in range(6)]


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("xsub_train", ("xsub", "train")),
        ("xsub-val", ("xsub", "val")),
        ("XSUB.Test", ("XSUB", "test")),
        ("train_xview", ("xview", "train")),
        ("train", ("split", "train")),
        ("train1", ("split1", "train")),
        ("hmdb_test2", ("hmdb-2", "test")),
        ("validation", ("split", "val")),
        ("trainval", None),
        ("train_val", None),
        ("contest", None),
        ("names", None),
    ],
)
def test_the_name_of_a_list_says_its_split_and_part(key: str, found: tuple[str, str] | None) -> None:
    assert parse_part(key) == found


def test_a_validation_list_alone_is_what_is_tested_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    lists = {"mine_train": NAMES[:4], "mine_val": NAMES[4:]}
    assert collect_parts(lists, NAMES, where="file") == {
        "mine": dict.fromkeys(NAMES[:4], TRAIN) | dict.fromkeys(NAMES[4:], TEST)
    }
    assert "there is no test part, so its part 'val' is the one that is tested on" in caplog.text
    lists["mine_test"] = [lists["mine_val"].pop()]
    roles = collect_parts(lists, NAMES, where="file")["mine"]
    assert (roles["clip4"], roles["clip5"]) == (VAL, TEST)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"mine_train": ["clip0.avi"], "mine_val": ["clip1"]}, "1 of the 1 names in 'mine_train' belong to no clip: "),
        ({"mine_train": NAMES[:4], "mine_val": NAMES[3:]}, "1 clips are in two parts of split mine: clip3"),
        ({"mine_train": NAMES[:4], "mine-train": NAMES[:3]}, "two different lists for part train of split mine"),
        ({"names": NAMES}, "the list 'names' names no part"),
    ],
)
def test_lists_that_contradict_stop_with_the_names(lists: dict[str, list[str]], message: str) -> None:
    with pytest.raises(DataError, match=f"file: {message}"):
        collect_parts(lists, NAMES, where="file")


def test_files_of_lists(tmp_path: Path) -> None:
    forms = {
        "a.csv": "name,part\nclip0,train\nclip1,test\n",
        "b.txt": "\ufeff# mine\nclip0.skeleton train\nclip1\ttest  # last\n",
        "c.toml": 'train = ["clip0"]\ntest = ["clip1"]\n',
        "d.json": '{"train": ["clip0"], "test": ["clip1"]}',
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_lists(tmp_path / name) == {"train": ["clip0"], "test": ["clip1"]}, name
    (tmp_path / "e.toml").write_text('[mine]\ntrain = ["clip0"]\n')
    assert read_lists(tmp_path / "e.toml") == {"mine_train": ["clip0"]}
    bad = {
        "clip0,train\nclip1\n": r"bad\.txt:2: expected a clip and its part",
        "clip0,learn\n": r"bad\.txt:1: expected a clip and its part",
        "# nothing\n": "it lists no clips",
    }
    for text, message in bad.items():
        (tmp_path / "bad.txt").write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_lists(tmp_path / "bad.txt")
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9 train\n")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        read_lists(tmp_path / "bad.txt")
    for name, text in {"bad.json": "[1]", "bad.toml": "train = 'clip0'"}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=r"expected (a list|lists)"):
            read_lists(tmp_path / name)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return imported.store(tmp_path / "mine.zarr", count=20)


def roles_of(store: Store, name: str) -> list[set[str]]:
    split = store.split(name)
    return [set(store.clips.name[part].tolist()) for part in (split.train, split.val, split.test)]


def test_groups_go_to_parts_and_the_store_stays_what_it_was(store: Store) -> None:
    subjects = np.unique(store.clips.subject).tolist()
    made = smae.split(store, by="subject", test=subjects[:1], val=subjects[1:2])
    again = open_store(store.path)
    assert again.fingerprint == store.fingerprint
    assert again.own_splits == ("own",)
    assert (again.clips.subject[made.test] == subjects[0]).all()
    assert (again.clips.subject[made.val] == subjects[1]).all()
    assert len(made.train) + len(made.val) + len(made.test) == len(store)
    assert smae.verify(store.path).ok
    assert smae.info(store.path).validation["own"] == len(made.val)
    assert {"own"} == again.protocols().keys() - store.protocols().keys()


def test_a_share_is_drawn_within_each_class_and_the_same_for_a_seed(store: Store) -> None:
    first = smae.split(store, name="a", share=0.3, val_share=0.2, seed=5)
    again = smae.split(store, name="b", share=0.3, val_share=0.2, seed=5)
    other = smae.split(store, name="c", share=0.3, val_share=0.2, seed=6)
    assert first.test.tolist() == again.test.tolist() != other.test.tolist()
    assert (len(first.test), len(first.val)) == (6, 4)


def test_each_class_is_tested_on_by_its_share() -> None:
    label = np.repeat(np.arange(4), [40, 20, 10, 1])
    for seed in range(20):
        order = _spread_over_classes(label, seed)
        assert sorted(order.tolist()) == list(range(71))
        counts = np.bincount(label[order[:14]], minlength=4)
        assert (np.abs(counts - 14 / 71 * np.bincount(label)) <= 1.01).all(), seed


def test_a_file_decides_and_others_are_in_no_part(store: Store, tmp_path: Path) -> None:
    names = store.clips.name.tolist()
    (tmp_path / "lists.csv").write_text(f"{names[0]},train\n{names[3]},val\n{names[1]},test\n")
    smae.split(store, name="listed", file=tmp_path / "lists.csv")
    assert roles_of(open_store(store.path), "listed") == [{names[0]}, {names[3]}, {names[1]}]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "expected one of --test"),
        ({"by": "subject", "test": [999]}, DataError, "no clip of subject 999: the store has subject 1"),
        ({"by": "subject", "test": [1], "val": [1]}, ConfigError, "in --test and in --val"),
        ({"test": [1]}, ConfigError, "--by None: expected one of subject"),
        ({"by": "height", "test": [1]}, ConfigError, "--by height: expected one of subject"),
        ({"share": 1.5}, ConfigError, "expected shares that leave some for training"),
        ({"share": 0.2, "name": "../x"}, ConfigError, "expected up to 64 letters"),
        ({"share": 0.2, "name": "all"}, ConfigError, "that is a protocol of the data set"),
        ({"share": 0.2, "name": "ntu60-xsub"}, ConfigError, "that is a protocol of the data set"),
    ],
)
def test_what_cannot_be_split_is_refused_and_nothing_is_written(
    store: Store, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        smae.split(store, **options)
    assert not (Path(store.path) / "splits.json").exists()


def test_a_split_is_replaced_only_when_asked(store: Store) -> None:
    first = smae.split(store, share=0.2)
    with pytest.raises(ConfigError, match=r"has a split own already: .* add --overwrite"):
        smae.split(store, share=0.4)
    assert open_store(store.path).split("own").test.tolist() == first.test.tolist()
    assert len(smae.split(store, share=0.4, overwrite=True).test) > len(first.test)


def test_two_writers_at_once_lose_nothing(store: Store) -> None:
    threads = [
        threading.Thread(target=smae.split, args=(store,), kwargs={"name": f"s{n}", "share": 0.2}) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert open_store(store.path).own_splits == tuple(f"s{n}" for n in range(6))
    assert list(Path(store.path).parent.glob("*.lock")) == []


def test_a_damaged_file_of_splits_is_refused_by_name(store: Store) -> None:
    smae.split(store, share=0.2)
    path = Path(store.path) / "splits.json"
    content = json.loads(path.read_text())
    content["splits"]["own"]["train"].append(content["splits"]["own"]["test"][0])
    for text in (json.dumps(content), path.read_text()[:200], "[]", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(DataError, match=r"splits\.json: .* remove that file and run smae split again"):
            open_store(store.path)
    path.unlink()
    assert open_store(store.path).own_splits == ()


def test_a_resumed_run_refuses_a_split_that_was_replaced(store: Store, tmp_path: Path) -> None:
    smae.split(store, share=0.3)
    settings = {"train.max_steps": 2, "encoder.dim": 16, "encoder.heads": 2, "train.batch": 8}
    arguments = {"data": store.path, "out": tmp_path / "run", "protocol": "own", "device": "cpu"}
    smae.pretrain(recipe="cpu", settings=settings, **arguments)
    smae.split(store, share=0.5, overwrite=True)
    with pytest.raises(DataError, match="train part: "):
        smae.pretrain(resume=True, **arguments)


def test_pretraining_needs_no_parts_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rng = np.random.default_rng(0)
    notes = [
        {"frame_dir": name, "label": number % 2, "total_frames": 12, "keypoint": imported.bodies(rng, 12)}
        for number, name in enumerate(NAMES)
    ]
    (tmp_path / "own.pkl").write_bytes(pickle.dumps(notes))
    prepare(tmp_path / "own.pkl", tmp_path / "own.zarr", source="pyskl", executor="inline")
    settings = {"train.max_steps": 1, "encoder.dim": 16, "encoder.heads": 2}
    result = smae.pretrain(
        data=tmp_path / "own.zarr", out=tmp_path / "run", recipe="cpu", settings=settings, device="cpu"
    )
    assert "pre-training on all 6 clips" in caplog.text
    assert result.test_clips == 0
    assert result.run.describe()["config"]["protocol"] == "all"
    with pytest.raises(DataError, match=r"protocol 'all' has 6 train and 0 test clips .* smae split"):
        smae.evaluate(run=tmp_path / "run", device="cpu")
    smae.split(tmp_path / "own.zarr", share=0.5)
    _, found = smae.evaluate(run=tmp_path / "run", protocol="own", probes=["knn"], device="cpu")
    assert found.rows


def test_prepare_takes_a_file_of_parts(tmp_path: Path) -> None:
    raw = imported.write_pickle(tmp_path / "a.pkl")
    names = [note["frame_dir"] for note in pickle.loads(raw.read_bytes())["annotations"]]
    (tmp_path / "parts.toml").write_text(f"train = {names[:3]!r}\nval = {names[3:4]!r}\ntest = {names[4:]!r}\n")
    prepare(raw, tmp_path / "s.zarr", source="pyskl", executor="inline", split=tmp_path / "parts.toml")
    split = open_store(tmp_path / "s.zarr").split("own")
    assert (len(split.train), len(split.val), len(split.test)) == (3, 1, len(names) - 4)
    (tmp_path / "parts.toml").write_text("train = ['not-there']\n")
    with pytest.raises(DataError, match="belong to no clip"):
        prepare(raw, tmp_path / "t.zarr", source="pyskl", executor="inline", split=tmp_path / "parts.toml")


def test_best_val_uses_the_validation_part(store: Store) -> None:
    from smae.eval.probes import ProbeContext, validation_context
    from smae.train.config import resolve

    subjects = np.unique(store.clips.subject).tolist()
    smae.split(store, by="subject", test=subjects[:1], val=subjects[1:2])
    again = open_store(store.path)
    context = ProbeContext(again, again.split("own"), resolve("cpu"), None)
    inner = validation_context(context)
    assert inner.split.test.tolist() == context.split.val.tolist()
    assert inner.split.train.tolist() == context.split.train.tolist()
