"""What scripts and notebooks call, and what the command line calls for them: one function per command.

Imports stand inside the functions: preparing needs no torch, and asking for help needs neither.
"""

from __future__ import annotations

from smae.api.drawing import view
from smae.api.judging import report
from smae.api.stores import (
    classes,
    dataset_card,
    explain,
    export,
    find_store,
    info,
    open_store,
    prepare,
    synthesise,
    verify,
)
from smae.api.training import pretrain

__all__ = [
    "classes",
    "dataset_card",
    "explain",
    "export",
    "find_store",
    "info",
    "open_store",
    "prepare",
    "pretrain",
    "report",
    "synthesise",
    "verify",
    "view",
]
