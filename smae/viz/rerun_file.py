"""Rerun recordings (``.rrd``), for rerun.io's viewer; the package is an extra and is imported only when asked for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from smae.errors import ConfigError
from smae.viz.pictures import BODIES, joint_colour
from smae.viz.scene import ABSENT, RATE, Panel, Scene


def check_rerun() -> None:
    """Raise unless Rerun is installed.

    Raises:
        ConfigError: it is not; the message says how to install it.
    """
    if find_spec("rerun") is None:
        raise ConfigError("a .rrd file needs Rerun, which is not installed: pip install 'smae[rerun]'")


def write_rerun(scene: Scene, path: Path) -> None:
    """Write a scene as one Rerun recording: points and bones of each body of each panel, frame by frame.

    Raises:
        ConfigError: Rerun is not installed.
    """
    check_rerun()
    import rerun as rr

    stream = rr.RecordingStream("smae", recording_id=scene.name)
    stream.save(path)
    stream.log("/", rr.ViewCoordinates.LUF, static=True)
    for frame in range(scene.frames):
        stream.set_time("frame", sequence=frame)
        stream.set_time("time", duration=frame / RATE)
        for panel in scene.panels:
            _log(stream, panel, scene, scene.frame_of(panel, frame))
    stream.flush()
    stream.disconnect()


def _log(stream: Any, panel: Panel, scene: Scene, frame: int) -> None:
    import rerun as rr

    for body, name in enumerate(panel.bodies):
        joints, kind = panel.joints[body, frame], panel.kind[body, frame]
        seen = np.flatnonzero(kind != ABSENT)
        bones = [(a, b) for a, b in scene.layout.bones if kind[a] != ABSENT and kind[b] != ABSENT]
        where = f"{panel.title}/{name}".replace(" ", "_")
        rr.log(
            f"{where}/joints",
            rr.Points3D(
                joints[seen],
                colors=[joint_colour(int(kind[joint]), panel.roles[body]) for joint in seen],
                labels=[scene.layout.joints[joint] for joint in seen],
                show_labels=False,
                radii=0.015,
            ),
            recording=stream,
        )
        lines = rr.LineStrips3D([joints[list(bone)] for bone in bones], colors=BODIES[panel.roles[body]], radii=0.006)
        rr.log(f"{where}/bones", lines, recording=stream)
