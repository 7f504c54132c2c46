"""Sources: where raw samples lie and how one is read; each kind of raw data is one registered source.

An outside package adds one through the entry-point group ``smae.sources``.
"""

from __future__ import annotations

from smae.data.sources import ctrgcn_npz, hdf5, nw_ucla, pku_mmd, pyskl, stgcn_npy, utd_mhad
from smae.data.sources.base import MAX_BYTES, SOURCES, Inventory, Refused, Sample, SampleReader, Source
from smae.data.sources.ntu import NtuSource

__all__ = [
    "MAX_BYTES",
    "SOURCES",
    "Inventory",
    "NtuSource",
    "Refused",
    "Sample",
    "SampleReader",
    "Source",
    "ctrgcn_npz",
    "hdf5",
    "nw_ucla",
    "pku_mmd",
    "pyskl",
    "stgcn_npy",
    "utd_mhad",
]
