"""Raw folders for tests: small, well-formed `.skeleton` files, and ways to write them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np


def skeleton(frames: int = 3, *, seed: int = 0, bodies: int = 1) -> bytes:
    """Return one file: standing people who sway a little, each body far from the others."""
    rng = np.random.default_rng(seed)
    lines = [str(frames)]
    for _ in range(frames):
        lines.append(str(bodies))
        for body in range(bodies):
            lines += [f"{72057594037930000 + body} 0 1 0 1 0 0 0.1 -0.2 2", "25"]
            xyz = rng.random((25, 3)) * [0.4, 1.7, 0.3] + [1.5 * body, -1, 3]
            lines += [f"{x:.6f} {y:.6f} {z:.6f} 256.1 200.2 960.3 540.4 0 0 0 0 2" for x, y, z in xyz]
    return "\n".join(lines).encode() + b"\n"


def names(count: int) -> list[str]:
    """Return NTU-60 names with two actions, many subjects and all cameras, none on the missing list."""
    return [f"S001C{i % 3 + 1:03}P{i // 3 % 40 + 1:03}R{i // 240 + 1:03}A{i // 120 % 2 + 1:03}" for i in range(count)]


def files(count: int, *, frames: int = 3, bodies: int = 1) -> dict[str, bytes]:
    """Return ``count`` files by file name, each with contents of its own."""
    return {
        f"{name}.skeleton": skeleton(frames, seed=number, bodies=bodies) for number, name in enumerate(names(count))
    }


def write_folder(folder: Path, contents: dict[str, bytes]) -> Path:
    """Write files into a folder, in the order given."""
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_zip(path: Path, contents: dict[str, bytes]) -> Path:
    """Write files into a deflated zip, in the order given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path
