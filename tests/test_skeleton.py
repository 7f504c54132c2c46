"""Joint tables: each a tree over all joints, with mirror pairs and body parts that fit together."""

from __future__ import annotations

import pytest

from smae.errors import UnknownNameError
from smae.skeleton import KINECT20, LAYOUTS, NTU25, layout

every_layout = pytest.mark.parametrize("table", LAYOUTS.values(), ids=LAYOUTS)


@every_layout
def test_bones_make_a_tree(table):
    parent = dict(table.bones)
    assert len(parent) == len(table.bones) == len(table) - 1
    (root,) = set(range(len(table))) - set(parent)
    for joint in range(len(table)):
        path = [joint]
        while path[-1] != root:
            path.append(parent[path[-1]])
            assert len(path) <= len(table), f"joint {joint} is in a circle"


@every_layout
def test_parts_hold_every_joint_once(table):
    assert sorted(joint for joints in table.parts.values() for joint in joints) == list(range(len(table)))


@every_layout
def test_mirror_pairs_are_left_and_right_of_the_same_joint(table):
    paired = [joint for pair in table.mirror for joint in pair]
    assert len(set(paired)) == len(paired)
    for left, right in table.mirror:
        assert table.joints[left].startswith("left ")
        assert table.joints[right] == table.joints[left].replace("left", "right")
    assert all("left" not in table.joints[j] for j in range(len(table)) if j not in paired)


@every_layout
def test_mirroring_maps_bones_to_bones_and_parts_to_parts(table):
    other = {a: b for pair in table.mirror for a, b in (pair, pair[::-1])}
    mirrored = {(other.get(child, child), other.get(parent, parent)) for child, parent in table.bones}
    assert mirrored == set(table.bones)
    parts = {frozenset(joints) for joints in table.parts.values()}
    assert {frozenset(other.get(joint, joint) for joint in joints) for joints in parts} == parts


@every_layout
def test_names_are_unique(table):
    assert len(set(table.joints)) == len(table)


def test_the_joints_that_the_reference_pipeline_speaks_of_are_where_it_says():
    assert len(NTU25) == 25
    assert len(KINECT20) == 20
    assert NTU25.joints[NTU25.centre] == "spine mid"
    assert (NTU25.joints[20], NTU25.joints[0], NTU25.joints[3]) == ("spine shoulder", "spine base", "head")


def test_a_layout_is_found_by_name_and_a_wrong_one_gets_a_hint():
    assert layout("ntu25") is NTU25
    with pytest.raises(UnknownNameError, match="did you mean 'ntu25'"):
        layout("ntu-25")
