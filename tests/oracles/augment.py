"""What loading must give, said naively: one clip at a time, loops over frames and joints, float64."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from smae.data.loader.augment import Augment
from smae.rng import Noise
from smae.skeleton import NTU25, Layout
from tests.fakes import FakeStore

Array = NDArray[np.float64]


def filled(track: Array) -> Array:
    """Return track [T, V, 3] with NaN joints held from the nearest frame, the earlier of two; 0 if never seen."""
    out = np.zeros_like(track)
    frames, joints, _ = track.shape
    for v in range(joints):
        seen = [t for t in range(frames) if not np.isnan(track[t, v]).any()]
        for t in range(frames):
            if seen:
                out[t, v] = track[min(seen, key=lambda s: (abs(s - t), s)), v]
    return out


def span(clip: Array, *, mode: str) -> tuple[int, int]:
    """Return (first frame, frames) that a crop is taken from, for clip [M, T, V, 3]."""
    there = [bool((np.nan_to_num(clip[:, t]) != 0).any()) for t in range(clip.shape[1])]
    if mode == "exact" and any(there):
        first = there.index(True)
        return first, len(there) - there[::-1].index(True) - first
    return 0, max(1, sum(there))


def window(valid: int, draws: tuple[float, float] | None, augment: Augment) -> tuple[int, int]:
    """Return (first frame, frames) of the crop; ``draws`` are the two uniform numbers of training."""
    if draws is None:
        bias = min(int((1 - augment.test_crop) * valid / 2), (valid - 1) // 2)
        return bias, valid - 2 * bias
    low, high = augment.crop
    length = min(max(math.floor(valid * (low + (high - low) * draws[0])), augment.min_frames), valid)
    return math.floor(draws[1] * (valid - length + 1)), length


def resized(track: Array, frames: int) -> Array:
    """Return track [L, V, 3] at ``frames`` frames: linear, half-pixel centres."""
    out = np.zeros((frames, *track.shape[1:]))
    for i in range(frames):
        place = max((i + 0.5) * len(track) / frames - 0.5, 0.0)
        low = math.floor(place)
        high = min(low + 1, len(track) - 1)
        out[i] = (1 - (place - low)) * track[low] + (place - low) * track[high]
    return out


def stretched(frame: Array, change: Array, layout: Layout) -> Array:
    """Return joints [V, 3], moved by all bones that lead to them, longer by ``change`` [V]."""
    parent, out = dict(layout.bones), frame.copy()
    for v in range(len(frame)):
        at = v
        while at in parent:
            out[v] += change[at] * (frame[at] - frame[parent[at]])
            at = parent[at]
    return out


def turned(point: Array, x: float, y: float, z: float) -> Array:
    """Return the point turned about x, then y, then z (right-handed, rad)."""
    a, b, c = point
    b, c = b * math.cos(x) - c * math.sin(x), b * math.sin(x) + c * math.cos(x)
    a, c = a * math.cos(y) + c * math.sin(y), -a * math.sin(y) + c * math.cos(y)
    a, b = a * math.cos(z) - b * math.sin(z), a * math.sin(z) + b * math.cos(z)
    return np.array([a, b, c])


def axes(clip: Array, *, align: str, layout: Layout) -> Array:
    """Return the turn [3, 3] that ``align`` asks for, by the first row of a clip [M, T, V, 3] with anybody in it."""
    for body in clip:
        whole = filled(body)
        for t in range(len(body)):
            if not (np.nan_to_num(body[t]) != 0).any():
                continue
            across = [0.0, 0.0, 0.0]
            for left, right in layout.across:
                across = [across[c] + whole[t, right, c] - whole[t, left, c] for c in range(3)]
            assert layout.spine is not None
            low, high = layout.spine
            up = [whole[t, high, c] - whole[t, low, c] for c in range(3)] if align == "body" else [0.0, 1.0, 0.0]
            if math.hypot(*up) < 1e-6:
                return np.eye(3)
            up = [number / math.hypot(*up) for number in up]
            along = sum(across[c] * up[c] for c in range(3))
            across = [across[c] - along * up[c] for c in range(3)]
            if math.hypot(*across) < 1e-6:
                return np.eye(3)
            across = [number / math.hypot(*across) for number in across]
            return np.array([across, up, np.cross(across, up)])
    return np.eye(3)


def items(
    store: FakeStore, index: int, *, augment: Augment, seed: int, epoch: int, augmented: bool, layout: Layout = NTU25
) -> list[tuple[int, Array]]:
    """Return (body, float64 [frames, V, 3]) of each present body of one clip."""
    clip = store.clip(index).astype(np.float64)
    noise = Noise(seed, epoch, np.array([index]))
    begin, valid = span(clip, mode=store.mode)
    draws = tuple(noise.uniform("crop", 2)[0].astype(float).tolist()) if augmented else None
    start, length = window(valid, draws, augment)
    cut = slice(begin + start, begin + start + length)
    turn = np.eye(3) if augment.align == "none" else axes(clip, align=augment.align, layout=layout)
    bodies = [m for m in range(len(clip)) if (np.nan_to_num(clip[m, cut]) != 0).any()] or [0]
    made = []
    for body in bodies:
        x = resized(filled(clip[body])[cut], augment.frames)
        x = np.array([[turn @ point for point in frame] for frame in x])
        if augmented:
            x = varied(x, noise, augment, layout)
            x = noisy(x, Noise(seed, epoch, np.array([index]), np.array([body])), augment.noise)
        made.append((body, streamed(x, augment.stream, layout)))
    return made


def streamed(x: Array, stream: str, layout: Layout) -> Array:
    """Return x [T, V, 3] as it is, from its centre, as bones (joint minus parent), motion (next minus this) or both."""
    if stream == "relative":
        return np.stack([x[:, v] - (v != layout.centre) * x[:, layout.centre] for v in range(x.shape[1])], 1)
    if stream == "bone-motion":
        return streamed(streamed(x, "bone", layout), "motion", layout)
    if stream == "bone":
        parents = dict(layout.bones)
        return np.stack([x[:, v] - x[:, parents.get(v, v)] for v in range(x.shape[1])], 1)
    if stream == "motion":
        return np.stack([x[t + 1] - x[t] if t + 1 < len(x) else np.zeros_like(x[t]) for t in range(len(x))])
    return x


def varied(x: Array, noise: Noise, augment: Augment, layout: Layout) -> Array:
    """Return x [T, V, 3] mirrored, turned about y, turned about x, y, z, and scaled, as the clip's draws say."""

    def signed(stream: str, count: int, reach: float) -> list[float]:
        return [(2 * float(u) - 1) * reach for u in noise.uniform(stream, count)[0]]

    if augment.mirror and noise.uniform("mirror", 1)[0, 0] < 0.5:
        x = x * np.array([-1.0, 1.0, 1.0])
        for left, right in layout.mirror:
            x[:, [left, right]] = x[:, [right, left]]
    angles, about_y = signed("rotate", 3, augment.rotate), signed("turn", 1, augment.turn)[0]
    factor = 1 + signed("scale", 1, augment.scale)[0]
    out = np.zeros_like(x)
    for t in range(x.shape[0]):
        for v in range(x.shape[1]):
            out[t, v] = factor * turned(turned(x[t, v], 0.0, about_y, 0.0), *angles)
    return out


def noisy(x: Array, noise: Noise, sigma: float) -> Array:
    """Return x [T, V, 3] with Gaussian noise on the numbers of frames that are not empty (Box and Muller, 1958).

    Numbers are counted frame by frame; each even one and the next share two uniform numbers.
    """
    out, size = x.copy(), x[0].size
    uniform = noise.uniform("noise", x.size + x.size % 2)[0].astype(np.float64)
    for t in range(len(x)):
        for k in range(size if x[t].any() else 0):
            element = t * size + k
            u, v = uniform[element // 2 * 2 : element // 2 * 2 + 2]
            wave = math.sin if element % 2 else math.cos
            out[t].flat[k] += sigma * math.sqrt(-2 * math.log(1 - u)) * wave(2 * math.pi * v)
    return out
