"""Whether a Triton kernel is to work in place of the plain torch form beside it."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Literal

from smae.errors import EnvironmentFault

Choice = Literal["auto", "torch", "triton"]


def wanted(choice: Choice, *, on_gpu: bool, setting: str, fits: bool = True) -> bool:
    """Return whether a Triton kernel is to work: as chosen, or wherever one can on a GPU.

    Args:
        choice: what was set.
        on_gpu: whether what it works on lies on a GPU.
        setting: name of the setting, for the message.
        fits: whether a kernel can hold what it works on.

    Raises:
        EnvironmentFault: it is chosen outright, and cannot run here.
    """
    there = find_spec("triton") is not None
    if choice == "triton":
        # The interpreter, for tests, is chosen before Triton is imported.
        if there and (on_gpu or os.environ.get("TRITON_INTERPRET") == "1"):
            return True
        missing = "a GPU" if there else "Triton (pip install 'smae[triton]')"
        raise EnvironmentFault(f"{setting}=triton needs {missing}, which is not here: leave it at torch")
    return choice == "auto" and on_gpu and there and fits
