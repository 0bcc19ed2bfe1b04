"""Benchmarks of decoders, networks and whole extraction, for `python -m pipeline bench`."""
