"""Highlights of any catalog as intervals in seconds, for the labels of windows.

What people marked counts as it is. Scores of segments become highlights by their dataset's rule,
because a score above 0 need not be one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from storage.base.errors import LookupFailed, SettingsError
from storage.catalog.catalog import Catalog
from storage.catalog.csv_tables import text_column
from trainer.data.labels.annotator_labels import AnnotatorLabels, label_rule
from trainer.data.labels.segment_times import SegmentTimes
from trainer.data.labels.user_labels import UserLabels
from trainer.data.sources.features import Features
from trainer.data.sources.intervals import Intervals, union

Highlights = Mapping[str, Intervals]
"""Annotated video → its highlights in seconds, disjoint and ascending; none for a dull video."""
ANNOTATOR, USER = "annotator", "user"


def highlights_of_catalog(
    labels: str,
    folder: Path,
    catalog: Catalog,
    features: Features,
    video_ids: Sequence[str],
    *,
    domain: str | None = None,
) -> Highlights:
    """The highlights of those of `video_ids` that are annotated.

    `labels` is `user`, `user:NAME` or `annotator`; with `domain` only annotations about it count.
    Raises SettingsError if the catalog has no such labels or their times are not known,
    LookupFailed if no annotator has that name.
    """
    kind, _, name = labels.partition(":")
    if labels == ANNOTATOR:
        return _of_annotators(folder, catalog, features, video_ids, domain)
    if kind != USER or (":" in labels and not name):
        raise SettingsError(
            (f"labels must be user, user:NAME or annotator, or None; got {labels!r}",)
        )
    rule = label_rule(catalog)
    if rule is not None and rule.segment_seconds is None:
        raise SettingsError(
            (
                f"annotators of {catalog.name} scored segments, which are highlights by a rule; "
                f"use labels='annotator', not {labels!r}",
            )
        )
    return _of_users(catalog, video_ids, name or None)


def _of_users(catalog: Catalog, video_ids: Sequence[str], name: str | None) -> Highlights:
    names = set(text_column(catalog.annotations, "annotator"))
    if not names:
        raise SettingsError((f"{catalog.name} has no annotations; use labels=None",))
    if name is not None and name not in names:
        raise LookupFailed(
            f"{catalog.name} has no annotations by {name!r}; it has those of {len(names)} others, "
            f"such as {min(names)!r}"
        )
    user_labels = UserLabels(catalog)
    return {
        video_id: user_labels.highlights(name, video_id)
        for video_id in video_ids
        if user_labels.annotations(name, video_id)
    }


def _of_annotators(
    folder: Path,
    catalog: Catalog,
    features: Features,
    video_ids: Sequence[str],
    domain: str | None,
) -> Highlights:
    labels, times = AnnotatorLabels(catalog, domain), SegmentTimes(folder, catalog)
    highlights: dict[str, Intervals] = {}
    for video_id in video_ids:
        # The decoded length: some rules cut a video into segments of equal length.
        end_seconds = float(features.row_spans(video_id)[:, 1].max())
        annotated = labels.annotated_video(video_id, end_seconds)
        if annotated is None:
            continue
        seconds = times.seconds(video_id, annotated)[annotated.positive]
        # A segment that is not in the file has no times.
        highlights[video_id] = union(seconds[np.isfinite(seconds[:, 0])])
    return highlights
