"""Synthetic features and annotations with known preferences."""
