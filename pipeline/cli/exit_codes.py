"""Exit codes of `python -m pipeline`."""

FIT = 0
"""All is well, warnings included."""
UNFIT = 1
"""Something would stop a run or spoil it, or differs."""
WRONG_USE = 2
"""The command line or a setting is wrong."""
