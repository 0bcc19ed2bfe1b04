"""Frozen networks that turn frames into features, one a file; `table.py` lists them."""
