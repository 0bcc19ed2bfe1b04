"""The catalog of a dataset: its videos, shards and annotated segments, read from and written to
CSV.
"""
