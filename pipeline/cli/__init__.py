"""The commands of `python -m pipeline`, and what their command lines share."""
