"""From a raw folder to a published store: plan, workers, one writer, resumable at every moment."""
