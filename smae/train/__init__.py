"""Training: objectives, the loop, checkpoints, probes and the report."""
