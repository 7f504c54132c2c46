"""Metadata that lie consistently, in every value: the work is done, or refused in a line; never a bug's traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability import lies
from tests.reliability.counts import counts
from tests.reliability.forked_cli import AT_ONCE, in_programs
from tests.reliability.scoreboard import Scoreboard
from tests.reliability.stores import in_memory

# Steps share no factor with the number of lies about a value: each kind of lie has its turn somewhere.
TITLE = "metadata that lie, all checksums made again"


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        pytest.param(kind, *each.values, id=f"{kind}-{each.id}", marks=each.marks)
        for kind, full in {"store": 13, "quarantine": 13, "run": 201, "encoder": 47, "head": 31}.items()
        for each in counts(short=1201 if kind != "run" else 12007, full=full)
    ],
)
def test_lies(scoreboard: Scoreboard, kind: str, step: int) -> None:
    with scoreboard(TITLE) as row:
        jobs = [{"kind": kind, "first": n * step, "step": AT_ONCE * step} for n in range(AT_ONCE)]
        for problems in in_programs(lies.__name__, jobs):
            row.take(problems)


@pytest.mark.parametrize("name", [b"a\nb", b"\x1b[2J", b"a\x7fb"])
def test_clips_have_printable_names(name: bytes, tmp_path: Path) -> None:
    from smae.data.store import open_store
    from smae.errors import DataError
    from tests.reliability.runs import write_store

    store = write_store(tmp_path)
    lies.rename_clip(store, b"S001C001P001R001A001")
    assert open_store(store).clips.name[0] == "S001C001P001R001A001"
    lies.rename_clip(store, name)
    with pytest.raises(DataError, match="a clip's name is not printable ASCII; prepare the store again"):
        open_store(store)


@pytest.fixture(scope="module")
def sound() -> Iterator[Path]:
    with in_memory() as folder:
        lies.made(folder)
        yield folder


HUGE = {
    "blocks": {"depth": 10**6},
    "200 blocks": {"depth": 200},
    "width": {"dim": 10**9},
    "width 16,384": {"dim": 2**14},
    "wide and deep": {"dim": 2**14, "depth": 200, "mlp": 64},
    "heads": {"heads": 2**62},
    "frames of a token": {"patch": 2**62},
    "mlp": {"mlp": 1e300},
}


@pytest.mark.parametrize("what", ["encoder", "run", "head"])
def test_sizes_are_compared_with_the_weights_before_any_memory_is_taken(
    scoreboard: Scoreboard, sound: Path, tmp_path: Path, what: str
) -> None:
    raw, commands = sorted((sound / "raw").iterdir())[0], []
    for number, claim in enumerate(HUGE.values()):
        lying = tmp_path / f"{what}-{number}"
        shutil.copytree(sound / ("encoder" if what == "encoder" else "run"), lying)
        file = lying / "run.json" if what == "run" else next(lying.rglob("config.json"))
        content = json.loads(file.read_text())
        settings = content["config"]["encoder"] if what == "run" else content["encoder"]
        settings.update(claim)
        file.write_text(json.dumps(content))
        commands += {
            "encoder": [["embed", sound / "data.zarr", "--encoder", lying, "--out", tmp_path / "f.npz"]],
            "head": [["predict", raw, "--head", file.parent, "--device", "cpu"]],
            "run": [
                ["export-encoder", lying, "--out", tmp_path / "e"],
                ["eval", "--run", lying, "--protocol", "xsub", "--probe", "knn", "--device", "cpu"],
                ["pretrain", "--out", lying, "--resume", "--device", "cpu"],
                ["report", lying, "--device", "cpu"],
            ],
        }[what]
    with scoreboard("sizes claimed by settings: 1 GiB, 30 s") as row:
        jobs = [{"commands": [[str(word) for word in words] for words in commands]}]
        for problems in in_programs("tests.reliability.huge_claims", jobs):
            row.take(problems)
