"""Losses of the papers: scores and targets in, one number out."""
