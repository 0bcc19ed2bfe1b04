"""TVSum: the published counts, shots that no score contradicts, both splits."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets.parsing.tables import parse_matlab
from pipeline.datasets.readers.tvsum import read_tvsum, shot_edges
from storage.base.errors import SettingsError
from tests.support.published_annotations import counts, published, sources

# Two longest videos of each category, by the published lengths.
TRAIN = {
    "VT": "J0nA4VgnoCo AwmHb44_ouw", "VU": "vdmoEJ5YbrQ HT5vyqe0Xaw", "GA": "Bhxk-O1Y7Ho 3eYKfiOEJNs",
    "MS": "Yi4Ij2NM7U4 WG0MBPpPC6I", "PK": "cjibtmSLxQ4 PJrm840pAUI", "PR": "fWutDQy1nnY RBCABdttQmI",
    "FM": "xmEERLqJ2kU VuWGsYPqAX8", "BK": "oDXZc0tZe04 WxtbjNsCQ8A", "BT": "qqR6AEXwxoQ EYqVtI9YWJA",
    "DS": "E11zDS9XGzg -esJrBWj2d8",
}  # fmt: skip


def test_counts_are_the_published_ones(shared_data: Path) -> None:
    survey = published("tvsum", shared_data)
    catalog = survey.catalog
    assert {
        category: len(ids) for category, ids in catalog.groupings["domain"].items()
    } == dict.fromkeys(TRAIN, 5)
    assert {row.annotator for row in catalog.annotations} == {
        f"{person:02d}" for person in range(1, 21)
    }
    assert {row.value for row in catalog.annotations} == {1.0, 2.0, 3.0, 4.0, 5.0}
    seconds = [video.claimed_duration_seconds or 0 for video in catalog.videos]
    assert (len(seconds), round(sum(seconds) / 60, 1)) == (50, 209.7)
    assert counts(survey) == {"id_starts_with_dash": 1}


def test_both_splits(shared_data: Path) -> None:
    catalog = published("tvsum", shared_data).catalog
    for category, longest in TRAIN.items():
        ids = catalog.group("domain", category)
        assert ids & catalog.group("set_learning", "train") == set(longest.split())
        assert len(ids & catalog.group("set_learning", "test")) == 3
        assert len(ids & catalog.group("umt", "val")) == 1
        assert len(ids & catalog.group("umt", "train")) == 4


def test_shots_are_two_seconds_and_give_every_frame_its_score_back(shared_data: Path) -> None:
    table = parse_matlab(sources("tvsum", shared_data)["annotations"], "it")["tvsum50"]
    catalog = published("tvsum", shared_data).catalog
    for video_id, scores, length in zip(
        table["video"], table["user_anno"], table["length"], strict=True
    ):
        spans = catalog.segments.segments[video_id]
        assert (spans[0][0], spans[-1][1]) == (0, len(scores))
        assert all(one[1] == other[0] for one, other in itertools.pairwise(spans))
        rate = len(scores) / length
        assert all(abs((end - start) / rate - 2) < 0.1 for start, end in spans[:-1])
        assert (spans[-1][1] - spans[-1][0]) / rate < 2.1
        rebuilt = np.zeros(scores.shape)
        for row in catalog.annotations:
            if row.video_id == video_id:
                rebuilt[int(row.start) : int(row.end), int(row.annotator) - 1] = row.value
        assert np.array_equal(rebuilt, scores)


def test_edges_are_where_anybody_changes_and_fill_what_nobody_does() -> None:
    scores = np.ones((100, 2))
    scores[20:40, 0] = 2
    scores[80:, 1] = 3
    assert shot_edges(scores, 20.0).tolist() == [0, 20, 40, 60, 80, 100]
    assert shot_edges(np.ones((7, 1)), 20.0).tolist() == [0, 7]
    assert shot_edges(np.ones((50, 1)), 20.0).tolist() == [0, 20, 40, 50]
    assert shot_edges(np.ones((41, 1)), 20.0).tolist() == [0, 20, 41]


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"MATLAB 5.0 MAT-file" + b" " * 200, b"\x89HDF\r\n\x1a\n" + b"\0" * 99],
)
def test_what_is_no_matlab_file_is_refused(content: bytes) -> None:
    with pytest.raises(SettingsError, match="TVSum"):
        read_tvsum({"annotations": content}, name="mine")


def test_another_matlab_file_is_refused(shared_data: Path) -> None:
    other = (shared_data / "summe" / "GT" / "Jumps.mat").read_bytes()
    with pytest.raises(SettingsError, match="has no table tvsum50 of video, category"):
        read_tvsum({"annotations": other}, name="mine")
