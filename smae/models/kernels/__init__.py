"""Kernels for GPUs, each beside a plain torch form that gives the same result."""

MOST = 8192
"""Tokens of a clip that one program can hold."""
