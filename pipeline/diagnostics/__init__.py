"""What this machine can do: decoders and networks, measured on a person's own videos.

Knows speed alone; what is right is `proof.py`'s and the tests' matter.
"""

CLEARLY = 1.1
"""A choice is advised against the default only if it is so many times as fast."""
