"""Highlight models: every model of the five papers behind one contract."""
