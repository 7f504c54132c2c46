"""UTD-MHAD: one MATLAB file a sequence, ``aA_sS_tT_skeleton.mat``, of 20 Kinect v1 joints (Chen et al., ICIP 2015)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from smae.data.raw.matfile import read_array
from smae.data.raw.named_files import NamedFiles
from smae.data.raw.recording import Recording
from smae.data.raw.single_body import one_body
from smae.data.store.clip_table import ClipFacts
from smae.data.store.splits import TEST, TRAIN
from smae.errors import BadRecording

_ORDER = np.array([3, 2, 1, 0, *range(4, 20)])
"""The files begin with head, shoulder centre, spine, hip centre; the Kinect's own order is the reverse of these."""


class UtdMhadSource(NamedFiles):
    """The skeleton files of UTD-MHAD: ``d_skel`` 20 x 3 x T, metres. Odd subjects train, even ones test."""

    form = re.compile(r"a([0-9]{1,2})_s([0-9])_t([0-9])")
    suffix = "_skeleton.mat"
    example = "a1_s2_t3_skeleton.mat"

    def parse(self, data: bytes, *, strict: bool, max_range: float) -> Recording:
        """Return what one file holds; see ``Source.parse``."""
        skeleton = read_array(data, "d_skel")
        if skeleton.ndim == 2:
            skeleton = skeleton[..., None]  # MATLAB drops a last axis of length 1: one frame
        if skeleton.ndim != 3 or skeleton.shape[:2] != (20, 3):
            raise BadRecording("joint-count", f"expected d_skel of 20 x 3 x T, found {list(skeleton.shape)}")
        return one_body(skeleton.transpose(2, 0, 1)[:, _ORDER], layout=self.layout, strict=strict, max_range=max_range)

    def facts(self, name: str) -> ClipFacts:
        """Return what a sample's name says; the trial is the replication."""
        action, subject, trial = self.numbers(name)
        return ClipFacts(name, f"A{action:03}", subject=subject, replication=trial)

    def splits(self) -> dict[str, dict[str, int]]:
        """Return ``xsub``."""
        return {"xsub": {name: TRAIN if self.numbers(name)[1] % 2 else TEST for name in self.names}}

    def dataset(self, facts: Sequence[ClipFacts]) -> str:
        """Return ``utd-mhad``."""
        return "utd-mhad"
