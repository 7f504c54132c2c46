"""Sources: where raw samples lie and how one is read; each kind of raw data is one registered source.

An outside package adds one through the entry-point group ``smae.sources``.
"""
