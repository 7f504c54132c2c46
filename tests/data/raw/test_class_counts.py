"""Names of NTU's actions: all there, in order, and given only where they belong."""

from __future__ import annotations

import pytest

from smae.data.raw.labels import class_name, ntu_actions


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
