"""The story of a cleaning, line by line, for a person who wonders what became of a recording."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smae.data.cleaning.actors import Body
from smae.data.recording import Recording
from smae.skeleton import Layout


def tell(
    recording: Recording,
    bodies: list[Body],
    *,
    layout: Layout,
    origin: NDArray[np.float32],
    shape: tuple[int, ...],
    notes: dict[str, int],
) -> tuple[str, ...]:
    """Return the lines: what was there, what became of each body, which frames went, and what came out.

    Args:
        recording: what was cleaned.
        bodies: all bodies found in it, with their fates.
        layout: its joint table.
        origin: float32 [3], metres, camera space.
        shape: the clip's (M, T, V, C).
        notes: what cleaning counted.
    """
    lines = [
        f"{recording.frames} frames, {notes.get('empty-frames', 0)} of them without anybody; body ids: {len(bodies)}"
    ]
    lines += [_about(body, recording, several=len(bodies) > 1) for body in bodies]
    told = {
        "held-joints": "missing joints were given a neighbouring position",
        "kept-despite-length": "body was kept though short: no other was longer",
        "moved-bodies": "bodies left and came back: their rows were packed, away from their true frames",
        "dropped-frames": "frames with a body are not in the clip",
        "empty-actor": "second actor is written as zeros: everybody was merged into actor 1",
    }
    lines += [f"{notes[slug]} {words}" for slug, words in told.items() if slug in notes]
    place = ", ".join(f"{value:.3f}" for value in origin)
    lines.append(f"origin: {layout.joints[layout.centre]} of actor 1 when first seen, ({place}) m from the camera")
    lines.append(f"clip: bodies {shape[0]}, frames {shape[1]}, joints {shape[2]}")
    return tuple(lines)


def _about(body: Body, recording: Recording, *, several: bool) -> str:
    seen = recording.frame[recording.body == np.uint64(body.id)]
    words = f"body {body.id}: frames {seen[0]} to {seen[-1]}, {len(seen)} rows"
    if several:
        words += f", motion {body.motion:.6f} m²"
    if body.noisy > 0:
        words += f", {body.noisy} rows wider than a person"
    return f"{words}; {body.fate}"
