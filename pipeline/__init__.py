"""What is done to one video or one shard: plain functions.

Knows networks by their contract and the store by its writer. Refuses to know schedulers, clusters and settings files.
"""

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds our packages. Child processes run there, so that `python -m` finds them."""
