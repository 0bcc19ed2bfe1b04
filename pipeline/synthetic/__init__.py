"""Synthetic videos with known content, for trying and testing the pipeline."""
