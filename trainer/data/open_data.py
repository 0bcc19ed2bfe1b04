"""Opens a catalog with its features for one model, and makes its datasets."""

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
from trainer.data.labels.splits import without_absent_domain
from trainer.data.labels.temporal_units import SHOTS_NOTE, Shots, read_shots
from trainer.data.labels.user_labels import UserLabels
from trainer.data.sources.features import Features, TrainedOn
from trainer.data.sources.settings import DataSettings
from trainer.data.user_examples import ExampleSet, Expand, Split, list_examples


@dataclass(frozen=True)
class HighlightData:
    """One catalog and the features that one model reads from it."""

    catalog: Catalog
    features: Features
    user_labels: UserLabels | None
    """The labels of users; None for a catalog of domains, whose segments have annotators."""
    settings: DataSettings
    shots: Shots | None
    segment_times: SegmentTimes | None = None
    """The times of annotated segments; None for a catalog of users."""
    notes: tuple[str, ...] = ()
    """Where the settings do not suit the catalog, and what is done instead."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Array key → shape of one position, the argument of `ModelSpec.build`."""
        return self.features.shapes

    @property
    def trained_on(self) -> TrainedOn:
        """Variant → full settings of its features, which a checkpoint keeps."""
        return self.features.trained_on

    @property
    def required_user_labels(self) -> UserLabels:
        """The labels of users. SettingsError for a catalog of domains, which has none."""
        if self.user_labels is None:
            raise SettingsError(
                (f"{self.catalog.name} has domains and no users; set data.domain instead",)
            )
        return self.user_labels

    def training(self, split: Split = "train", side: BatchSide = "first") -> HighlightDataset:
        """Every video in turn, with random draws that change each epoch.

        Reads the spans of all videos once, 0.3 ms each.
        """
        if self.user_labels is None:
            return self._annotated_dataset(split, side, is_training=True)
        reader = UserVideoReader(
            self.features, self.user_labels, self.settings, self.shots, is_training=True
        )
        # Rows are no shots, so the note is only for models of segments.
        has_detected_shots = self.settings.unit == "row" or self.shots is not None
        notes = () if has_detected_shots else (SHOTS_NOTE,)
        return self._user_dataset(reader, split, reader.expand, notes)

    def scoring(self, split: Split) -> HighlightDataset:
        """Users' target videos with the full history, or a domain's videos.

        Videos are whole, and nothing depends on the epoch.
        """
        if self.user_labels is None:
            return self._annotated_dataset(split, "first", is_training=False)
        reader = UserVideoReader(
            self.features, self.user_labels, self.settings, None, is_training=False
        )
        return self._user_dataset(reader, split, None, ())

    def _user_dataset(
        self, reader: UserVideoReader, split: Split, expand: Expand | None, notes: tuple[str, ...]
    ) -> HighlightDataset:
        example_set = list_examples(self.catalog, self.features, split, self.settings, expand)
        return self._dataset(reader, example_set, notes)

    def _annotated_dataset(
        self, split: Split, side: BatchSide, *, is_training: bool
    ) -> HighlightDataset:
        if self.segment_times is None:
            raise ValueError(
                f"{self.catalog.name} has neither users nor annotated segments; use open_data"
            )
        labels = AnnotatorLabels(self.catalog, self._labelled_domain(side, is_training))
        reader = AnnotatedVideoReader(
            self.catalog, self.features, labels, self.segment_times, self.settings, is_training
        )
        return self._dataset(reader, list_annotated_examples(reader, split, side), ())

    def _labelled_domain(self, side: BatchSide, is_training: bool) -> str | None:
        """The domain whose labels are read; None for those of any domain."""
        if side == "second":
            # The second batch is used without labels, so any annotation of its videos will do.
            return None
        if is_training and self.settings.source:
            return self.settings.source
        return self.settings.domain

    def _dataset(
        self, reader: SampleReader, example_set: ExampleSet, notes: tuple[str, ...]
    ) -> HighlightDataset:
        shards = [
            shard_of(example.video_id, self.catalog.shard_count) for example in example_set.examples
        ]
        all_notes = self.features.notes + self.notes + example_set.notes + notes
        return HighlightDataset(reader, example_set, np.array(shards, np.int64), all_notes)


def open_data(
    folder: Path, settings: DataSettings, *, trained_on: TrainedOn | None = None
) -> HighlightData:
    """The catalog in `folder` (`ROOT/<catalog>`) with the arrays of `settings`.

    Raises SettingsError if the features are not those in `trained_on` (the error names both), or a
    setting does not suit them; LookupFailed if the catalog, a variant or an array does not exist;
    IntegrityError if a file is damaged.
    """
    catalog = read_catalog(folder)
    features = _features(folder, settings, trained_on)
    shots = None if settings.shots is None else read_shots(settings.shots)
    if label_rule(catalog) is not None:
        times = SegmentTimes(folder, catalog)
        settings, notes = without_absent_domain(catalog, settings)
        return HighlightData(catalog, features, None, settings, shots, times, notes)
    if settings.rows_drawn is not None:
        raise SettingsError(
            (
                "data.rows_drawn is for catalogs whose segments have annotators; "
                f"{catalog.name} has users: remove it",
            )
        )
    return HighlightData(catalog, features, UserLabels(catalog), settings, shots)


def _features(folder: Path, settings: DataSettings, trained_on: TrainedOn | None) -> Features:
    if settings.clip is None:
        return Features(
            folder, settings.arrays, max_items=settings.max_items, trained_on=trained_on
        )
    # Imported here, because it imports OpenCV, which models of stored features do not need.
    from trainer.data.sources.frame_clips import FrameClips

    frames = [key.partition("/")[0] for key in settings.arrays if key.endswith("/jpeg")]
    saliency = [key.partition("/")[0] for key in settings.arrays if key.endswith("/saliency")]
    has_other_arrays = len(settings.arrays) != len(frames) + len(saliency)
    if len(frames) != 1 or len(saliency) > 1 or has_other_arrays:
        raise SettingsError(
            (
                "with data.clip, data.arrays needs one VARIANT/jpeg and at most one "
                f"VARIANT/saliency; got {', '.join(settings.arrays)}",
            )
        )
    saliency_variant = saliency[0] if saliency else None
    return FrameClips(
        folder,
        settings.clip,
        frames=frames[0],
        saliency=saliency_variant,
        trained_on=trained_on,
    )
