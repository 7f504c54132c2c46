"""Contract suites for plug-in authors: ``check_encoder``, ``check_masking``, ``check_objective``."""

from __future__ import annotations

from smae.testing.models import check_encoder, check_masking
from smae.testing.objectives import check_objective

__all__ = ["check_encoder", "check_masking", "check_objective"]
