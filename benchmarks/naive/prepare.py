"""The three steps of the public scripts as plain Python: read, denoise, align; one process, all in memory.

Written from the description of the reference pipeline. Numbers are cut out of lines by ``split`` and become arrays
joint by joint; bodies are dictionaries; everything is pickled between two steps; all sequences are padded to the
longest. The public scripts also print a line and write a file of notes for every recording; this one does not.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
JOINTS = 25
HALF = JOINTS * 3
SHORT = 11
SPREAD = 0.8
NOISY = 0.69754


def read(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """Step 1: return the bodies by id and the number of frames in which anybody was seen."""
    lines = path.read_text(encoding="ascii").splitlines()
    bodies: dict[str, dict[str, Any]] = {}
    at, seen = 1, 0
    for _ in range(int(lines[0])):
        present = int(lines[at])
        at += 1
        for _ in range(present):
            name = lines[at].split()[0]
            joints = np.zeros((JOINTS, 3), np.float32)
            colours = np.zeros((JOINTS, 2), np.float32)
            for joint in range(JOINTS):
                fields = lines[at + 2 + joint].split()
                joints[joint] = np.array(fields[:3], dtype=np.float32)
                colours[joint] = np.array(fields[5:7], dtype=np.float32)
            at += 2 + JOINTS
            if name in bodies:
                body = bodies[name]
                body["joints"] = np.vstack((body["joints"], joints))
                body["colours"] = np.vstack((body["colours"], colours))
            else:
                bodies[name] = {"joints": joints, "colours": colours, "start": seen}
        seen += present > 0
    for body in bodies.values():
        body["motion"] = _motion(body["joints"])
        body["joints"] = body["joints"].reshape(-1, HALF)
        body["end"] = body["start"] + len(body["joints"]) - 1
    return bodies, seen


def denoise(bodies: dict[str, dict[str, Any]], frames: int) -> Floats:
    """Steps 2 and 3: return float32 [T, 75] or [T, 150], one or two actors."""
    if len(bodies) == 1:
        return _one(next(iter(bodies.values())), frames)
    left = _without_noise(_without_short(bodies))
    rows = _one(left[0], frames) if len(left) == 1 else _two(left, frames)
    return rows[[bool(row.sum() != 0) for row in rows]]


def translate(rows: Floats) -> Floats:
    """Step 4: return the rows seen from actor 1's spine mid in its first row."""
    first = next(row for row in rows if row[:HALF].any())
    origin = first[3:6].copy()
    actors = rows.shape[1] // HALF
    moved = np.empty_like(rows)
    for number, row in enumerate(rows):
        moved[number] = row - np.tile(origin, JOINTS * actors)
        for actor in range(actors if actors > 1 else 0):
            part = slice(actor * HALF, (actor + 1) * HALF)
            if row[part].sum() == 0:
                moved[number, part] = 0
    return moved


def align(sequences: Sequence[Floats]) -> Floats:
    """Step 5: return float32 [N, longest, 150], zeros after each sequence's end and where there is no second actor."""
    aligned = np.zeros((len(sequences), max(len(rows) for rows in sequences), 2 * HALF), np.float32)
    for number, rows in enumerate(sequences):
        aligned[number, : len(rows), : rows.shape[1]] = rows
    return aligned


def prepare(files: Sequence[Path], out: Path | None = None) -> list[Floats]:
    """Do all steps for the files, write ``out`` (.npz) if named, and return each file's float32 [T, 75 or 150]."""
    raw = _pickled([read(path) for path in files])
    sequences = _pickled([denoise(bodies, frames) for bodies, frames in raw])
    sequences = [translate(rows) for rows in sequences]
    if out is not None:
        label = [int(path.stem[-3:]) for path in files]
        np.savez(out, x=align(sequences), y=np.eye(max(label))[[number - 1 for number in label]])
    return sequences


def _pickled(what: Any) -> Any:
    """Return what comes back from a file on disk, as from one step's script to the next."""
    with tempfile.TemporaryFile() as file:
        pickle.dump(what, file, pickle.HIGHEST_PROTOCOL)
        file.seek(0)
        return pickle.load(file)  # written a moment ago, by this process


def as_clip(rows: Floats) -> Floats:
    """Return float32 [M, T, 25, 3] of a sequence [T, 75 or 150]."""
    return rows.reshape(len(rows), -1, JOINTS, 3).swapaxes(0, 1)


def _motion(points: Floats) -> np.float32:
    return np.float32(np.sum(np.var(points.reshape(-1, 3), axis=0)))


def _without_short(bodies: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    kept = [body for body in bodies.values() if len(body["joints"]) > SHORT]
    return kept or [max(bodies.values(), key=lambda body: float(body["motion"]))]


def _without_noise(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    left = bodies
    for body in bodies if len(bodies) > 1 else []:
        if len(left) == 1:
            break
        points = body["joints"].reshape(-1, JOINTS, 3)
        good = []
        for row in points:
            wide, tall, _ = row.max(axis=0) - row.min(axis=0)
            if float(wide) <= SPREAD * float(tall):
                good.append(row)
        noisy = len(points) - len(good)
        if noisy / len(points) >= NOISY:
            left = [other for other in left if other is not body]
        elif noisy:
            body["motion"] = min(body["motion"], _motion(np.array(good)))
    return sorted(left, key=lambda body: -float(body["motion"]))


def _one(body: dict[str, Any], frames: int) -> Floats:
    rows = np.zeros((frames, HALF), np.float32)
    rows[body["start"] : body["end"] + 1] = body["joints"]
    return rows


def _two(bodies: list[dict[str, Any]], frames: int) -> Floats:
    rows = np.zeros((frames, 2 * HALF), np.float32)
    spans = [[bodies[0]["start"], bodies[0]["end"]], [0, 0]]
    for number, body in enumerate(bodies):
        start, end = body["start"], body["end"]
        for actor, span in enumerate(spans):
            if number == 0 or min(span[1], end) - max(span[0], start) <= 0:
                rows[start : end + 1, actor * HALF : (actor + 1) * HALF] = body["joints"]
                spans[actor] = [min(span[0], start), max(span[1], end)]
                break
    return rows
