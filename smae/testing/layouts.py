"""The contract of a joint layout: a tree of bones, with mirror pairs and body parts that fit it."""

from __future__ import annotations

from smae.skeleton import Layout
from smae.testing.samples import check


def check_layout(layout: Layout) -> None:
    """Check a layout for everything that masking, augmentation and the bone stream rely on.

    Raises:
        AssertionError: the first requirement that is broken, in words.
    """
    count = len(layout)
    check(len(set(layout.joints)) == count > 0, "joints must have names, each its own")
    check(0 <= layout.centre < count, "centre must be a joint's number, from 0 on")
    parent = dict(layout.bones)
    check(len(parent) == len(layout.bones) == count - 1, "every joint but the root needs one bone (child, parent)")
    for joint in range(count):
        path = [joint]
        while path[-1] in parent:
            path.append(parent[path[-1]])
            check(
                len(path) <= count and 0 <= path[-1] < count, f"the bones of joint {joint} lead in a circle, or nowhere"
            )
    joints = sorted(joint for joints in layout.parts.values() for joint in joints)
    check(joints == list(range(count)), "parts must hold every joint once")
    paired = [joint for pair in layout.mirror for joint in pair]
    check(
        len(set(paired)) == len(paired) and set(paired) <= set(range(count)), "a joint may be in one mirror pair only"
    )
    other = {a: b for pair in layout.mirror for a, b in (pair, pair[::-1])}
    mirrored = {(other.get(child, child), other.get(up, up)) for child, up in layout.bones}
    check(mirrored == set(layout.bones), "mirroring must map bones to bones: is a pair missing, or a bone one-sided?")
    parts = {frozenset(joints) for joints in layout.parts.values()}
    check(
        {frozenset(other.get(j, j) for j in joints) for joints in parts} == parts, "mirroring must map parts to parts"
    )
    sides = [joint for pair in layout.across for joint in pair]
    trunk = [*sides, *(layout.spine or ())]
    check(set(trunk) <= set(range(count)), "across and spine must hold joints' numbers")
    check(set(layout.across) <= set(layout.mirror), "pairs that run across the trunk must be mirror pairs, left first")
    check(layout.spine is None or len(set(layout.spine)) == 2, "spine must name two joints, the lower one first")
