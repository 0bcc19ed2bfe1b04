"""Exit codes of `python -m pipeline`."""

SUCCESS = 0
"""Success, possibly with warnings."""
FAILURE = 1
"""Something would stop or spoil a run, or differs."""
WRONG_USE = 2
"""The command line or a setting is wrong."""
