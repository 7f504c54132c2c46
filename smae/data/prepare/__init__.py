"""From raw recordings to a store: a plan, tasks of one shard each, workers, a journal."""
