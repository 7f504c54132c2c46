"""Northwestern-UCLA: JSON files of 20 Kinect v1 joints (Wang et al., CVPR 2014)."""

from __future__ import annotations

import json
import re

import numpy as np

from smae.data.raw.recording import Recording
from smae.data.raw.single_body import SingleBodySource, single_body_recording
from smae.data.store.clip_table import TEST, TRAIN, ClipFacts
from smae.errors import BadRecording

TRAIN_VIEWS = (1, 2)


class NwUclaSource(SingleBodySource):
    """CTR-GCN's JSON files of NW-UCLA: ``{"skeletons": [T][20][3], "label": 1-10, ...}``.

    Action numbers skip 7 and 10, so that the sorted action ids are the ten labels. Cross-view:
    views 1 and 2 train.
    """

    form = re.compile(r"a([0-9]{2})_s([0-9]{2})_e([0-9]{2})_v([0-9]{2})")
    suffix = ".json"
    split, dataset_name = "xview", "nw-ucla"
    example = "a01_s02_e00_v03.json"

    def parse(self, data: bytes, *, strict: bool, max_range: float) -> Recording:
        """Parse one file."""
        try:
            xyz = np.array(json.loads(data)["skeletons"], np.float64)
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            message = f"expected a JSON object with 'skeletons' of numbers ({type(error).__name__}: {str(error)[:80]})"
            raise BadRecording("json", message) from error
        return single_body_recording(xyz, layout=self.layout, strict=strict, max_range=max_range)

    def describe(self, name: str, *numbers: int) -> tuple[ClipFacts, int]:
        """The view is the camera, the episode the replication."""
        action, subject, episode, view = numbers
        facts = ClipFacts(name, f"A{action:03}", subject=subject, camera=view, replication=episode)
        return facts, TRAIN if view in TRAIN_VIEWS else TEST
