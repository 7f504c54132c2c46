"""Raw files to batches: sources, readers, cleaning, the store, the loader."""

MAX_FRAMES = 100_000
"""Most frames that a clip is resampled to."""
