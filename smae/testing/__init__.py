"""Contract suites for plug-in authors: ``check_encoder``, ``check_masking``, ``check_objective``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smae.testing.models import check_encoder as check_encoder
    from smae.testing.models import check_masking as check_masking
    from smae.testing.objectives import check_objective as check_objective

__all__ = ["check_encoder", "check_masking", "check_objective"]


def __getattr__(name: str) -> Any:
    # Imported when they are used: ``smae new`` needs no torch.
    if name not in __all__:
        raise AttributeError(f"module 'smae.testing' has no attribute {name!r}")
    module = "objectives" if name == "check_objective" else "models"
    return getattr(importlib.import_module(f"smae.testing.{module}"), name)
