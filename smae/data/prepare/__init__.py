"""From a raw folder to a published store: plan, workers, one shard a task, resumable at every moment."""
