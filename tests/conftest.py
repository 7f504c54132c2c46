"""Tests compute in one thread: models this small are only slowed by more, above all on a busy machine."""

from __future__ import annotations

import os

# Read when torch is first imported, here or in a test's subprocess; nothing has imported it yet.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Read when Triton is first imported: without a GPU its kernels are run by its interpreter.
if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TRITON_INTERPRET", "1")
