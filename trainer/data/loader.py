"""Batches of a dataset in an order that follows from the seed and the epoch, from any place of it
on.

A loader's position is three numbers, so training stopped in mid-epoch goes on with exactly the
batches it would have seen, whatever the number of workers before and after. Refuses to know models
and losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from storage.base.errors import HighlightsError, SettingsError
from storage.base.records import JSON
from trainer.data.collate import Collate, DeviceBatch, tensors_of, to_device
from trainer.data.dataset import HighlightDataset, Sample, SampleSeed
from trainer.data.prefetch import prefetch

_TORCH_DTYPES = {
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.float16): torch.float16,
    np.dtype(np.float32): torch.float32,
}
SHUFFLE_SHARDS = 8
"""Examples are mixed within so many shards, about 2,400 videos of PHD2: reads stay near each other
on disk, and a batch still has users from everywhere, since a hash put their videos into shards.
"""


@dataclass(frozen=True)
class LoaderSettings:
    """How batches are made."""

    batch_size: int
    seed: int = 0
    workers: int = 0
    """Processes that read ahead; 0 reads in this one."""
    start_method: str = "spawn"
    """How workers are started: spawn, forkserver or fork (fast, but unsafe beside threads and once
    CUDA is in use).
    """
    prefetch: int = 2
    """Batches each worker reads ahead."""
    rank: int = 0
    """Of `world_size` processes that train together, each sees its own share of every epoch, all shares
    equally long: up to `world_size - 1` examples are left out of an epoch, others each time.
    """
    world_size: int = 1
    device: str = "cpu"
    """Where batches come. On a GPU a thread copies the next one while a step computes, and rows
    stored as float16 are copied as such: half the bytes.
    """

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < 0 or self.prefetch < 1:
            raise ValueError(
                f"batch_size and prefetch are at least 1, workers at least 0; got {self}"
            )
        if self.start_method not in ("spawn", "forkserver", "fork"):
            raise ValueError(
                f"start_method is spawn, forkserver or fork, got {self.start_method!r}"
            )
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank is 0 to world_size - 1, got {self.rank} of {self.world_size}")


class Loader:
    """`for batch, targets, examples in loader`: the rest of the current epoch, after which the next
    one is current.

    A loop that breaks off goes on where it stopped. Training data is shuffled anew each epoch;
    scoring data is not.
    """

    def __init__(self, dataset: HighlightDataset, settings: LoaderSettings) -> None:
        self.dataset = dataset
        self.settings = settings
        self.epoch = 0
        self.batches_done = 0
        self._batches: DataLoader[Any] = DataLoader(
            _ErrorCarryingDataset(dataset),
            batch_sampler=_RemainingBatches(self),
            collate_fn=_ErrorCarryingCollate(
                make_collate(dataset, keep_float16=settings.device.startswith("cuda"))
            ),
            num_workers=settings.workers,
            multiprocessing_context=settings.start_method if settings.workers else None,
            prefetch_factor=settings.prefetch if settings.workers else None,
            persistent_workers=settings.workers > 0,
            # Its own: each pass draws a number from it, and dropout must not depend on how often
            # one looks at data.
            generator=torch.Generator().manual_seed(settings.seed),
        )

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return -(-len(self._numbers(self.epoch)) // self.settings.batch_size)

    def __iter__(self) -> Iterator[DeviceBatch]:
        for loaded in self._arriving():
            self.batches_done += 1
            yield loaded
        self.epoch, self.batches_done = self.epoch + 1, 0

    def _arriving(self) -> Iterator[DeviceBatch]:
        if not self.settings.device.startswith("cuda"):
            yield from self._read()
            return
        device = torch.device(self.settings.device)
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

        def copied(loaded: DeviceBatch) -> tuple[DeviceBatch, torch.cuda.Event]:
            with torch.cuda.stream(side):
                there = DeviceBatch(
                    to_device(loaded.batch, device),
                    to_device(loaded.targets, device),
                    loaded.examples,
                )
                return there, side.record_event()

        with closing(prefetch(self._read(), copied)) as batches:
            for loaded, is_there in batches:
                here = torch.cuda.current_stream(device)
                here.wait_event(is_there)
                for tensor in (*tensors_of(loaded.batch), *tensors_of(loaded.targets)):
                    tensor.record_stream(
                        here
                    )  # its memory is the other stream's, which must not take it back in use
                yield loaded

    def _read(self) -> Iterator[DeviceBatch]:
        for found in self._batches:
            if isinstance(found, HighlightsError):
                raise found
            yield found

    def state_dict(self) -> dict[str, JSON]:
        """Where the loader stands: taken inside a loop, behind the batch in hand."""
        return {"epoch": self.epoch, "batches_done": self.batches_done, **self._identity()}

    def load_state_dict(self, state: Mapping[str, JSON]) -> None:
        """Go on from `state`. Raises SettingsError if it is of other examples, or of batches made
        in another way.
        """
        mine = self._identity()
        theirs = {name: state.get(name) for name in mine}
        if theirs != mine:
            raise SettingsError(
                (f"the position is one of {theirs}, and these batches are {mine}: no going on",)
            )
        epoch, batches_done = state["epoch"], state["batches_done"]
        if not isinstance(epoch, int) or not isinstance(batches_done, int):
            raise SettingsError(
                (
                    f"a position has whole numbers, got epoch {epoch!r} and batches_done {batches_done!r}",
                )
            )
        self.epoch, self.batches_done = epoch, batches_done

    def _identity(self) -> dict[str, JSON]:
        return {
            "examples": self.dataset.digest,
            "batch_size": self.settings.batch_size,
            "seed": self.settings.seed,
            # The key is an older word for the world size; checkpoints hold it.
            "ranks": self.settings.world_size,
        }

    def rest(self) -> Iterator[list[SampleSeed]]:
        """The draws of the batches to come in this epoch."""
        numbers, size = self._numbers(self.epoch), self.settings.batch_size
        for first in range(self.batches_done * size, len(numbers), size):
            chosen = sorted(
                numbers[first : first + size].tolist()
            )  # a batch reads its videos in the order of their ids
            yield [SampleSeed(number, self.settings.seed, self.epoch) for number in chosen]

    def _numbers(self, epoch: int) -> NDArray[np.int64]:
        rank, world_size = self.settings.rank, self.settings.world_size
        if not self.dataset.is_training:
            return np.arange(rank, len(self.dataset), world_size)
        order = shuffled_order(self.dataset.shards, self.settings.seed, epoch)
        return order[: len(order) // world_size * world_size][rank::world_size]


class _ErrorCarryingDataset(Dataset["Sample | HighlightsError"]):
    """The dataset, with errors of ours as values: torch would make a RuntimeError of one that comes
    from a worker, and a damaged store would look like a bug.
    """

    def __init__(self, dataset: HighlightDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, draw: SampleSeed) -> Sample | HighlightsError:
        try:
            return self._dataset[draw]
        except HighlightsError as error:
            return error


@dataclass(frozen=True)
class _ErrorCarryingCollate:
    """A batch of samples; the first error among them, if there is one."""

    collate: Collate

    def __call__(
        self, samples: Sequence[Sample | HighlightsError]
    ) -> DeviceBatch | HighlightsError:
        read = [sample for sample in samples if isinstance(sample, Sample)]
        failed = [sample for sample in samples if isinstance(sample, HighlightsError)]
        return failed[0] if failed else self.collate(read)


@dataclass(frozen=True)
class _RemainingBatches:
    """The batch sampler: what its loader has not yet handed out."""

    loader: Loader

    def __iter__(self) -> Iterator[list[SampleSeed]]:
        return self.loader.rest()

    def __len__(self) -> int:
        return len(self.loader) - self.loader.batches_done


def shuffled_order(shards: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Numbers of the examples, whose shards are `shards`, in an order that mixes `SHARDS_AT_ONCE`
    shards at a time.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(np.unique(shards))
    pool_of = np.zeros(int(shards.max(initial=0)) + 1, np.int64)
    pool_of[order] = np.arange(len(order)) // SHUFFLE_SHARDS
    return np.lexsort((rng.permutation(len(shards)), pool_of[shards]))


def make_collate(dataset: HighlightDataset, *, keep_float16: bool = False) -> Collate:
    """What makes batches of a dataset's samples; with `keep_float16` rows that are stored as float16
    stay so.
    """
    features, settings = dataset.reader.features, dataset.reader.settings
    keep_float16 &= settings.unit == "row"  # means over segments are more exact than the rows
    dtypes = {
        key: _TORCH_DTYPES[features.dtype(key, keep_float16=keep_float16)] for key in features.keys
    }
    return Collate(features.shapes, dtypes, settings.history != "none")
