"""Labels of a user's own table: marked intervals become segments, scores stay what they are."""

from __future__ import annotations

import numpy as np
import pytest

from storage.base.errors import LookupFailed
from storage.base.records import Annotation, Group, Video
from storage.catalog.catalog import Catalog
from trainer.data.labels.annotator_labels import AnnotatorLabels
from trainer.data.labels.splits import split_videos, without_absent_domain
from trainer.data.sources.settings import DataSettings
from trainer.evaluation.domain_protocol import evaluated_videos

SETTINGS = DataSettings(arrays=("c3d/fc6",), unit="segment", history="none", domain="surfing")


def own_catalog(reader: str, *annotations: Annotation) -> Catalog:
    ids = sorted({row.video_id for row in annotations})
    groups = [Group("split", "test" if one == "b" else "train", one) for one in ids]
    return Catalog(
        name="mine",
        videos=[Video(video_id, 10.0) for video_id in ids],
        users=(),
        links=(),
        annotations=annotations,
        shard_count=1,
        time_unit="seconds",
        origin={"reader": reader},
        groups=groups,
    )


def test_marked_intervals_become_segments_of_two_seconds() -> None:
    catalog = own_catalog(
        "own intervals",
        Annotation("a", "goal", 1.0, 4.0),
        Annotation("a", "save", 3.0, 5.0),
        Annotation("b", "goal", 9.2, 10.0),
    )
    labels = AnnotatorLabels(catalog, "")
    first = labels.annotated_video("a", end_seconds=10.0)
    assert first is not None
    assert first.spans.tolist() == [[0, 2], [2, 4], [4, 6], [6, 8], [8, 10]]
    np.testing.assert_allclose(first.labels, [0.5, 1.0, 0.5, 0.0, 0.0])
    assert first.positive.tolist() == [True, True, True, False, False]
    second = labels.annotated_video("b", end_seconds=10.0)
    assert second is not None
    assert not second.positive.any()  # 0.8 s of 2 s


def test_scores_of_annotators_are_ranked_by_their_mean() -> None:
    scores = {"r1": (1, 5, 2, 4), "r2": (2, 4, 1, 5)}
    rows = [
        Annotation("a", annotator, 2.0 * number, 2.0 * number + 2, float(score))
        for annotator, values in scores.items()
        for number, score in enumerate(values)
    ]
    found = AnnotatorLabels(own_catalog("own scores", *rows), "").annotated_video("a")
    assert found is not None
    assert found.labels.tolist() == [1.5, 4.5, 1.5, 4.5]
    assert found.positive.tolist() == [False, True, False, True]


def test_a_recipe_s_domain_is_left_out_where_there_are_none() -> None:
    catalog = own_catalog(
        "own intervals", Annotation("a", "goal", 1.0, 4.0), Annotation("b", "goal", 1.0, 4.0)
    )
    settings, notes = without_absent_domain(catalog, SETTINGS)
    assert (settings.domain, len(notes)) == ("", 1)
    assert split_videos(catalog, "test", settings, domain="")[0] == ("b",)
    assert evaluated_videos(catalog, "test", settings).split == "split/test"
    with pytest.raises(LookupFailed, match="no grouping 'domain'"):
        split_videos(catalog, "test", SETTINGS, domain="surfing")
