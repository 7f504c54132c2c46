"""Functions that scripts and the command line call."""

from __future__ import annotations

from smae.api.around import doctor, status
from smae.api.judging import ensemble, evaluate
from smae.api.stores import explain, prepare, synthesise
from smae.api.weights import embed, export_encoder, load_encoder, predict

__all__ = [
    "doctor",
    "embed",
    "ensemble",
    "evaluate",
    "explain",
    "export_encoder",
    "load_encoder",
    "predict",
    "prepare",
    "status",
    "synthesise",
]
