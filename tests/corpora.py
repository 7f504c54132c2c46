"""Seeded hard recordings: phantoms, bodies that leave and return, changing ids, crowds, empty frames, zero rows.

As recordings in memory, and as the `.skeleton` text of a raw folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from smae.data.raw.recording import Recording

KINDS = (
    "one", "two", "phantom", "returns", "new-id", "crowd", "touching", "empty-frames", "zero-rows", "all-short",
    "single-frame", "cancelling", "wild", "ties", "late-and-gone", "comes-and-goes", "many-ids", "equal-motion",
    "eleven-twelve", "shares-two", "before-the-second", "all-wide", "zero-second", "one-frame",
    "long",
)  # fmt: skip
_FIRST_ID = 72057594037930000


def recordings(seed: int, count: int) -> Iterator[tuple[str, Recording]]:
    """Yield ``count`` (kind, recording) pairs, all kinds in turn; the same seed gives the same recordings."""
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        yield kind, recording(kind, np.random.default_rng([seed, number]))


def recording(kind: str, rng: np.random.Generator) -> Recording:
    """Return one recording of a kind, mostly up to 75 frames long (partial seconds included).

    In half of them ids are of all sizes, and bodies stand in another order in every frame.
    """
    frames = {"one-frame": 1, "long": int(rng.integers(120, 160))}.get(kind, int(rng.integers(20, 76)))
    parts = [(frame, name, person(rng, len(frame), style)) for frame, name, style in _cast(kind, rng, frames)]
    if kind == "zero-rows":
        for _, _, xyz in parts:
            xyz[rng.random(len(xyz)) < 0.3] = 0
    if kind == "cancelling":
        for _, _, xyz in parts:
            xyz[rng.random(len(xyz)) < 0.2] = _cancelling(rng)
    if kind == "ties":
        parts = _ties(rng, frames)
    if kind == "equal-motion":
        # Mirrored, a body moves by exactly as much, to the last bit: the order of appearance decides.
        parts[1] = (parts[0][0], 1, parts[0][2] * np.float32([-1, 1, 1]))
    if kind == "zero-second":
        parts[1][2][:] = 0
    if rng.random() < 0.5:
        return assemble(frames, [(frame, _FIRST_ID + name, xyz) for frame, name, xyz in parts])
    ids = rng.permutation(np.array([0, 7, 10, 99, 2**31, 2**56 + 1, 2**63, 2**64 - 1], np.uint64))
    made = assemble(frames, [(frame, ids[name], xyz) for frame, name, xyz in parts])
    order = np.lexsort([rng.random(len(made.frame)), made.frame])
    return replace(made, body=made.body[order], xyz=made.xyz[order], state=made.state[order])


def assemble(frames: int, parts: list[tuple[np.ndarray, int, np.ndarray]]) -> Recording:
    """Return the recording of bodies given as (frame [R], id, xyz [R, V, 3]), in file order: frame, then part."""
    frame = np.concatenate([part[0] for part in parts])
    body = np.concatenate([np.full(len(part[0]), part[1], np.uint64) for part in parts])
    xyz = np.concatenate([part[2] for part in parts])
    order = np.argsort(frame, kind="stable")
    state = (np.arange(xyz.shape[0] * xyz.shape[1]) % 3).astype(np.uint8).reshape(xyz.shape[:2])
    return Recording(frames, frame[order].astype(np.int32), body[order], xyz[order].astype(np.float32), state[order])


def person(rng: np.random.Generator, rows: int, style: str = "tall") -> np.ndarray:
    """Return float32 [rows, 25, 3]: a swaying body; ``wide`` is a phantom, ``mixed`` is wide in some rows."""
    size = np.array([0.3, 1.7, 0.3]) * rng.uniform(0.8, 1.1)
    xyz = rng.random((1, 25, 3)) * size + rng.uniform(-1, 1, 3) + [0, 0, 3]
    sway = np.cumsum(rng.normal(0, rng.choice([0.0, 0.01, 0.05]), (rows, 1, 3)), axis=0)
    xyz = xyz + sway + rng.normal(0, 0.02, (rows, 25, 3))
    wide = {"tall": 0.0, "mixed": rng.uniform(0.2, 0.9), "wide": 1.0}[style]
    flat = rng.random(rows) < wide
    xyz[flat] = (xyz[flat] - xyz[flat][:, :1]) * [4, 0.3, 1] + [0, 0, 2.5]
    return np.round(xyz, int(rng.choice([2, 4, 7]))).astype(np.float32)


def _cast(kind: str, rng: np.random.Generator, frames: int) -> list[tuple[np.ndarray, int, str]]:
    """Return (frame of each row, id, style) for each body of a kind."""
    if kind == "one-frame":
        return [(np.arange(1), n, "tall") for n in range(int(rng.integers(1, 4)))]
    whole, cut = np.arange(frames), int(rng.integers(5, frames - 5))
    style = str(rng.choice(["tall", "mixed"]))
    if kind == "one" or (kind == "zero-rows" and rng.random() < 0.5):
        return [(whole, 0, "tall")]
    if kind == "empty-frames":
        seen = whole[rng.random(frames) < 0.7]
        return [(seen, 0, "tall"), (_some(rng, seen), 1, style)][: int(rng.integers(1, 3))]
    if kind == "phantom":
        return [(whole[: cut + 5], 0, "wide"), (whole, 1, style), (whole[:cut], 2, "wide")]
    if kind == "returns":
        gap = np.r_[whole[: cut // 2 + 1], whole[cut:]]
        return [(gap, 0, "tall"), (whole, 1, style)]
    if kind == "new-id":
        return [(whole[:cut], 0, "tall"), (whole[cut:], 1, style)]
    if kind == "touching":
        return [(whole[: cut + 1], 0, "tall"), (whole[cut:], 1, style), (whole, 2, "mixed")]
    if kind == "all-short":
        return [(whole[s : s + int(rng.integers(1, 12))], n, "tall") for n, s in enumerate(rng.integers(0, frames, 2))]
    if kind == "single-frame":
        return [(whole[:1], n, "tall") for n in range(int(rng.integers(1, 3)))]
    if kind == "late-and-gone":
        seen = np.r_[whole[2 : cut + 2], whole[min(cut + 4, frames - 2) : -1]]
        return [(seen, 0, "tall"), (seen[3:], 1, style)][: int(rng.integers(1, 3))]
    if kind == "comes-and-goes":
        return [(whole[(whole // int(rng.integers(2, 9))) % 2 == n], n, style) for n in (0, 1)] + [(whole, 2, "mixed")]
    if kind == "many-ids":
        cuts = np.sort(rng.integers(0, frames, 4))
        return [(stretch, n, style) for n, stretch in enumerate(np.split(whole, cuts)) if len(stretch)]
    if kind == "eleven-twelve":
        lengths = rng.permutation([11, 12, int(rng.integers(10, 14))])
        return [(whole[n : n + length], n, style) for n, length in enumerate(lengths.tolist())]
    if kind == "shares-two":
        return [(whole[: cut + 2], 0, "tall"), (whole[cut:], 1, style), (whole[cut + 1 :], 2, style)]
    if kind == "before-the-second":
        # The second actor's interval begins at frame 0 for any body, so the third is left out without a reason.
        return [(whole, 0, "tall"), (whole[frames // 2 :], 1, "tall"), (whole[1 : frames // 2], 2, style)]
    if kind == "all-wide":
        return [(whole[n:], n, "wide") for n in range(int(rng.integers(2, 4)))]
    if kind in ("crowd", "wild"):
        styles = rng.choice(["tall", "mixed", "wide"], size=int(rng.integers(3, 8)), p=[0.5, 0.35, 0.15])
        return [(_some(rng, whole, scattered=kind == "wild"), n, str(s)) for n, s in enumerate(styles)]
    return [(whole, 0, "tall"), (whole[cut // 2 :], 1, style)]


def _ties(rng: np.random.Generator, frames: int) -> list[tuple[np.ndarray, int, np.ndarray]]:
    """Return bodies of equal motion, of 11 or 12 rows, and rows exactly 0.8 times as wide as high."""
    height = rng.integers(1, 20, (frames, 1, 1)) / 10
    xyz = np.clip(rng.normal(0, 2, (frames, 25, 3)), 0, 1) * height * [0.8, 1, 1]
    xyz = xyz.astype(np.float32)
    start = int(rng.integers(0, frames - 12))
    cuts = [np.arange(frames), np.arange(frames), np.arange(start, start + 11), np.arange(start, start + 12)]
    return [(cut, number, xyz[cut] + np.float32([0, 0, number])) for number, cut in enumerate(cuts)]


def _some(rng: np.random.Generator, frames: np.ndarray, *, scattered: bool = False) -> np.ndarray:
    """Return a stretch of the frames, or scattered ones; never none."""
    if scattered:
        picked = frames[rng.random(len(frames)) < rng.uniform(0.2, 0.9)]
        return picked if len(picked) else frames[:1]
    start = int(rng.integers(0, len(frames)))
    return frames[start : start + 1 + int(rng.integers(0, len(frames)))]


def _cancelling(rng: np.random.Generator) -> np.ndarray:
    """Return float32 [25, 3] not all zero whose sum is, or nearly is, 0 (which depends on the order of adding)."""
    half = np.round(rng.uniform(-2, 2, 37), 3)
    numbers = np.r_[half, -half, 0]
    return rng.permutation(numbers).astype(np.float32).reshape(25, 3)


LINE_ENDS = ("\n", "\r\n", "\n", "\r\n", "\n", "\r\n", "\r", "mixed")
DIGITS = ("%.7g", "%.9g", "%.6f", "%.7g", "%.9g", "%.17g", "midpoints")
"""Mostly what sensors write, sometimes what a reader must understand all the same."""


def write_raw(folder: Path, names: list[str], *, seed: int) -> Path:
    """Write one hard recording a name, all kinds, line ends and ways to print numbers in turn; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, (_, made)) in enumerate(zip(names, recordings(seed, len(names)), strict=True)):
        ends, digits = LINE_ENDS[number // 7 % len(LINE_ENDS)], DIGITS[number // 5 % len(DIGITS)]
        (folder / f"{name}.skeleton").write_bytes(
            skeleton_text(made, np.random.default_rng([seed, number, 1]), ends=ends, digits=digits)
        )
    return folder


def skeleton_text(recording: Recording, rng: np.random.Generator, *, ends: str = "\n", digits: str = "%.9g") -> bytes:
    """Return a recording as `.skeleton` text: each number in ``digits``, or just beside two float32 (``midpoints``)."""
    lines = [str(recording.frames)]
    bounds = np.searchsorted(recording.frame, np.arange(recording.frames + 1))
    for begin, end in pairwise(bounds):
        lines.append(str(end - begin))
        for row in range(begin, end):
            lines += [f"{recording.body[row]} 0 1 0 1 0 0 0.0625 -0.25 2", str(recording.xyz.shape[1])]
            numbers = _printed(recording.xyz[row], rng, digits)
            lines += [
                f"{x} {y} {z} 250.5 212.25 960.1 540 0.1 -0 1e-05 0.7 {state}"
                for (x, y, z), state in zip(numbers, recording.state[row], strict=True)
            ]
    if ends != "mixed":
        return (ends.join(lines) + ends).encode()
    chosen = rng.choice(["\n", "\r\n", "\r"], len(lines))
    return "".join(line + end for line, end in zip(lines, chosen, strict=True)).encode()


def _printed(xyz: np.ndarray, rng: np.random.Generator, digits: str) -> list[list[str]]:
    if digits != "midpoints":
        # A reader must round numbers between two float32.
        values = xyz * (1 + rng.uniform(-1e-7, 1e-7, xyz.shape)) if digits == "%.17g" else xyz
        return [[digits % value for value in joint] for joint in values.tolist()]
    # A hair above the middle: rounded to double first, as NumPy does, it is the middle, and goes to the even side.
    middle = (xyz.astype(np.float64) + np.nextafter(xyz, np.float32(100))) / 2
    return [[f"{value:.60f}".rstrip("0") + "1" if value else "0" for value in joint] for joint in middle.tolist()]
