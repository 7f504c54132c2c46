"""Small scenes for tests of drawing."""

from __future__ import annotations

import numpy as np

from smae.skeleton import NTU25
from smae.viz import Panel, Scene
from smae.viz.scene import ABSENT, MASKED, RECONSTRUCTED, TRACKED


def panel(title: str = "one", *, bodies: int = 1, frames: int = 4, kind: int = TRACKED, **more) -> Panel:
    """Return a panel of random bodies; the last of several is absent in the first frame."""
    rng = np.random.default_rng(7)
    joints = rng.uniform(-1, 1, (bodies, frames, len(NTU25), 3)).astype(np.float32)
    kinds = np.full(joints.shape[:3], kind, np.uint8)
    if bodies > 1:
        joints[-1, 0], kinds[-1, 0] = np.nan, ABSENT
    return Panel(title, joints, kinds, **more)


def scene(*panels: Panel, title: str = "S001C001P001R001A001 · A001 drink water", **more) -> Scene:
    return Scene("S001C001P001R001A001", title, panels or (panel(bodies=2),), NTU25, **more)


def three_panels() -> Scene:
    return scene(panel("original"), panel("masked", kind=MASKED), panel("reconstructed", kind=RECONSTRUCTED, ghost=0))
