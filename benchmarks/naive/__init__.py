"""Naive baselines: what a good afternoon's script does, in plain loops; the fast code must give the same arrays."""
