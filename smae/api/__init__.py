"""What scripts and notebooks call, and what the command line calls for them: one function per command.

Imports stand inside the functions: preparing needs no torch, and asking for help needs neither.
"""

from __future__ import annotations

from smae.api.around import doctor, status
from smae.api.judging import ensemble, evaluate
from smae.api.stores import synthesise
from smae.api.training import pretrain
from smae.api.weights import embed, export_encoder, load_encoder, predict

__all__ = [
    "doctor",
    "embed",
    "ensemble",
    "evaluate",
    "export_encoder",
    "load_encoder",
    "predict",
    "pretrain",
    "status",
    "synthesise",
]
