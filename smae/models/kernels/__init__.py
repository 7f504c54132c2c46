"""Kernels for GPUs, each beside a plain torch form that gives the same result."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Literal

from torch import Tensor

from smae.errors import EnvironmentFault

Choice = Literal["auto", "torch", "triton"]
MOST = 8192
"""Tokens of a clip that one program can hold."""


def wanted(choice: Choice, tokens: Tensor) -> bool:
    """Return whether a Triton kernel is to work on tokens [N, L, P]: as chosen, or wherever one can on a GPU.

    Raises:
        EnvironmentFault: it is chosen outright, and cannot run here.
    """
    there = find_spec("triton") is not None
    if choice == "triton":
        # The interpreter, for tests, is chosen before Triton is imported.
        if there and (tokens.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"):
            return True
        missing = "a GPU" if there else "Triton (pip install 'smae[triton]')"
        raise EnvironmentFault(f"masking.kernel=triton needs {missing}, which is not here: leave it at auto")
    return choice == "auto" and tokens.is_cuda and there and tokens.shape[1] <= MOST
