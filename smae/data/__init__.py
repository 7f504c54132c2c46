"""Raw files to batches: sources, readers, cleaning, the store, the loader."""
