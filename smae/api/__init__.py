"""What scripts and notebooks call, and what the command line calls for them: one function per command.

Imports stand inside the functions: preparing needs no torch, and asking for help needs neither.
"""

from __future__ import annotations

from smae.api.around import doctor, status
from smae.api.judging import ensemble, evaluate
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
from smae.api.weights import embed, export_encoder, load_encoder, predict

__all__ = [
    "classes",
    "dataset_card",
    "doctor",
    "embed",
    "ensemble",
    "evaluate",
    "explain",
    "export",
    "export_encoder",
    "find_store",
    "info",
    "load_encoder",
    "open_store",
    "predict",
    "prepare",
    "status",
    "synthesise",
    "verify",
]
