"""A sampler of batches for torch's DataLoader that resumes in the middle of an epoch.

    sampler = ResumableSampler(dataset, batch_size=32, seed=1)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=4, persistent_workers=True)
    for batch in sampler.iterate(loader):  # one epoch, or the rest of one
        ...
        checkpoint["sampler"] = sampler.state_dict()

Workers read ahead, so the sampler alone cannot say which batches were used: `iterate` counts them
as they arrive.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sized
from typing import TypeVar

import numpy as np
from torch.utils.data import DataLoader, Sampler

from models.validation import at_least
from storage.base.errors import SettingsError
from storage.base.records import JSON
from trainer.data.batch_order import SHUFFLE_SHARDS, EpochOrder, read_position

T = TypeVar("T")


class ResumableSampler(Sampler[list[int]]):
    """Numbers of the examples of each batch, in an order that follows from seed and epoch.

    The same batches come with any number of workers, and after `load_state_dict` exactly those that
    were left. Without `iterate` it is a plain sampler, which shuffles anew each epoch.
    """

    def __init__(
        self,
        dataset: Sized,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        pool_shards: int = SHUFFLE_SHARDS,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Reads nothing.

        Args:
            dataset: a WindowDataset, or any dataset of fixed length.
            batch_size: examples of a batch; the last of an epoch may have fewer.
            seed: of the order.
            shuffle: False keeps the order of the dataset.
            pool_shards: how many shards of the store are mixed at a time. 1 reads one shard after
                the other, with the fewest seeks; a large number mixes the whole store.
            rank: the number of this process among `world_size`, each of which sees its own share.
            world_size: processes that train together.
        """
        at_least("batch_size", batch_size, 1)
        shards = getattr(dataset, "shards", None)
        if shards is None:
            shards = np.zeros(len(dataset), np.int64)
        self.batch_size = batch_size
        self.epoch = 0
        self.batches_done = 0
        """Batches of this epoch that `iterate` has given."""
        self._order = EpochOrder(shards, seed, shuffle, pool_shards, rank, world_size)
        self._examples = str(getattr(dataset, "digest", len(dataset)))
        self._is_counting = False
        self._was_read_uncounted = False

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return math.ceil(len(self._order.numbers(self.epoch)) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        is_counting = self._is_counting
        self._was_read_uncounted |= not is_counting
        numbers, size = self._order.numbers(self.epoch), self.batch_size
        for first in range(self.batches_done * size, len(numbers), size):
            # Ascending numbers are ascending videos: a batch reads its files front to back.
            yield sorted(numbers[first : first + size].tolist())
        if not is_counting:
            self.epoch, self.batches_done = self.epoch + 1, 0

    def iterate(self, loader: DataLoader[T]) -> Iterator[T]:
        """The batches that are left of this epoch, counted as they arrive.

        Only a loop that runs to its end starts the next epoch. Raises SettingsError for a loader
        of another sampler.
        """
        if loader.batch_sampler is not self:
            raise SettingsError(
                ("make the loader with DataLoader(dataset, batch_sampler=sampler, ...)",)
            )
        self._is_counting = True
        try:
            for batch in loader:
                # Counted before the step, so that a checkpoint inside the loop lies behind it.
                self.batches_done += 1
                yield batch
        finally:
            self._is_counting = False
        self.epoch, self.batches_done = self.epoch + 1, 0

    def state_dict(self) -> dict[str, JSON]:
        """The position: plain numbers and texts. Inside a loop it is behind the current batch.

        Raises SettingsError if a loader was read without `iterate`: nothing was counted then.
        """
        if self._was_read_uncounted:
            raise SettingsError(
                (
                    "the position is not known, because batches were read without being counted: "
                    "write `for batch in sampler.iterate(loader)`",
                )
            )
        return {"epoch": self.epoch, "batches_done": self.batches_done, **self._identity()}

    def load_state_dict(self, state: Mapping[str, JSON]) -> None:
        """Resume at the position `state`.

        Raises SettingsError if it belongs to other examples, or to batches made otherwise.
        """
        self.epoch, self.batches_done = read_position(state, self._identity())
        self._was_read_uncounted = False

    def _identity(self) -> dict[str, JSON]:
        order = self._order
        return {
            "examples": self._examples,
            "batch_size": self.batch_size,
            "seed": order.seed,
            "shuffle": order.shuffle,
            "pool_shards": order.pool_shards,
            "world_size": order.world_size,
        }
