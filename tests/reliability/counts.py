"""How often a row's trials are made: a few in the default run, all of them in `make reliability`."""

from __future__ import annotations

from typing import Any

import pytest

SLOW = [pytest.mark.slow, pytest.mark.timeout(1800)]


def counts(*, short: Any, full: Any) -> list[Any]:
    """Return the two parameters of a test: ``short`` by default, ``full`` where slow tests run too.

    Where both would run, the short ones are left out by their id.
    """
    few, all_ = (values if isinstance(values, tuple) else (values,) for values in (short, full))
    return [pytest.param(*few, id="short"), pytest.param(*all_, id="full", marks=SLOW)]
