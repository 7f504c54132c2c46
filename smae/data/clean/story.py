"""The story of a cleaning, line by line, for a person who wonders what became of a recording."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smae.data.clean.actors import Body
from smae.data.raw.recording import Recording
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
    empty = notes.get("empty-frames", 0)
    lines = [f"{recording.frames} frames{f', {empty} of them without anybody' if empty else ''}; bodies: {len(bodies)}"]
    lines += [_about(body, recording, several=len(bodies) > 1) for body in bodies]
    told = {
        "held-joints": "missing joints, given a neighbouring position: {}",
        "kept-despite-length": "all bodies are short: the one that moves most was kept",
        "moved-bodies": "bodies that left and came back, their rows packed away from their true frames: {}",
        "dropped-frames": "frames dropped, since they show a body but no actor: {}",
        "empty-actor": "everybody was merged into actor 1: the second actor is written as zeros, as the reference does",
    }
    lines += [words.format(notes[slug]) for slug, words in told.items() if slug in notes]
    place = ", ".join(f"{value:.3f}" for value in origin)
    lines.append(f"origin: {layout.joints[layout.centre]} of actor 1 when first seen, ({place}) m in camera space")
    lines.append(f"clip: bodies {shape[0]}, frames {shape[1]}, joints {shape[2]}")
    return tuple(lines)


def _about(body: Body, recording: Recording, *, several: bool) -> str:
    seen = recording.frame[recording.body == np.uint64(body.id)]
    words = f"body {body.id}: frames {seen[0]} to {seen[-1]}, {len(seen)} rows"
    if several:
        words += f", motion {body.motion:.6f} m²"
    if body.noisy > 0 and not body.fate.startswith("removed"):
        words += f", {body.noisy} of the rows wider than a person"
    if body.actor >= 0 and (body.start, body.end) != (seen[0], seen[-1]):
        words += f", put at frames {body.start} to {body.end}"
    return f"{words}; {body.fate}"
