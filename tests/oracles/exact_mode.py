"""Exact mode as plain loops: the reference's rules decide who is an actor, and every row is placed at its true frame.

Written from docs/cleaning.md; of the reference's oracle it shares the thresholds, which are the same by definition.
"""

from __future__ import annotations

import numpy as np

from tests.oracles.reference_pipeline import denoise, variance


def exact(frames, body, xyz, *, joint=1):
    """Return float32 [M, T, V, 3], NaN in gaps, and the true frame of the first; None without a body."""
    bodies = {}
    for frame, name, joints in zip(frames.tolist(), body.tolist(), xyz, strict=True):
        one = bodies.setdefault(name, {"frames": [], "joints": []})
        one["frames"].append(frame)
        one["joints"].append(joints)
    for one in bodies.values():
        one["start"], one["end"] = one["frames"][0], one["frames"][-1]
        one["motion"] = variance(one["joints"])
    left = denoise(bodies) if len(bodies) > 1 else list(bodies.values())

    # (actor, frame) -> joints; a row of zeros shows no body and replaces none.
    seen = {}
    spans = [[left[0]["start"], left[0]["end"]], [0, 0]]
    for number, one in enumerate(left):
        for actor in (0, 1):
            span = spans[actor]
            if number == 0 or min(span[1], one["end"]) - max(span[0], one["start"]) <= 0:
                for frame, joints in zip(one["frames"], one["joints"], strict=True):
                    if np.any(joints != 0):
                        seen[actor, frame] = joints
                spans[actor] = [min(span[0], one["start"]), max(span[1], one["end"])]
                break
    if not seen:
        return None

    actors = sorted({actor for actor, _ in seen})
    first, last = min(frame for _, frame in seen), max(frame for _, frame in seen)
    out = np.full((len(actors), last - first + 1, *xyz.shape[1:]), np.nan, np.float32)
    origin = seen[min(key for key in seen if key[0] == actors[0])][joint]
    for (actor, frame), joints in seen.items():
        out[actors.index(actor), frame - first] = joints - origin
    return out, first
