"""Recordings of data sets that show one person a clip: positions to a Recording, checked like NTU's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.recording import Recording
from smae.errors import BadRecording
from smae.skeleton import Layout

TRACKED = 2


def one_body(xyz: NDArray[Any], *, layout: Layout, strict: bool, max_range: float) -> Recording:
    """Return the recording of one body that is there in every frame.

    Args:
        xyz: float [T, V, 3], metres, in the layout's order; NaN where a joint is missing.
        layout: joint layout.
        strict: refuse NaN.
        max_range: metres; coordinates beyond are refused.

    Raises:
        BadRecording: no frame, other joints, infinite numbers, or coordinates out of range.
    """
    if xyz.ndim != 3 or xyz.shape[1:] != (len(layout), 3):
        raise BadRecording("joint-count", f"expected [T, {len(layout)}, 3], found {list(xyz.shape)}")
    if not len(xyz):
        raise BadRecording("no-frames", "expected a frame at least")
    gaps = int(np.isnan(xyz).any(axis=2).sum())
    if np.isinf(xyz).any() or (strict and gaps):
        raise BadRecording("non-finite", "NaN or infinite coordinates")
    largest = float(np.nanmax(np.abs(xyz), initial=0))
    if largest > max_range:
        raise BadRecording("range", f"{largest:g} m from the sensor; at most {max_range:g} m are believed")
    frames = len(xyz)
    return Recording(
        frames=frames,
        frame=np.arange(frames, dtype=np.int32),
        body=np.zeros(frames, np.uint64),
        xyz=xyz.astype(np.float32),
        state=np.full(xyz.shape[:2], TRACKED, np.uint8),
        notes={"nan": gaps} if gaps else {},
    )
