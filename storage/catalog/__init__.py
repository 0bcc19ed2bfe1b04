"""The catalog of a dataset: its videos, shards and annotated segments, kept as CSV."""
