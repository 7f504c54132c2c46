"""Damage to a checkpoint, bit by bit and file by file: all of it is found; resuming falls back by one and says so."""

from __future__ import annotations

import logging
import logging.handlers
import shutil
from pathlib import Path

import numpy as np
import pytest

from smae.errors import DataError
from smae.train.checkpoint import load_checkpoint, load_latest, logger
from smae.train.run_folder import Run
from tests.fakes import FakeStore
from tests.reliability.counts import counts
from tests.reliability.scoreboard import Row, Scoreboard
from tests.reliability.stores import changed
from tests.train.small import run_through, small_config, small_loop

TITLE = "checkpoint: flips, truncations, deletions, swaps, found; resume falls back one and says so"
STORE = FakeStore.random(clips=12, seed=0, frames=(16, 30))


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The older and the newer checkpoint of a run, with moving averages: five files each."""
    run = Run(tmp_path_factory.mktemp("damaged"))
    run_through(small_loop(STORE, run, small_config(train={"epochs": 2, "save_seconds": 0, "ema": 0.9})))
    older, newer = sorted(run.checkpoints.iterdir())
    return older, newer


def names(step: Path) -> list[str]:
    return sorted(path.name for path in step.iterdir())


def damage(row: Row, steps: tuple[Path, Path], name: str, what: str, data: bytes | None) -> None:
    """Make one trial: a file of the newer checkpoint damaged so."""
    older, newer = steps
    with changed(newer / name, data):
        row.trial(problem_with(older, newer, f"{name}, {what}: "))


def problem_with(older: Path, newer: Path, what: str) -> str:
    """Return what is wrong: nothing is found, another file is blamed, or there is no falling back."""
    try:
        load_checkpoint(newer)
        return what + "nothing is found"
    except DataError as error:
        if newer.name not in str(error):
            return f"{what}it is not named: {error}"
    handler = logging.handlers.BufferingHandler(capacity=10)
    logger.addHandler(handler)
    try:
        found = load_latest(newer.parent)
    finally:
        logger.removeHandler(handler)
    if found.path != older:
        return f"{what}fell back to {found.path}"
    warnings = [record.getMessage() for record in handler.buffer]
    return "" if len(warnings) == 1 and newer.name in warnings[0] else f"{what}warned {warnings}"


@pytest.mark.parametrize("count", counts(short=40, full=400))
def test_flipped_bits(scoreboard: Scoreboard, steps: tuple[Path, Path], count: int) -> None:
    with scoreboard(TITLE) as row:
        dice = np.random.default_rng(1)
        for number in range(count):
            name = names(steps[1])[number % 5]
            data = bytearray((steps[1] / name).read_bytes())
            at, bit = int(dice.integers(len(data))), int(dice.integers(8))
            data[at] ^= 1 << bit
            damage(row, steps, name, f"bit {bit} of byte {at} flipped", bytes(data))


@pytest.mark.parametrize("count", counts(short=40, full=400))
def test_truncations(scoreboard: Scoreboard, steps: tuple[Path, Path], count: int) -> None:
    with scoreboard(TITLE) as row:
        dice = np.random.default_rng(2)
        for number in range(count):
            name = names(steps[1])[number % 5]
            data = (steps[1] / name).read_bytes()
            # A manifest without its last byte, a line's end, says all the same.
            at = int(dice.integers(len(data) - 1))
            damage(row, steps, name, f"cut to {at} bytes", data[:at])


def test_every_file_gone_emptied_lengthened_or_swapped(scoreboard: Scoreboard, steps: tuple[Path, Path]) -> None:
    with scoreboard(TITLE) as row:
        older, newer = steps
        for name in names(newer):
            data = (newer / name).read_bytes()
            damage(row, steps, name, "gone", None)
            damage(row, steps, name, "emptied", b"")
            damage(row, steps, name, "a byte longer", data + b"x")
            damage(row, steps, name, "swapped for the older one's", (older / name).read_bytes())
            for other in names(newer):
                if other != name:
                    damage(row, steps, name, f"swapped for {other}", (newer / other).read_bytes())


def test_a_folder_without_its_files_or_under_anothers_name(
    scoreboard: Scoreboard, steps: tuple[Path, Path], tmp_path: Path
) -> None:
    with scoreboard(TITLE) as row:
        for what in ("emptied", "a file"):
            older, newer = (Path(shutil.copytree(step, tmp_path / what / step.name)) for step in steps)
            shutil.rmtree(newer)
            newer.mkdir() if what == "emptied" else newer.write_bytes(b"")
            row.trial(problem_with(older, newer, f"the folder {what}: "))
        older = Path(shutil.copytree(steps[0], tmp_path / "renamed" / steps[0].name))
        newest = Path(shutil.copytree(steps[1], tmp_path / "renamed" / "step-99999999"))
        row.trial(problem_with(older, newest, "another step's name: "))
