from __future__ import annotations

from pathlib import Path

import pytest

from smae.data.raw.ntu import ntu_missing, parse_name
from smae.data.store.clips import ClipFacts

OFFICIAL = Path(__file__).resolve().parents[2] / "../shared/data/ntu"


def test_a_name_gives_its_five_numbers() -> None:
    name = "S018C002P106R001A120"
    assert parse_name(name) == ClipFacts(name, "A120", setup=18, camera=2, subject=106, replication=1)


@pytest.mark.parametrize(
    "text",
    ["", "S001C001P001R001A01", "S001C001P001R001A0011", "s001c001p001r001a001", "S001C001P001R001A001 ",
     "S000C001P001R001A001", "S001C001P001R001A٠٠١", "xS001C001P001R001A001", "S001C001P001R001A001\n"],
)  # fmt: skip
def test_other_forms_are_no_names(text: str) -> None:
    assert parse_name(text) is None


def test_the_missing_list_holds_535_names_302_of_them_of_ntu60() -> None:
    parsed = [parse_name(name) for name in ntu_missing()]
    assert len(parsed) == 535
    assert None not in parsed
    assert sum(name is not None and name.setup <= 17 for name in parsed) == 302


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official lists are not beside the repository")
def test_the_missing_list_is_the_official_one() -> None:
    assert ntu_missing() == set((OFFICIAL / "missing_ntu120.txt").read_text().split())
    of_ntu60 = {name for name in ntu_missing() if int(name[1:4]) <= 17}
    assert of_ntu60 == set((OFFICIAL / "missing_ntu60.txt").read_text().split())
