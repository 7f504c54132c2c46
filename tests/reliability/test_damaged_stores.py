"""Damage to a store by bits, files and chunks: `verify` finds all of it, reading finds it in what it reads."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from numpy.typing import NDArray

import smae
from smae.errors import DataError
from tests.data.raw_folder import names as raw_names
from tests.data.raw_folder import write_folder
from tests.reliability.counts import counts
from tests.reliability.scoreboard import Row, Scoreboard
from tests.reliability.stores import changed
from tests.skeletons import walk, write_skeleton

TITLE = "store: flips, truncations, deletions, swaps, found and named"
MANIFEST = "manifest.json"
ABSENT = 2**64 - 1
"""What a Zarr shard's index says of a chunk that is not there."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 7,200 rows: several chunks in each row array."""
    folder = tmp_path_factory.mktemp("damaged")
    # All chunks must differ, those of states too.
    texts = {f"{name}.skeleton": write_skeleton(walk(6, seed=number)) for number, name in enumerate(raw_names(12))}
    raw = write_folder(folder / "raw", texts | {"S001C001P001R001A007.skeleton": b"bad"})
    smae.prepare(raw, folder / "data.zarr", frames=600, executor="inline")
    return folder / "data.zarr"


def names(store: Path) -> list[str]:
    return sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())


def holds_rows(name: str) -> bool:
    return name.startswith(("joints/c/", "state/c/"))


def problem_with(store: Path, name: str, *, reading: bool) -> str:
    """Return which check misses that ``name`` is damaged, or does not name it; empty if none does."""
    report = smae.verify(store)
    if report.exit_code != 4:
        return "verify finds nothing"
    if not any(name in problem for problem in report.problems):
        return f"verify names other files: {report.problems[:3]}"
    if not reading:
        return ""
    try:
        opened = smae.open_store(store)
        opened.rows(0, opened.row_count)
        opened.states(0, opened.row_count)
    except DataError as error:
        return "" if name in str(error) else f"reading names another file: {error}"
    return "reading finds nothing"


def damage(row: Row, store: Path, name: str, what: str, data: bytes | None, *, said: str = "") -> None:
    """Make one trial: ``name`` damaged so, which the checks must find and call ``said``."""
    with changed(store / name, data):
        problem = problem_with(store, said or name, reading=holds_rows(name))
    row.trial(problem and f"{name}, {what}: {problem}")


def pick(store: Path, dice: np.random.Generator) -> tuple[str, bytes, int]:
    """Return a file that is not empty, its bytes and an offset into it: half of the time one that holds rows."""
    listed = [name for name in names(store) if (store / name).stat().st_size]
    if dice.random() < 0.5:
        listed = [name for name in listed if holds_rows(name)]
    name = listed[int(dice.integers(len(listed)))]
    data = (store / name).read_bytes()
    return name, data, int(dice.integers(len(data)))


@pytest.mark.parametrize("count", counts(short=40, full=400))
def test_flipped_bits(scoreboard: Scoreboard, store: Path, count: int) -> None:
    with scoreboard(TITLE) as row:
        dice = np.random.default_rng(1)
        for _ in range(count):
            name, data, at = pick(store, dice)
            bit = int(dice.integers(8))
            flipped = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            # A flip in the manifest may make it speak of another file, or be no manifest any more.
            said = " " if name == MANIFEST else name
            damage(row, store, name, f"bit {bit} of byte {at} flipped", flipped, said=said)


@pytest.mark.parametrize("count", counts(short=40, full=400))
def test_truncations(scoreboard: Scoreboard, store: Path, count: int) -> None:
    with scoreboard(TITLE) as row:
        dice = np.random.default_rng(2)
        for _ in range(count):
            name, data, at = pick(store, dice)
            damage(row, store, name, f"cut to {at} bytes", data[:at])


