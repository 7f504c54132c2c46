"""Archives with flipped bits, zeroed blocks and false sizes: refused within seconds, or read as they were."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from smae.data.prepare.run import prepare
from smae.data.raw.source import SOURCES
from smae.errors import DataError
from tests.reliability import damaged_archives
from tests.reliability.counts import counts
from tests.reliability.forked_cli import AT_ONCE, in_programs
from tests.reliability.scoreboard import Scoreboard

KINDS = ("npz", "npz-compressed", "zip")


@pytest.mark.parametrize("step", counts(short=127, full=3))
@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits(scoreboard: Scoreboard, kind: str, step: int) -> None:
    with scoreboard("one flipped bit in an archive") as row:
        _try(row, kind, "bit", step)


@pytest.mark.parametrize("step", counts(short=1024, full=48))
@pytest.mark.parametrize("kind", KINDS)
def test_zeroed_blocks(scoreboard: Scoreboard, kind: str, step: int) -> None:
    with scoreboard("a zeroed block in an archive") as row:
        _try(row, kind, "zeros", step)


def _try(row: object, kind: str, change: str, step: int) -> None:
    places = list(range(0, len(damaged_archives.archive(kind)), step))
    jobs = [{"kind": kind, "change": change, "places": places[n::AT_ONCE]} for n in range(AT_ONCE)]
    for problems in in_programs(damaged_archives.__name__, jobs):
        row.take(problems)


@pytest.mark.parametrize("rows", [2, 5000, 20_000])
def test_claimed_sizes_are_not_believed(rows: int, tmp_path: Path) -> None:
    """A file of kilobytes claims up to 3.6 GB; no store is begun, and no memory is taken for the claim."""
    path = tmp_path / "a.npz"
    path.write_bytes(damaged_archives.overclaiming(rows))
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"a\.npz!x_train: damaged"):
        SOURCES.get("ctrgcn-npz")().discover(path)
    assert time.monotonic() - began < damaged_archives.SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


@pytest.mark.parametrize("kind", ["npz", "npz-compressed"])
def test_a_damaged_array_leaves_no_store(kind: str, tmp_path: Path) -> None:
    data = bytearray(damaged_archives.archive(kind))
    region = dict(damaged_archives.members(bytes(data)))["x_train.npy"]
    data[region[len(region) // 2]] ^= 4
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.npz!x_train: damaged .*copy or download the file again"):
        prepare(tmp_path / "a.npz", tmp_path / "out.zarr", source="ctrgcn-npz", executor="inline")
    assert not (tmp_path / "out.zarr").exists()
