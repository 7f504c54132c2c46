"""Joint tables: each a tree over all joints, with mirror pairs and body parts that fit together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smae.errors import UnknownNameError
from smae.skeleton import BUILT_IN, KINECT20, LAYOUTS, NTU25
from smae.testing.sources import check_layout

every_layout = pytest.mark.parametrize("table", BUILT_IN, ids=lambda table: table.name)


@every_layout
def test_layouts_keep_the_contract(table):
    check_layout(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": ("hip",) * 20}, "joints must have names, each its own"),
        ({"centre": 20}, "centre must be a joint's number"),
        ({"bones": KINECT20.bones[1:]}, "every joint but the root needs one bone"),
        ({"bones": ((0, 1), (1, 0), *KINECT20.bones[2:])}, "in a circle"),
        ({"parts": {"all": tuple(range(19))}}, "parts must hold every joint once"),
        ({"mirror": ((4, 8), (4, 9))}, "one mirror pair only"),
        ({"mirror": KINECT20.mirror[1:]}, "mirroring must map bones to bones"),
        ({"across": ((16, 12),)}, "across the trunk must be mirror pairs, left first"),
        ({"spine": (0, 20)}, "across and spine must hold joints' numbers"),
        ({"spine": (2, 2)}, "spine must name two joints"),
        ({"parts": {"left": (*range(8), *range(12, 16)), "right": (*range(8, 12), *range(16, 20))}}, "parts to parts"),
    ],
)  # fmt: skip
def test_what_breaks_the_contract_is_refused(change, message):
    with pytest.raises(AssertionError, match=message):
        check_layout(replace(KINECT20, **change))


@every_layout
def test_mirror_pairs_are_left_and_right_of_the_same_joint(table):
    paired = [joint for pair in table.mirror for joint in pair]
    assert len(set(paired)) == len(paired)
    for left, right in table.mirror:
        assert table.joints[left].startswith("left ")
        assert table.joints[right] == table.joints[left].replace("left", "right")
    assert all("left" not in table.joints[j] for j in range(len(table)) if j not in paired)


def test_the_joints_that_the_reference_pipeline_speaks_of_are_where_it_says():
    assert len(NTU25) == 25
    assert len(KINECT20) == 20
    assert NTU25.joints[NTU25.centre] == "spine mid"
    assert (NTU25.joints[20], NTU25.joints[0], NTU25.joints[3]) == ("spine shoulder", "spine base", "head")


def test_a_layout_is_found_by_name_and_a_wrong_one_gets_a_hint():
    assert LAYOUTS.get("ntu25") is NTU25
    with pytest.raises(UnknownNameError, match="did you mean 'ntu25'"):
        LAYOUTS.get("ntu-25")
