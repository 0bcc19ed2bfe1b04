"""What a run does besides its shards: which verdicts are asked for again."""
