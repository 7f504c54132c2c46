"""Exports: a store written in a form that other people's code reads; each form is one registered exporter.

An outside package adds one through the entry-point group ``smae.exports``.
"""

from __future__ import annotations

from smae.data.exports import ctrgcn, hdf5, pyskl
from smae.data.exports.base import EXPORTS, Exporter, ExportSummary, Request, export

__all__ = ["EXPORTS", "ExportSummary", "Exporter", "Request", "ctrgcn", "export", "hdf5", "pyskl"]
