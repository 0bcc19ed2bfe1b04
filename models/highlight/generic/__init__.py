"""Highlight models that score a video without knowing its viewer."""
