"""What the tests of the pages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def fresh_registries() -> Iterator[None]:
    """Take back what the examples register, so that no other test sees it."""
    # Files every built-in probe: one that were first imported by an example would be taken back with the example's.
    import smae.eval.evaluate  # noqa: F401
    from smae.data.export import EXPORTS
    from smae.data.raw.source import SOURCES
    from smae.eval.probes import probes
    from smae.skeleton import LAYOUTS
    from smae.train.config import FAMILIES

    registries = [*FAMILIES.values(), probes, EXPORTS, SOURCES, LAYOUTS]
    before = [dict(registry._members) for registry in registries]
    yield
    for registry, members in zip(registries, before, strict=True):
        registry._members = members
