"""Processing of one video or one shard: download, decode, extract; no scheduler."""
