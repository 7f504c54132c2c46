"""Tests compute in one thread: models this small are only slowed by more, above all on a busy machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Read when torch is first imported, here or in a test's subprocess; nothing has imported it yet.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Read when Triton is first imported: without a GPU its kernels are run by its interpreter.
if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TRITON_INTERPRET", "1")


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
