"""Evaluation protocols, baselines and statistics."""
