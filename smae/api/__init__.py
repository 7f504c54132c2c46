"""What scripts and notebooks call, and what the command line calls for them: one function per command.

Imports stand inside the functions: preparing needs no torch, and asking for help needs neither.
"""

from __future__ import annotations

from smae.api.drawing import view
from smae.api.judging import report
from smae.api.stores import explain, prepare, synthesise
from smae.api.training import pretrain

__all__ = [
    "explain",
    "prepare",
    "pretrain",
    "report",
    "synthesise",
    "view",
]
