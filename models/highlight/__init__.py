"""Highlight models: every model of the five papers behind one contract; `registry.py` lists
them.
"""
