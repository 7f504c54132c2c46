"""The scoreboard of a test run: tests report their trials to it, and its table ends the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.scoreboard import Scoreboard
from tests.reliability.stores import in_memory

BOARD = pytest.StashKey[Scoreboard]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scoreboard", type=Path, help="Write the scoreboard's rows to this file too, as JSON.")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out a few trials of what all trials are made of in the same run."""
    ids = [(item, getattr(item, "originalname", ""), getattr(item, "callspec", None)) for item in items]
    full = {(item.path, name) for item, name, spec in ids if spec and "full" in spec.id}
    needless = [item for item, name, spec in ids if spec and "short" in spec.id and (item.path, name) in full]
    config.hook.pytest_deselected(items=needless)
    items[:] = [item for item in items if item not in needless]


@pytest.fixture
def scoreboard(pytestconfig: pytest.Config) -> Scoreboard:
    """Return the scoreboard: ``with scoreboard("row's title") as row: row.trial(problem)``."""
    return pytestconfig.stash.setdefault(BOARD, Scoreboard())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    board = config.stash.get(BOARD, None)
    if board is None:
        return
    terminalreporter.section("reliability")
    for line in board.lines():
        terminalreporter.line(line)
    # The option is unknown where these tests run as a part of all tests.
    path = config.getoption("--scoreboard", default=None)
    if path is not None:
        board.write(path)


@pytest.fixture
def memory() -> Iterator[Path]:
    """Return a folder in memory."""
    with in_memory() as folder:
        yield folder
