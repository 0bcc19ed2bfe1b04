"""Loader: shuffled batches of a dataset that can resume in the middle of an epoch.

The order of batches follows from the seed and the epoch, and the position of a loader is the number
of batches done. Training that stopped in mid-epoch therefore resumes with exactly the batches that
it would have seen, with any number of workers before and after.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from models.validation import at_least, between, one_of
from storage.base.errors import HighlightsError
from storage.base.records import JSON
from trainer.data.batch_order import EpochOrder, read_position
from trainer.data.collate import Collate, DeviceBatch, tensors_of, to_device
from trainer.data.dataset import HighlightDataset, Sample, SampleSeed
from trainer.data.prefetch import prefetch
from trainer.data.sources.read_cache import DEFAULT_CACHE_BYTES

_TORCH_DTYPES = {
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.float16): torch.float16,
    np.dtype(np.float32): torch.float32,
}


@dataclass(frozen=True)
class LoaderSettings:
    """How batches are made."""

    batch_size: int
    seed: int = 0
    workers: int = 0
    """Processes that prefetch batches; 0 reads in this process."""
    start_method: str = "spawn"
    """How workers are started: spawn, forkserver, or fork, which is fast but unsafe beside threads
    and after CUDA is initialised.
    """
    prefetch: int = 2
    """Batches that each worker prefetches."""
    rank: int = 0
    """Each of `world_size` processes sees its own share of an epoch. All shares are equally long:
    up to `world_size - 1` examples are left out of an epoch, others each time.
    """
    world_size: int = 1
    device: str = "cpu"
    """The device of the batches. For a GPU, a thread copies the next batch while a step computes,
    and rows stored as float16 are copied as such: half the bytes.
    """
    cache_bytes: int = DEFAULT_CACHE_BYTES
    """Each process that reads keeps up to so many bytes of a training split between epochs: means
    of segments, rows of histories, labels. 0 keeps nothing. Batches are the same, bit for bit.
    """

    def __post_init__(self) -> None:
        at_least("batch_size", self.batch_size, 1)
        at_least("workers", self.workers, 0)
        one_of("start_method", self.start_method, ("spawn", "forkserver", "fork"))
        at_least("prefetch", self.prefetch, 1)
        between("rank", self.rank, 0, self.world_size - 1)
        at_least("cache_bytes", self.cache_bytes, 0)


class Loader:
    """Batches of a dataset: `for batch, targets, examples in loader` is one epoch.

    After a loop that ended early, the next one gives the rest of the epoch. Training data is
    shuffled anew each epoch; scoring data is not shuffled.
    """

    def __init__(self, dataset: HighlightDataset, settings: LoaderSettings) -> None:
        self.dataset = dataset
        self.settings = settings
        self.epoch = 0
        self.batches_done = 0
        self._is_on_gpu = settings.device.startswith("cuda")
        has_workers = settings.workers > 0
        self._batches: DataLoader[Any] = DataLoader(
            # What is scored is read once.
            _ErrorCarryingDataset(
                dataset.cached(settings.cache_bytes) if dataset.is_training else dataset
            ),
            batch_sampler=_RemainingBatches(self),
            collate_fn=_ErrorCarryingCollate(make_collate(dataset, keep_float16=self._is_on_gpu)),
            num_workers=settings.workers,
            multiprocessing_context=settings.start_method if has_workers else None,
            prefetch_factor=settings.prefetch if has_workers else None,
            persistent_workers=has_workers,
            # A generator of its own: each epoch draws a number from it, and with torch's global
            # generator dropout would depend on how often the data is read.
            generator=torch.Generator().manual_seed(settings.seed),
        )

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return math.ceil(len(self._numbers(self.epoch)) / self.settings.batch_size)

    def __iter__(self) -> Iterator[DeviceBatch]:
        batches = self._copy_to_gpu() if self._is_on_gpu else self._read()
        for batch in batches:
            # Counted before the step, so that a checkpoint inside the loop lies behind this batch.
            self.batches_done += 1
            yield batch
        # Only a loop that ran to its end starts the next epoch.
        self.epoch, self.batches_done = self.epoch + 1, 0

    def _copy_to_gpu(self) -> Iterator[DeviceBatch]:
        device = torch.device(self.settings.device)
        copy_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

        def copy(loaded: DeviceBatch) -> tuple[DeviceBatch, torch.cuda.Event]:
            with torch.cuda.stream(copy_stream):
                batch = to_device(loaded.batch, device)
                targets = to_device(loaded.targets, device)
                return DeviceBatch(batch, targets, loaded.examples), copy_stream.record_event()

        with closing(prefetch(self._read(), copy)) as batches:
            for loaded, is_copied in batches:
                compute_stream = torch.cuda.current_stream(device)
                compute_stream.wait_event(is_copied)
                for tensor in (*tensors_of(loaded.batch), *tensors_of(loaded.targets)):
                    # Its memory belongs to the copy stream, which would reuse it for the next
                    # batch while the step still reads it.
                    tensor.record_stream(compute_stream)
                yield loaded

    def _read(self) -> Iterator[DeviceBatch]:
        for batch in self._batches:
            if isinstance(batch, HighlightsError):
                raise batch
            yield batch

    def state_dict(self) -> dict[str, JSON]:
        """The position of the loader. Inside a loop it is behind the current batch."""
        return {"epoch": self.epoch, "batches_done": self.batches_done, **self._identity()}

    def load_state_dict(self, state: Mapping[str, JSON]) -> None:
        """Resume at the position `state`.

        Raises SettingsError if it belongs to other examples, or to batches made otherwise.
        """
        self.epoch, self.batches_done = read_position(state, self._identity())

    def _identity(self) -> dict[str, JSON]:
        return {
            "examples": self.dataset.digest,
            "batch_size": self.settings.batch_size,
            "seed": self.settings.seed,
            # The key is an older word for the world size; checkpoints hold it.
            "ranks": self.settings.world_size,
        }

    def rest(self) -> Iterator[list[SampleSeed]]:
        """The seeds of the samples of each batch that is left in this epoch."""
        numbers, size = self._numbers(self.epoch), self.settings.batch_size
        for first in range(self.batches_done * size, len(numbers), size):
            # Ascending numbers are ascending video ids: a batch reads its files front to back.
            chosen = sorted(numbers[first : first + size].tolist())
            yield [SampleSeed(number, self.settings.seed, self.epoch) for number in chosen]

    def _numbers(self, epoch: int) -> NDArray[np.int64]:
        settings = self.settings
        order = EpochOrder(
            self.dataset.shards,
            settings.seed,
            shuffle=self.dataset.is_training,
            rank=settings.rank,
            world_size=settings.world_size,
        )
        return order.numbers(epoch)


class _ErrorCarryingDataset(Dataset["Sample | HighlightsError"]):
    """The dataset, which returns our errors as values.

    Torch turns an error that a worker raises into a RuntimeError, and a damaged store would then
    look like a bug.
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
        read = []
        for sample in samples:
            if isinstance(sample, HighlightsError):
                return sample
            read.append(sample)
        return self.collate(read)


@dataclass(frozen=True)
class _RemainingBatches:
    """The batch sampler: the batches that its loader has not yet returned."""

    loader: Loader

    def __iter__(self) -> Iterator[list[SampleSeed]]:
        return self.loader.rest()

    def __len__(self) -> int:
        return len(self.loader) - self.loader.batches_done


def make_collate(dataset: HighlightDataset, *, keep_float16: bool = False) -> Collate:
    """Makes batches of a dataset's samples; `keep_float16` keeps rows stored as float16 so."""
    features, settings = dataset.reader.features, dataset.reader.settings
    # Means over segments are computed in float32, and are more exact than the rows.
    keep_float16 &= settings.unit == "row"
    dtypes = {
        key: _TORCH_DTYPES[features.dtype(key, keep_float16=keep_float16)] for key in features.keys
    }
    return Collate(features.shapes, dtypes, settings.history != "none")
