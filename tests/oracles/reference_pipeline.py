"""The reference pipeline, steps 1 to 6, as plain loops: slow, obvious, and written from its description alone.

Nothing here is shared with smae: what reading, cleaning and export give must equal this, bit for bit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

TRAIN_IDS = {
    ("ntu60", "xsub"): [1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38],
    ("ntu60", "xview"): [2, 3],
    ("ntu120", "xsub"): [
        1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38, 45, 46, 47, 49, 50, 52, 53, 54, 55,
        56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103,
    ],
    ("ntu120", "xset"): list(range(2, 33, 2)),
}  # fmt: skip
ALL_IDS = {
    ("ntu60", "xsub"): range(1, 41),
    ("ntu60", "xview"): range(1, 4),
    ("ntu120", "xsub"): range(1, 107),
    ("ntu120", "xset"): range(1, 33),
}


class ReferenceStops(Exception):
    """The reference ends with an error on this recording, and no rule of ours replaces it."""


def arrays(folder: Path, dataset: str, protocols: list[str]):
    """Return {protocol: {x_train, y_train, x_test, y_test}} of a folder of `.skeleton` files."""
    names, sequences = [], []
    for path in sorted(folder.glob("*.skeleton")):
        try:
            sequences.append(reference(*read(path.read_text("ascii"))))
        except ReferenceStops:
            continue
        names.append(path.stem)
    x = aligned(sequences, dataset)
    y = np.zeros((len(names), {"ntu60": 60, "ntu120": 120}[dataset]))
    for number, name in enumerate(names):
        y[number, int(name[-3:]) - 1] = 1
    out = {}
    for protocol in protocols:
        train, test = (row_order(names, dataset, protocol, half) for half in ("train", "test"))
        out[protocol] = {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}
    return out


def read(text):
    """Return (0-based frame, id as text, [25, 3] float32) of each row, as three arrays."""
    lines = iter(text.splitlines())
    frames, ids, rows = [], [], []
    for frame in range(int(next(lines))):
        for _ in range(int(next(lines))):
            frames.append(frame)
            ids.append(next(lines).split()[0])
            joints = [next(lines).split() for _ in range(int(next(lines)))]
            rows.append([[float(number) for number in joint[:3]] for joint in joints])
    return np.array(frames), np.array(ids), np.array(rows, np.float32)


def reference(frames, body, xyz):
    """Return float32 [T, 75 or 150] for rows (0-based frame, id, [V, 3] float32), or raise ``ReferenceStops``."""
    bodies, length = gather(frames, body, xyz)
    if not bodies:
        raise ReferenceStops("no body")
    if len(bodies) == 1:
        rows = one_actor(next(iter(bodies.values())), length)
    else:
        kept = denoise(bodies)
        rows = one_actor(kept[0], length) if len(kept) == 1 else two_actors(kept, length)
        rows = np.array([row for row in rows if np.sum(row) != 0], np.float32).reshape(-1, rows.shape[1])
    return translate(rows, joints=xyz.shape[1])


def gather(frames, body, xyz):
    """Step 1: {id: {"joints": [rows], "start": int, "end": int, "motion": float32}} and the number of frames."""
    numbers = {frame: number for number, frame in enumerate(sorted(set(frames.tolist())))}
    bodies = {}
    for frame, name, joints in zip(frames.tolist(), body.tolist(), xyz, strict=True):
        if str(name) not in bodies:
            bodies[str(name)] = {"joints": [], "start": numbers[frame]}
        bodies[str(name)]["joints"].append(joints)
    for one in bodies.values():
        one["end"] = one["start"] + len(one["joints"]) - 1
        one["motion"] = variance(one["joints"])
    return bodies, len(numbers)


def variance(rows):
    points = np.concatenate(rows, axis=0)
    return np.sum(np.var(points, axis=0))


def denoise(bodies):
    """Step 2: the bodies left, largest motion first."""
    kept = {name: one for name, one in bodies.items() if len(one["joints"]) > 11}
    if not kept:
        # The reference ends with an error here; ours keeps the body that moves most.
        return sorted(bodies.values(), key=lambda one: -float(one["motion"]))[:1]
    if len(kept) == 1:
        return list(kept.values())
    for name, one in list(kept.items()):
        if len(kept) == 1:
            break
        good = [row for row in one["joints"] if not is_noisy(row)]
        bad = len(one["joints"]) - len(good)
        if bad == 0:
            continue
        if bad / len(one["joints"]) >= 0.69754:
            del kept[name]
        else:
            one["motion"] = min(one["motion"], variance(good))
    return sorted(kept.values(), key=lambda one: -float(one["motion"]))


def is_noisy(row):
    width = float(row[:, 0].max() - row[:, 0].min())
    height = float(row[:, 1].max() - row[:, 1].min())
    return width > 0.8 * height


def one_actor(one, length):
    rows = np.zeros((length, one["joints"][0].size), np.float32)
    for offset, joints in enumerate(one["joints"]):
        rows[one["start"] + offset] = joints.ravel()
    return rows


def two_actors(kept, length):
    """Step 3, for two bodies or more."""
    half = kept[0]["joints"][0].size
    rows = np.zeros((length, 2 * half), np.float32)
    spans = [[kept[0]["start"], kept[0]["end"]], [0, 0]]
    for number, one in enumerate(kept):
        for actor in (0, 1):
            span = spans[actor]
            if number == 0 or min(span[1], one["end"]) - max(span[0], one["start"]) <= 0:
                for offset, joints in enumerate(one["joints"]):
                    rows[one["start"] + offset, actor * half : (actor + 1) * half] = joints.ravel()
                spans[actor] = [min(span[0], one["start"]), max(span[1], one["end"])]
                break
    return rows


def translate(rows, joints):
    """Step 4."""
    half = joints * 3
    first = 0
    while True:
        if first == len(rows):
            raise ReferenceStops("actor 1 is all zeros")
        if any(value != 0 for value in rows[first, :half]):
            break
        first += 1
    origin = rows[first, 3:6].copy()
    moved = rows.copy()
    for number, row in enumerate(rows):
        moved[number] = (row.reshape(-1, 3) - origin).ravel()
        if len(row) == 2 * half:
            for side in (slice(0, half), slice(half, None)):
                if np.sum(row[side]) == 0:
                    moved[number, side] = 0
    return moved


def aligned(sequences, dataset):
    """Step 5: float32 [N, longest, 150]."""
    longest = max(len(rows) for rows in sequences)
    out = np.zeros((len(sequences), longest, 150), np.float32)
    for number, rows in enumerate(sequences):
        for frame, row in enumerate(rows):
            out[number, frame, : len(row)] = row
            if len(row) == 75 and dataset == "ntu120":
                out[number, frame, 75:] = row
    return out


def row_order(names, dataset, protocol, half):
    """Step 6: indices into ``names`` of one half ("train" or "test"), in the order of rows."""
    at = names[0].index({"xsub": "P", "xview": "C", "xset": "S"}[protocol]) + 1
    train = TRAIN_IDS[dataset, protocol]
    ids = train if half == "train" else [one for one in ALL_IDS[dataset, protocol] if one not in train]
    ranked = sorted(range(len(names)), key=lambda index: names[index])
    return [index for one in ids for index in ranked if int(names[index][at : at + 3]) == one]
