"""The order in which examples of an epoch are read, and positions in it that can be saved.

The order follows from the seed and the epoch, so a saved position is two numbers: training that
stopped in mid-epoch resumes with the batches that it would have seen, with any number of workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.validation import at_least, between
from storage.base.errors import SettingsError
from storage.base.records import JSON

SHUFFLE_SHARDS = 8
"""Examples are shuffled within groups of so many shards, about 2,400 videos of PHD2.

Reads stay near each other on disk, and a batch still mixes users, since a hash assigns videos to
shards.
"""


def shuffled_order(
    shards: NDArray[np.int64], seed: int, epoch: int, pool_shards: int = SHUFFLE_SHARDS
) -> NDArray[np.int64]:
    """Numbers of the examples in an order that mixes `pool_shards` shards at a time.

    `shards` `(examples,)` is the shard of each example.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(np.unique(shards))
    # Sorted by pool first; within a pool the random permutation decides.
    pool_of = np.zeros(int(shards.max(initial=0)) + 1, np.int64)
    pool_of[order] = np.arange(len(order)) // pool_shards
    return np.lexsort((rng.permutation(len(shards)), pool_of[shards]))


@dataclass(frozen=True)
class EpochOrder:
    """Which examples one of several processes reads in an epoch, and in which order."""

    shards: NDArray[np.int64]
    """`(examples,)`: the shard of each."""
    seed: int
    shuffle: bool
    pool_shards: int = SHUFFLE_SHARDS
    """Shards whose examples are mixed with each other."""
    rank: int = 0
    """The number of this process among `world_size`."""
    world_size: int = 1

    def __post_init__(self) -> None:
        at_least("pool_shards", self.pool_shards, 1)
        at_least("world_size", self.world_size, 1)
        between("rank", self.rank, 0, self.world_size - 1)

    def numbers(self, epoch: int) -> NDArray[np.int64]:
        """`(n,)`: numbers of the examples of this process, in their order."""
        if not self.shuffle:
            return np.arange(self.rank, len(self.shards), self.world_size)
        order = shuffled_order(self.shards, self.seed, epoch, self.pool_shards)
        # All shares must have the same length: processes wait for each other at every step.
        return order[: len(order) // self.world_size * self.world_size][
            self.rank :: self.world_size
        ]


def read_position(state: Mapping[str, JSON], identity: Mapping[str, JSON]) -> tuple[int, int]:
    """The epoch and the batches done of a saved position.

    Raises SettingsError if it belongs to batches of another `identity`, or is not a position.
    """
    theirs = {name: state.get(name) for name in identity}
    if theirs != dict(identity):
        raise SettingsError(
            (
                f"cannot resume: the saved position belongs to batches of {theirs}, "
                f"these are batches of {dict(identity)}",
            )
        )
    epoch, batches_done = state.get("epoch"), state.get("batches_done")
    if not isinstance(epoch, int) or not isinstance(batches_done, int):
        raise SettingsError(
            (
                "epoch and batches_done of a saved position must be whole numbers, "
                f"got {epoch!r} and {batches_done!r}",
            )
        )
    return epoch, batches_done
