"""Seeded hard recordings: phantoms, bodies that leave and return, changing ids, crowds, empty frames, zero rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from smae.data.recording import Recording

KINDS = (
    "one", "two", "phantom", "returns", "new-id", "crowd", "touching", "empty-frames", "zero-rows", "all-short",
    "single-frame", "cancelling", "wild", "ties",
)  # fmt: skip
_FIRST_ID = 72057594037930000


def recordings(seed: int, count: int) -> Iterator[tuple[str, Recording]]:
    """Yield ``count`` (kind, recording) pairs, all kinds in turn; the same seed gives the same recordings."""
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        yield kind, recording(kind, np.random.default_rng([seed, number]))


def recording(kind: str, rng: np.random.Generator) -> Recording:
    """Return one recording of a kind, up to 75 frames long (partial seconds included)."""
    frames = int(rng.integers(20, 76))
    parts = [(frame, name, person(rng, len(frame), style)) for frame, name, style in _cast(kind, rng, frames)]
    if kind == "zero-rows":
        for _, _, xyz in parts:
            xyz[rng.random(len(xyz)) < 0.3] = 0
    if kind == "cancelling":
        for _, _, xyz in parts:
            xyz[rng.random(len(xyz)) < 0.2] = _cancelling(rng)
    if kind == "ties":
        parts = _ties(rng, frames)
    return assemble(frames, [(frame, _FIRST_ID + name, xyz) for frame, name, xyz in parts])


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
