"""Losses of the papers, apart from the networks: scores and targets in, one number out."""
