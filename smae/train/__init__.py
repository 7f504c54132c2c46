"""Pre-training: recipes and settings, objectives, the loop, checkpoints and run folders."""
