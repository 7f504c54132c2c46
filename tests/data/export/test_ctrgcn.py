"""Rows and their order equal steps 5 and 6 of the reference pipeline."""

from __future__ import annotations

import numpy as np
import pytest

from smae.data.clean.cleaning import clean
from smae.data.export.ctrgcn import align, ctrgcn_order
from smae.errors import ConfigError, DataError
from tests import corpora
from tests.oracles.reference_pipeline import aligned, row_order


@pytest.mark.parametrize("dataset", ["ntu60", "ntu120"])
def test_rows_equal_the_oracle(dataset: str) -> None:
    clips = [clean(recording).joints for _, recording in corpora.recordings(21, 28)]
    sequences = [clip.swapaxes(0, 1).reshape(clip.shape[1], -1) for clip in clips]
    frames = max(len(rows) for rows in sequences)
    got = align(clips, frames=frames, double_single=dataset == "ntu120")
    assert {len(clip) for clip in clips} == {1, 2}
    assert got.tobytes() == aligned(sequences, dataset).tobytes()


def test_clip_that_does_not_fit() -> None:
    with pytest.raises(DataError, match="clip 1: expected at most 2 bodies and 5 frames of 25 joints"):
        align([np.zeros((1, t, 25, 3), np.float32) for t in (5, 6)], frames=5, double_single=False)
    with pytest.raises(DataError, match="found 3 bodies"):
        align([np.zeros((3, 5, 25, 3), np.float32)], frames=5, double_single=False)
    assert align([], frames=5, double_single=False).shape == (0, 5, 150)


@pytest.mark.parametrize(
    ("dataset", "protocol"), [("ntu60", "xsub"), ("ntu60", "xview"), ("ntu120", "xsub"), ("ntu120", "xset")]
)
@pytest.mark.parametrize("half", ["train", "test"])
def test_order_equals_the_oracle(dataset: str, protocol: str, half: str) -> None:
    rng = np.random.default_rng(4)
    setups, subjects, actions = (17, 40, 60) if dataset == "ntu60" else (32, 106, 120)
    numbers = {tuple(int(rng.integers(1, n + 1)) for n in (setups, 3, subjects, 2, actions)) for _ in range(600)}
    names = ["S{:03}C{:03}P{:03}R{:03}A{:03}".format(*one) for one in sorted(numbers, key=hash)]
    want = row_order(names, dataset, protocol, half)
    got = ctrgcn_order(names, protocol=protocol, subset=np.sort(want))
    assert got.dtype == np.int64
    assert got.tolist() == want
    assert len(want) > 100


def test_names_and_protocols_that_have_no_such_order() -> None:
    with pytest.raises(DataError, match="found 'a01_s01'"):
        ctrgcn_order(["a01_s01"], protocol="xsub", subset=[0])
    with pytest.raises(ConfigError, match="expected one of xsub, xview, xset"):
        ctrgcn_order([], protocol="random", subset=[])
