"""Defaults that the functions of this package share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Say = Callable[[str], None]
RUNS = Path("runs")


def silent(*args: object) -> None:
    """Take progress and say nothing."""
