"""From decoded frames to feature rows, one shard at a time."""
