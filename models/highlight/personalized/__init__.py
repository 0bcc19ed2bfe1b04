"""Highlight models that score a video for one user, from that user's history."""
