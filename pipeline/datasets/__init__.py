"""Annotated datasets: the registry that maps a catalog name to its reader.

To add one: write a module in `readers` with a function that returns a `ParsedDataset`, and add it
to `registry.py`.
"""
