"""A catalog with its features, opened for one model: where datasets come from.

Refuses to know how batches are made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from storage.base.errors import SettingsError
from storage.catalog.catalog import Catalog, read_catalog, shard_of
from trainer.data.annotated_videos import AnnotatedVideoReader, BatchSide, list_annotated_examples
from trainer.data.dataset import HighlightDataset, SampleReader, UserVideoReader
from trainer.data.labels.annotator_labels import AnnotatorLabels, label_rule
from trainer.data.labels.segment_times import SegmentTimes
from trainer.data.labels.temporal_units import SHOTS_NOTE, Shots, read_shots
from trainer.data.labels.user_labels import UserLabels
from trainer.data.sources.features import Features, TrainedOn
from trainer.data.sources.settings import DataSettings
from trainer.data.user_examples import ExampleSet, Expand, Split, list_examples


@dataclass(frozen=True)
class HighlightData:
    """One catalog and the features that one model reads of it."""

    catalog: Catalog
    features: Features
    user_labels: UserLabels | None
    """What users marked; None where videos belong to domains and their segments were judged."""
    settings: DataSettings
    shots: Shots | None
    segment_times: SegmentTimes | None = None
    """Where judged segments lie in time."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Array key → shape of one position, as `ModelSpec.build` wants it."""
        return self.features.shapes

    @property
    def trained_on(self) -> TrainedOn:
        """Variant → full settings of its features, for the checkpoint."""
        return self.features.trained_on

    @property
    def required_user_labels(self) -> UserLabels:
        """What users marked. Raises SettingsError for a catalog whose segments were judged
        instead.
        """
        if self.user_labels is None:
            raise SettingsError(
                (f"{self.catalog.name} has no users who marked what they like; ask about domains",)
            )
        return self.user_labels

    def training(self, split: Split = "train", side: BatchSide = "first") -> HighlightDataset:
        """Videos in turn, with what is drawn anew each epoch. Reads all their spans once, 0.3 ms a
        video.
        """
        if self.user_labels is None:
            return self._judged(split, side, is_training=True)
        reader = UserVideoReader(
            self.features, self.required_user_labels, self.settings, self.shots, is_training=True
        )
        notes = (SHOTS_NOTE,) if self.settings.unit == "segment" and self.shots is None else ()
        return self._dataset(reader, split, reader.expand, notes)

    def scoring(self, split: Split) -> HighlightDataset:
        """Users' last videos with the full history, or a domain's videos; whole, and nothing
        depends on the epoch.
        """
        if self.user_labels is None:
            return self._judged(split, "first", is_training=False)
        reader = UserVideoReader(
            self.features, self.required_user_labels, self.settings, None, is_training=False
        )
        return self._dataset(reader, split, None, ())

    def _dataset(
        self, reader: UserVideoReader, split: Split, expand: Expand | None, notes: tuple[str, ...]
    ) -> HighlightDataset:
        return self._made(
            reader, list_examples(self.catalog, self.features, split, self.settings, expand), notes
        )

    def _judged(self, split: Split, side: BatchSide, *, is_training: bool) -> HighlightDataset:
        asked = (
            self.settings.source if is_training and self.settings.source else self.settings.domain
        )
        # Of the second batch no label is read, so it does not matter what its videos are judged
        # about.
        domain = None if side == "second" else asked
        if self.segment_times is None:
            raise ValueError(
                f"{self.catalog.name} has neither marks nor judged segments; make it with open_data"
            )
        labels = AnnotatorLabels(self.catalog, domain)
        reader = AnnotatedVideoReader(
            self.catalog, self.features, labels, self.segment_times, self.settings, is_training
        )
        return self._made(reader, list_annotated_examples(reader, split, side), ())

    def _made(
        self, reader: SampleReader, example_set: ExampleSet, notes: tuple[str, ...]
    ) -> HighlightDataset:
        shards = [
            shard_of(example.video_id, self.catalog.shard_count) for example in example_set.examples
        ]
        return HighlightDataset(
            reader,
            example_set,
            np.array(shards, np.int64),
            self.features.notes + example_set.notes + notes,
        )


def open_data(
    folder: Path, settings: DataSettings, *, trained_on: TrainedOn | None = None
) -> HighlightData:
    """The catalog kept in `folder` (`ROOT/<catalog>`) with the arrays of `settings`.

    Raises SettingsError if the features are not those in `trained_on` (the error names both), or a
    setting does not suit them; LookupFailed if there is no such catalog, variant or array;
    IntegrityError if a file is damaged.
    """
    catalog = read_catalog(folder)
    features = _features(folder, settings, trained_on)
    shots = None if settings.shots is None else read_shots(settings.shots)
    if label_rule(catalog) is not None:
        return HighlightData(
            catalog, features, None, settings, shots, SegmentTimes(folder, catalog)
        )
    if settings.rows_drawn is not None:
        raise SettingsError(
            (
                f"rows_drawn is for catalogs whose segments were judged; {catalog.name} has users' marks",
            )
        )
    return HighlightData(catalog, features, UserLabels(catalog), settings, shots)


def _features(folder: Path, settings: DataSettings, trained_on: TrainedOn | None) -> Features:
    if settings.clip is None:
        return Features(
            folder, settings.arrays, max_items=settings.max_items, trained_on=trained_on
        )
    from trainer.data.sources.frame_clips import (
        FrameClips,
    )  # brings OpenCV, which models of features do without

    pictures = [key.partition("/")[0] for key in settings.arrays if key.endswith("/jpeg")]
    saliency = [key.partition("/")[0] for key in settings.arrays if key.endswith("/saliency")]
    if (
        len(pictures) != 1
        or len(saliency) > 1
        or len(settings.arrays) != len(pictures) + len(saliency)
    ):
        raise SettingsError(
            (
                "with data.clip, arrays are VARIANT/jpeg and perhaps VARIANT/saliency; "
                f"got {', '.join(settings.arrays)}",
            )
        )
    maps = saliency[0] if saliency else None
    return FrameClips(
        folder, settings.clip, pictures=pictures[0], saliency=maps, trained_on=trained_on
    )
