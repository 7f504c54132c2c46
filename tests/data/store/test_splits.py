from __future__ import annotations

import numpy as np
import pytest

from smae.data.store.clips import ClipFacts, ClipTable, build_table
from smae.data.store.splits import NTU60_SUBJECTS, NTU120_SUBJECTS, find_split, fitting
from smae.errors import DataError, UnknownNameError


def table(rows: list[tuple[int, int, int, int]]) -> ClipTable:
    """Clips of one frame each, from (setup, camera, subject, action)."""
    facts = [
        ClipFacts(f"S{s:03}C{c:03}P{p:03}R001A{a:03}", f"A{a:03}", subject=p, camera=c, setup=s, replication=1)
        for s, c, p, a in rows
    ]
    ones = [1] * len(facts)
    classes = sorted({fact.action for fact in facts})
    return build_table(
        facts, offset=np.arange(len(facts)), frames=ones, bodies=ones, source=[b"\0" * 32] * len(facts), classes=classes
    )


# Two setups of NTU-60 and two of NTU-120 only, every camera and subject, one action: 4 x 3 x 106 clips.
EVERYONE = table([(s, c, p, 1) for s in (2, 17, 18, 31) for c in (1, 2, 3) for p in range(1, 107)])


def test_the_papers_subject_lists_have_20_and_53_names() -> None:
    assert len(set(NTU60_SUBJECTS)) == 20
    assert len(set(NTU120_SUBJECTS)) == 53
    assert set(NTU60_SUBJECTS) < set(NTU120_SUBJECTS)


@pytest.mark.parametrize(
    ("protocol", "train", "test"),
    [
        ("ntu60-xsub", 2 * 3 * 20, 2 * 3 * 86),
        ("ntu60-xview", 2 * 2 * 106, 2 * 1 * 106),
        ("ntu120-xsub", 4 * 3 * 53, 4 * 3 * 53),
        ("ntu120-xset", 2 * 3 * 106, 2 * 3 * 106),
    ],
)
def test_sizes_on_a_table_with_everyone(protocol: str, train: int, test: int) -> None:
    assert fitting(dataset="ntu120", clips=EVERYONE, stored={})[protocol] == (train, test)


def test_membership() -> None:
    clips = table([(1, 1, 1, 1), (1, 2, 3, 1), (2, 3, 2, 1), (18, 2, 45, 1), (19, 2, 48, 1)])

    def chosen(protocol: str) -> tuple[list[int], list[int]]:
        split = find_split(protocol, dataset="ntu120", clips=clips, stored={})
        return split.train.tolist(), split.test.tolist()

    assert chosen("ntu60-xsub") == ([0, 2], [1])
    assert chosen("ntu60-xview") == ([1, 2], [0])
    assert chosen("ntu120-xsub") == ([0, 2, 3], [1, 4])
    assert chosen("ntu120-xset") == ([2, 3], [0, 1, 4])
    assert chosen("xset") == chosen("ntu120-xset")


def test_a_plain_name_is_settled_by_the_data_set() -> None:
    clips = table([(1, 1, 1, 1), (1, 2, 3, 1)])
    assert find_split("xsub", dataset="ntu60", clips=clips, stored={}).name == "ntu60-xsub"
    assert find_split("xsub", dataset="ntu120", clips=EVERYONE, stored={}).name == "ntu120-xsub"


def test_an_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="expected one of ntu60-xsub, ntu60-xview; did you mean 'ntu60-xview'"):
        find_split("ntu60-xviev", dataset="ntu60", clips=EVERYONE, stored={})
    with pytest.raises(UnknownNameError, match="none: it has no parts yet, and smae split gives it some"):
        find_split("xsub", dataset="dancers", clips=EVERYONE, stored={})


def test_a_split_with_an_empty_side_says_so_and_is_not_offered() -> None:
    clips = table([(1, 1, 1, 1), (1, 1, 3, 1)])
    with pytest.raises(DataError, match="has 0 train and 2 test clips"):
        find_split("xview", dataset="ntu60", clips=clips, stored={})
    assert list(fitting(dataset="ntu60", clips=clips, stored={})) == ["ntu60-xsub"]


def test_splits_that_the_data_brought() -> None:
    own = {"view3": np.array([1, 2, 0, 2], np.uint8)}
    clips = table([(1, 1, p, 1) for p in range(1, 5)])
    split = find_split("view3", dataset="dancers", clips=clips, stored=own)
    assert (split.train.tolist(), split.test.tolist()) == ([0], [1, 3])
