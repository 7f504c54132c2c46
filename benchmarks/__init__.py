"""Benchmarks: `python -m benchmarks.prepare`, `python -m benchmarks.loader`; each prints the ratios of one run."""
