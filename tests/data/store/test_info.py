"""Statistics and dataset card agree with the store: counts, protocols, settings, licence."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import smae
from smae import dataset_card
from smae.data.raw.recording import Clip
from smae.data.store.clips import ClipFacts
from smae.data.store.writer import Header, write_store
from smae.skeleton import KINECT20


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    smae.synthesise(folder / "ntu", actions=2, subjects=3, cameras=2, replications=1, hard=False)
    (folder / "ntu" / "S001C001P001R001A001.skeleton").write_text("12\n")
    return smae.prepare(folder / "ntu", folder / "ntu.zarr", executor="inline", max_bad=1.0).store


def test_card_agrees_with_info(store: Path) -> None:
    card, about = dataset_card(store), smae.info(store)
    assert card.startswith("# ntu.zarr\n")
    assert f"| fingerprint | `{about.fingerprint}` |" in card
    for name, (train, test) in about.protocols.items():
        assert f"| {name} | {train} / {test} |" in card
    assert f"of {about.counts['found']} files found, {about.clips} became clips" in card
    assert "- 1 bad files, listed in `quarantine.jsonl`" in card
    assert "- source `ntu`" in card
    assert "- mode `reference`: as in published results" in card
    assert "| 0 | A001 drink | " in card
    assert "{" not in card
    assert "ROSE Lab" in card


def test_tables_of_the_card_are_valid(store: Path) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", dataset_card(store), re.MULTILINE):
        rows = table.splitlines()
        assert set(rows[1]) == {"|", "-"}
        assert len({row.count("|") for row in rows}) == 1
        assert len(rows) > 2


def test_card_of_other_data_names_no_ntu_licence(tmp_path: Path) -> None:
    clip = Clip(joints=np.zeros((1, 4, 20, 3), np.float32), state=np.full((1, 4, 20), 2, np.uint8))
    header = Header(layout=KINECT20, mode="exact", dataset="mine", classes=("sit",))
    split = np.array([1], np.uint8)
    write_store(
        tmp_path / "mine.zarr", header=header, clips=[(ClipFacts("one", "sit"), clip)], splits={"mine-xsub": split}
    )

    card = dataset_card(tmp_path / "mine.zarr")

    assert "- source `unknown`" in card
    assert "| 0 | sit | 1 |" in card
    assert "ROSE Lab" not in card
    assert "The licence of this store is that of the recordings" in card


def test_info_classes_and_card_take_stores_paths_and_the_default(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = smae.open_store(store)
    for function in (smae.info, smae.classes, dataset_card):
        assert function(opened) == function(store) == function(str(store))
    monkeypatch.chdir(store.parent)
    assert smae.info().fingerprint == opened.fingerprint
    assert [entry.id for entry in smae.classes()] == list(opened.classes)
