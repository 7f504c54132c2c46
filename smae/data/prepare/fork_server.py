"""Imported by the fork server alone, before it forks: every worker then starts with the compiled kernels."""

from __future__ import annotations

from importlib import import_module

from smae.data.prepare.executors import collect_rarely

# Before the imports, most of whose time the collector would take for nothing.
collect_rarely()
for name in ("smae.data.prepare.worker", "smae.data.prepare.fast_path", "smae.data.clean.cleaning"):
    import_module(name)
