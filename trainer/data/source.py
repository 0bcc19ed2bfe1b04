"""A catalog with its features, opened for one model: where datasets come from.

Refuses to know how batches are made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from storage.catalog import Catalog, read_catalog, shard_of
from trainer.data.dataset import HighlightDataset, Reader
from trainer.data.examples import Expand, Split, list_examples
from trainer.data.features import Features, TrainedOn
from trainer.data.marks import Marks
from trainer.data.segments import NOTE, Shots, read_shots
from trainer.data.settings import DataSettings


@dataclass(frozen=True)
class HighlightData:
    """One catalog and the features that one model reads of it."""

    catalog: Catalog
    features: Features
    marks: Marks
    settings: DataSettings
    shots: Shots | None

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Array key → shape of one position, as `ModelSpec.build` wants it."""
        return self.features.shapes

    @property
    def trained_on(self) -> TrainedOn:
        """Variant → full settings of its features, for the checkpoint."""
        return self.features.trained_on

    def training(self, split: Split = "train") -> HighlightDataset:
        """Users' videos in turn, with what is drawn anew each epoch. Reads all their spans once, 0.3 ms a video."""
        reader = Reader(self.features, self.marks, self.settings, self.shots, is_training=True)
        return self._dataset(reader, split, reader.expand)

    def scoring(self, split: Split) -> HighlightDataset:
        """Users' last videos, whole, each with the full history; nothing depends on the epoch."""
        reader = Reader(self.features, self.marks, self.settings, None, is_training=False)
        return self._dataset(reader, split, None)

    def _dataset(self, reader: Reader, split: Split, expand: Expand | None) -> HighlightDataset:
        found = list_examples(self.catalog, self.features, split, self.settings, expand)
        shards = np.array(
            [shard_of(example.video_id, self.catalog.shard_count) for example in found.examples], np.int64
        )
        notes = self.features.notes + found.notes
        if reader.is_training and self.settings.unit == "segment" and self.shots is None:
            notes += (NOTE,)
        return HighlightDataset(reader, found, shards, notes)


def open_data(folder: Path, settings: DataSettings, *, trained_on: TrainedOn | None = None) -> HighlightData:
    """The catalog kept in `folder` (`ROOT/<catalog>`) with the arrays of `settings`.

    Raises SettingsError if the features are not those in `trained_on` (the error names both), or a setting does not
    suit them; LookupFailed if there is no such catalog, variant or array; IntegrityError if a file is damaged.
    """
    catalog = read_catalog(folder)
    features = Features(folder, settings.arrays, max_items=settings.max_items, trained_on=trained_on)
    shots = None if settings.shots is None else read_shots(settings.shots)
    return HighlightData(catalog, features, Marks(catalog), settings, shots)
