"""A program that reads damaged archives of recordings: what it returns is right, or the damage is reported."""

from __future__ import annotations

import io
import random
import struct
import tempfile
import time
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from smae.data.raw.source import SOURCES
from smae.errors import BadRecording, DataError, NoBody
from tests.data import imported
from tests.data.raw_folder import files, write_zip
from tests.reliability.forked_cli import answer

SECONDS = 10.0
"""A damaged file is refused, or read, within this time."""
SOURCES_OF = {"npz": "ctrgcn-npz", "npz-compressed": "ctrgcn-npz", "zip": "ntu"}


@cache
def archive(kind: str) -> bytes:
    """Return a small archive of one kind."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "zip":
            return write_zip(Path(folder, "a.zip"), files(4, frames=2)).read_bytes()
        rng = np.random.default_rng(0)
        arrays: dict[str, Any] = {}
        for half in ("train", "test"):
            x = np.zeros((3, 8, 2, 25, 3), np.float32)
            x[:, :5, 0] = imported.bodies(rng, 5, count=3)
            arrays |= {f"x_{half}": x.reshape(3, 8, 150), f"y_{half}": np.eye(60, dtype=np.uint8)[:3]}
        save = np.savez_compressed if kind == "npz-compressed" else np.savez
        save(Path(folder, "a.npz"), **arrays)
        return Path(folder, "a.npz").read_bytes()


def members(data: bytes) -> list[tuple[str, range]]:
    """Return the name of each member and where its bytes are."""
    found = []
    with tempfile.TemporaryFile() as file:
        file.write(data)
        for info in zipfile.ZipFile(file).infolist():
            name, extra = struct.unpack_from("<26xHH", data, info.header_offset)
            start = info.header_offset + 30 + name + extra
            found.append((info.filename, range(start, start + info.compress_size)))
    return found


def trials(kind: str, change: str, places: list[int]) -> list[str]:
    """Return the problem of each trial: a flipped bit, or a zeroed block of 64 bytes, at each place."""
    data, problems = archive(kind), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a.{kind[:3]}")
        path.write_bytes(data)
        intact, _ = read(path, SOURCES_OF[kind])
        for at in places:
            bad = bytearray(data)
            if change == "bit":
                bad[at] ^= 1 << random.Random(at).randrange(8)
            else:
                bad[at : at + 64] = bytes(len(bad[at : at + 64]))
            path.write_bytes(bad)
            began = time.monotonic()
            found, reports = read(path, SOURCES_OF[kind])
            problem = _problem(kind, data, bytes(bad), at, found == intact, found.items() <= intact.items(), reports)
            if time.monotonic() - began > SECONDS:
                problem = problem or "took too long"
            problems.append(problem and f"{kind}, {change} at {at}: {problem}: {reports}")
    return problems


def _problem(kind: str, data: bytes, bad: bytes, at: int, same: bool, right: bool, reports: list[str]) -> str:
    if not right:
        return "a wrong clip is read"
    if not same and not reports:
        return "a clip is gone without a report"
    for name, region in members(data):
        # A changed deflate stream may still unpack to the same bytes, copied from elsewhere: that is no damage.
        unharmed = same and kind != "npz"
        changed = [place for place in range(at, min(at + 64, len(data))) if bad[place] != data[place]]
        if changed and all(place in region for place in changed) and not unharmed:
            if not reports:
                return "not refused"
            if not any(f"a.{kind[:3]}!{name.removesuffix('.npy')}" in report for report in reports):
                return f"the report does not name {name}"
    return ""


def read(path: Path, name: str) -> tuple[dict[str, Any], list[str]]:
    """Return everything that a source returns of each sample, and the reports of what was refused."""
    source = SOURCES.get(name)()
    try:
        inventory = source.discover(path)
    except DataError as error:
        return {}, [str(error)]
    found, reports = {}, [str(refused) for refused in inventory.refused]
    reports += [f"{inventory.ignored} files ignored"] if inventory.ignored else []
    roles = source.splits()
    reader = source.reader(path)
    for sample in inventory.samples:
        try:
            data = bytes(reader.read(sample))
            parsed = source.parse(data, strict=True, max_range=20)
        except (BadRecording, NoBody) as error:
            reports.append(f"{sample.where}: {error}")
            continue
        split = {split: role[sample.name] for split, role in roles.items() if sample.name in role}
        found[sample.name] = (data, parsed.state.tobytes(), source.facts(sample.name), split)
    reader.close()
    return found, reports


def overclaiming(rows: int) -> bytes:
    """Return a compressed ``.npz`` whose x_train has one row, and claims ``rows`` rows in all its headers."""
    row = np.zeros((1, 300, 150), np.float32)
    header = io.BytesIO()
    facts = np.lib.format.header_data_from_array_1_0(row) | {"shape": (rows, 300, 150)}
    np.lib.format.write_array_header_1_0(header, facts)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x_train.npy", header.getvalue() + row.tobytes())
        for name, array in (("y_train", np.zeros(rows)), ("x_test", row), ("y_test", np.zeros(1))):
            saved = io.BytesIO()
            np.save(saved, array)
            file.writestr(f"{name}.npy", saved.getvalue())
    data = bytearray(archive.getvalue())
    claimed = len(header.getvalue()) + rows * row.nbytes
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, claimed)
    return bytes(data)


if __name__ == "__main__":
    answer(trials)
