"""SumMe: 25 videos, every person's choice given back frame by frame, names with blanks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from pipeline.datasets.parsing.archive import zip_files
from pipeline.datasets.readers.summe import read_summe
from storage.base.errors import SettingsError
from tests.support.published_annotations import counts, published


def test_counts_are_the_published_ones(shared_data: Path) -> None:
    survey = published("summe", shared_data)
    catalog = survey.catalog
    people = {video.video_id: set[str]() for video in catalog.videos}
    for row in catalog.annotations:
        people[row.video_id].add(row.annotator)
    assert len(people) == 25
    assert {len(of_video) for of_video in people.values()} == {15, 16, 17, 18}
    assert counts(survey) == {"people_and_columns_differ": 12}
    assert catalog.alternative_ids["St_Maarten_Landing"] == ("St Maarten Landing",)


@pytest.mark.parametrize("name", ["Base jumping", "Jumps", "Cooking"])
def test_every_choice_is_given_back(shared_data: Path, name: str) -> None:
    """Read a second way: by scipy."""
    scores = loadmat(str(shared_data / "summe" / "GT" / f"{name}.mat"))["user_score"]
    catalog = published("summe", shared_data).catalog
    rebuilt = np.zeros(scores.shape)
    for row in catalog.annotations:
        if row.video_id == name.replace(" ", "_"):
            rebuilt[int(row.start) : int(row.end), int(row.annotator) - 1] = row.value
    assert np.array_equal(rebuilt, scores)
    (video,) = [one for one in catalog.videos if one.video_id == name.replace(" ", "_")]
    assert video.frames_least == video.frames_most == len(scores)


def test_what_is_not_the_dataset_is_refused(shared_data: Path) -> None:
    with pytest.raises(SettingsError, match=r"GT/x\.mat is not a readable MATLAB file"):
        read_summe({"annotations": zip_files([("GT/x.mat", b"no")])}, name="mine")
    other = (shared_data / "tvsum" / "ydata-tvsum50.mat").read_bytes()
    with pytest.raises(
        SettingsError, match=r"x\.mat has no nFrames, video_duration, user_score, all_userIDs"
    ):
        read_summe({"annotations": zip_files([("x.mat", other)])}, name="mine")