def test_every_file_gone_emptied_or_lengthened(scoreboard: Scoreboard, store: Path) -> None:
    with scoreboard(TITLE) as row:
        for name in names(store):
            data = (store / name).read_bytes()
            damage(row, store, name, "gone", None)
            damage(row, store, name, "a byte longer", data + b"x")
            if data:
                damage(row, store, name, "emptied", b"")


def test_every_two_files_of_one_size_swapped(scoreboard: Scoreboard, store: Path) -> None:
    with scoreboard(TITLE) as row:
        listed = [(name, (store / name).read_bytes()) for name in names(store)]
        pairs = [
            (one, other, data)
            for at, (one, data) in enumerate(listed)
            for other, same in listed[at + 1 :]
            if len(data) == len(same) and data != same
        ]
        assert pairs, "columns of one type have chunks of one size"
        for one, other, data in pairs:
            with changed(store / one, (store / other).read_bytes()):
                damage(row, store, other, f"swapped for {one}", data)


@pytest.mark.parametrize("name", ["extra", "joints/c/9", "zarr.json.partial", "clips/.zarr.json.tmp", "weights.pkl"])
def test_files_that_do_not_belong(scoreboard: Scoreboard, store: Path, name: str) -> None:
    with scoreboard(TITLE) as row:
        for data in (b"", b"x" * 100):
            (store / name).write_bytes(data)
            row.trial(problem_with(store, name, reading=True))
            (store / name).unlink()
        os.symlink(store / MANIFEST, store / name)
        row.trial(problem_with(store, name, reading=True))
        (store / name).unlink()
        row.check(smae.verify(store).ok, "after all the store must be sound again")


def every_shard(store: Path) -> Iterator[tuple[str, bytes, NDArray[np.uint64]]]:
    """Yield name, bytes and index of each shard: uint64 [chunks, 2], offset and length, as Zarr v3 defines them."""
    for name in filter(holds_rows, names(store)):
        about = json.loads((store / name.split("/")[0] / "zarr.json").read_text())
        shard = about["chunk_grid"]["configuration"]["chunk_shape"]
        inner = about["codecs"][0]["configuration"]["chunk_shape"]
        chunks = math.prod(shard) // math.prod(inner)
        data = (store / name).read_bytes()
        yield name, data, np.frombuffer(data[-16 * chunks - 4 : -4], "<u8").reshape(chunks, 2)


def with_index(data: bytes, index: NDArray[np.uint64]) -> bytes:
    """Return a shard under another index, whose checksum is right."""
    encoded = index.astype("<u8").tobytes()
    return data[: -len(encoded) - 4] + encoded + google_crc32c.value(encoded).to_bytes(4, "little")


def chunks_gone(index: NDArray[np.uint64], present: list[int]) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    for chunk in present:
        changed = index.copy()
        changed[chunk] = ABSENT
        yield chunk, changed


def chunks_swapped(index: NDArray[np.uint64], present: list[int]) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    for chunk, other in pairwise(present):
        changed = index.copy()
        changed[[chunk, other]] = index[[other, chunk]]
        yield chunk, changed


@pytest.mark.parametrize("change", [chunks_gone, chunks_swapped])
def test_every_chunk_gone_or_swapped_under_a_sound_index(
    scoreboard: Scoreboard,
    store: Path,
    change: Callable[[NDArray[np.uint64], list[int]], Iterator[tuple[int, NDArray[np.uint64]]]],
) -> None:
    with scoreboard(TITLE) as row:
        for name, data, index in every_shard(store):
            present = [number for number in range(len(index)) if index[number, 0] != ABSENT]
            assert len(present) >= 2
            for chunk, other in change(index, present):
                with changed(store / name, with_index(data, other)):
                    problem = problem_with(store, name, reading=True)
                    opened = smae.open_store(store)
                    read = opened.rows if name.startswith("joints") else opened.states
                    with pytest.raises(DataError, match=f"{name} chunk {chunk}:"):
                        read(0, opened.row_count)
                row.trial(problem and f"{name} chunk {chunk}: {problem}")
