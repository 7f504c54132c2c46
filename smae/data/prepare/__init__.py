"""From raw recordings to a published store: a plan, tasks of one shard each, workers, resumable at any moment."""
