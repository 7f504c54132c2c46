"""One SHA-256 of a store for any number of workers, listing order, locale, location and packing of the files."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import smae
from smae.data.prepare import plan
from tests.data.raw_folder import files, write_folder, write_zip
from tests.reliability.forked_cli import ROOT
from tests.reliability.scoreboard import Scoreboard
from tests.reliability.stores import digest, in_memory

TITLE = "one SHA-256: workers, listing, locale, place, packing"
COUNT, TASK_SAMPLES = 120, 15
SETTINGS: dict[str, Any] = {"frames": 120, "mode": "exact"}
"""14,400 rows in 8 tasks, as many shards."""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder with the recordings in ``raw`` and their undisturbed store in ``whole.zarr``."""
    with in_memory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "TASK_SAMPLES", TASK_SAMPLES)
        write_folder(folder / "raw", recordings())
        smae.prepare(folder / "raw", folder / "whole.zarr", executor="inline", **SETTINGS)
        yield folder


def recordings() -> dict[str, bytes]:
    contents = files(COUNT, frames=1)
    # The quarantine list and the counts must be the same too.
    contents["S002C001P001R001A001.skeleton"] = b"bad"
    contents["S002C001P001R001A002.skeleton"] = b"2\n0\n0\n"
    return contents | {"notes.txt": b"\xff"}


def same(scoreboard: Scoreboard, home: Path, raw: Path, out: Path, what: str, **options: Any) -> None:
    """Prepare once more, in this process, and compare."""
    with scoreboard(TITLE) as row:
        smae.prepare(raw, out, **{"executor": "inline", **SETTINGS, **options})
        row.check(digest(out) == digest(home / "whole.zarr"), f"{what}: other bytes")


@pytest.mark.parametrize(
    "workers",
    [pytest.param(1, id="short1"), 2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)],
)
def test_workers(scoreboard: Scoreboard, home: Path, memory: Path, workers: int) -> None:
    same(scoreboard, home, home / "raw", memory / "x.zarr", f"{workers} workers", executor="processes", workers=workers)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_listing(scoreboard: Scoreboard, home: Path, memory: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    dice = random.Random(seed)
    monkeypatch.setattr(os, "scandir", _shuffling_scandir(os.scandir, dice))
    monkeypatch.setattr(os, "listdir", _shuffling(os.listdir, dice))
    same(scoreboard, home, home / "raw", memory / "x.zarr", f"shuffled listing {seed}")


def _shuffling(real: Callable[..., list[str]], dice: random.Random) -> Callable[..., list[str]]:
    def listdir(*arguments: Any) -> list[str]:
        found = real(*arguments)
        dice.shuffle(found)
        return found

    return listdir


def _shuffling_scandir(real: Callable[..., Any], dice: random.Random) -> Callable[..., Any]:
    class Scan:
        def __init__(self, *arguments: Any) -> None:
            with real(*arguments) as entries:
                self._entries = list(entries)
            dice.shuffle(self._entries)
            self._iterator = iter(self._entries)

        def __iter__(self) -> Any:
            return self._iterator

        def __next__(self) -> Any:
            return next(self._iterator)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

        def close(self) -> None:
            pass

    return Scan


def test_location_and_packing(scoreboard: Scoreboard, home: Path, memory: Path) -> None:
    contents = recordings()
    backwards = dict(reversed(contents.items()))
    moved = write_folder(memory / "ëlse where" / "x.zarr.wip", backwards)
    deep = write_folder(memory / "deep", {f"{n % 7}/{n % 3}/{name}": contents[name] for n, name in enumerate(contents)})
    link = memory / "link"
    link.symlink_to(home / "raw")
    for number, raw in enumerate((moved, link)):
        same(scoreboard, home, raw, memory / f"{number}.zarr", f"moved to {raw.name}")
    # The location of a recording is in the quarantine list and nowhere else.
    bad = "S002C001P001R001A001.skeleton"
    for number, raw in enumerate((deep, write_zip(memory / "all.zip", backwards))):
        with scoreboard(TITLE) as row:
            out = memory / f"packed-{number}.zarr"
            smae.prepare(raw, out, executor="inline", **SETTINGS)
            row.check(_shards(out) == _shards(home / "whole.zarr"), f"{raw.name}: other bytes")
    good = {name: data for name, data in contents.items() if name != bad}
    plain, zipped = write_folder(memory / "plain", good), write_zip(memory / "zips" / "part.zip", good)
    with scoreboard(TITLE) as row:
        digests = set()
        for raw in (plain, zipped, zipped.parent):
            smae.prepare(raw, memory / "y.zarr", executor="inline", **SETTINGS)
            # Names locations, and is outside of what the fingerprint covers.
            (memory / "y.zarr" / "excluded.jsonl").unlink(missing_ok=True)
            digests.add(digest(memory / "y.zarr"))
            shutil.rmtree(memory / "y.zarr")
            row.check(len(digests) == 1, f"{raw.name}: other bytes")


def _shards(store: Path) -> dict[str, bytes]:
    """Return the files of a store except the lists that name locations, and the manifest, which records one."""
    excluded = ("quarantine.jsonl", "excluded.jsonl", "manifest.json")
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and path.name not in excluded
    }


WORLDS: dict[str, dict[str, str]] = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "POSIX": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Pacific/Chatham"},
    "UTF-8": {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1", "PYTHONHASHSEED": "1"},
    "Turkish": {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR", "PYTHONUTF8": "0", "PYTHONHASHSEED": "2"},
    "German": {"LC_ALL": "de_DE.ISO-8859-1", "LC_NUMERIC": "de_DE", "PYTHONUTF8": "0", "COLUMNS": "20"},
}


@pytest.mark.parametrize("world", ["C", *(pytest.param(world, marks=pytest.mark.slow) for world in list(WORLDS)[1:])])
def test_locales(scoreboard: Scoreboard, home: Path, memory: Path, world: str) -> None:
    """The command in a process of its own, under another locale, time zone and order of hashing."""
    with scoreboard(TITLE) as row:
        script = f"from smae.data.prepare import plan; plan.TASK_SAMPLES = {TASK_SAMPLES}"
        script += "; from smae_cli.main import main; main()"
        command = [sys.executable, "-c", script, "prepare", "--raw", str(home / "raw")]
        command += ["--out", str(memory / "x.zarr"), "--executor", "inline", "--frames", "120", "--mode", "exact"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LC_")} | WORLDS[world]
        done = subprocess.run(
            command, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=120, cwd=memory
        )
        assert done.returncode == 3, done.stderr
        row.check(digest(memory / "x.zarr") == digest(home / "whole.zarr"), f"locale {world}: other bytes")
