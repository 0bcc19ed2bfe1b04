"""CoSum: shots and three judges as published, addresses by their place, and shot numbers that no
shot has.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from pipeline.datasets.parsing.archive import zip_files
from pipeline.datasets.readers.cosum import read_cosum
from storage.base.errors import SettingsError
from storage.base.records import Video
from tests.support.published_annotations import counts, published


def test_counts_are_the_published_ones(shared_data: Path) -> None:
    survey = published("cosum", shared_data)
    catalog = survey.catalog
    assert (len(catalog.videos), len(catalog.groupings["domain"])) == (51, 10)
    assert {row.annotator for row in catalog.annotations} == {"kk", "vv", "dualplus"}
    assert {row.value for row in catalog.annotations} == {0.0, 1.0}
    assert counts(survey) == {
        "address_elsewhere": 1,
        "address_is_no_youtube_id": 1,
        "address_of_two_videos": 4,
        "dropped:empty_shot": 12,
        "dropped:no_such_shot": 374,
    }
    assert survey.oddities["address_of_two_videos"] == [
        "kids1 jaXcwfsfAhk", "kids4 jaXcwfsfAhk", "notre1 1Wfs2Pi2_tA", "statue1 1Wfs2Pi2_tA",
    ]  # fmt: skip


@pytest.mark.parametrize("video", ["base1", "base4", "surf5"])
def test_majority_of_the_judges_is_the_papers_ground_truth(shared_data: Path, video: str) -> None:
    """Read a second way: the judges' files by scipy, the shots by hand."""
    folder, number = ("01_base_jump" if video.startswith("base") else "10_surfing"), video[-1]
    files = [
        shared_data / "cosum" / "annotation" / folder / f"{number}__{who}.mat"
        for who in ("kk", "vv", "dualplus")
    ]
    votes = np.concatenate([loadmat(str(file))["labels"][:, 0] for file in files]).tolist()
    lines = (shared_data / "cosum" / "shots" / folder / f"{video}_shots.txt").read_text().split()
    wanted = {
        (float(lines[shot - 1]) - 1, float(lines[shot]) - 1)
        for shot in set(votes)
        if votes.count(shot) >= 2 and int(lines[shot - 1]) < int(lines[shot])
    }
    catalog = published("cosum", shared_data).catalog
    sums: dict[tuple[float, float], float] = {}
    for row in catalog.annotations:
        if row.video_id == video:
            sums[row.start, row.end] = sums.get((row.start, row.end), 0.0) + row.value
    assert {span for span, chosen in sums.items() if chosen >= 2} == wanted


def test_videos_are_asked_for_by_the_address_at_their_place(shared_data: Path) -> None:
    catalog = published("cosum", shared_data).catalog
    asked = {name: one for name, (one,) in catalog.alternative_ids.items()}
    assert len(asked) == 51
    # base4's and base5's pictures are both labelled base4; eiffel2's link leads elsewhere.
    expected = {
        "base4": "iqZUoZpRv3A",
        "base5": "uAfYbzL90Mo",
        "eiffel2": "Xvrzfkb6AD8",
        "surf6": "a3T3KdTWTwU",
    }
    assert {name: asked[name] for name in expected} == expected


def test_frames_count_from_0_and_are_bounded() -> None:
    found = read_cosum(
        {"annotations": zip_files([("shots/01_x/x1_shots.txt", b"3\n11\n\n21\n")])}, name="mine"
    )
    assert found.catalog.videos == (Video("x1", None, 20, 30),)
    assert counts(found) == {"judge_missing": 1, "no_address": 1, "without_annotation": 1}


def test_what_is_not_the_dataset_is_refused() -> None:
    with pytest.raises(SettingsError, match="no video of CoSum is usable: its files list none"):
        read_cosum({"annotations": zip_files([("README.md", b"")])}, name="mine")
    odd_names = [(f"shots/01_x/{name}_shots.txt", b"3\n11\n") for name in ("One", "Two")]
    told = "no video of CoSum is usable: 2 unreadable_name, as in 'shots/01_x/One_shots.txt'"
    with pytest.raises(SettingsError, match=told):
        read_cosum({"annotations": zip_files(odd_names)}, name="mine")
    broken = [("shots/01_x/x1_shots.txt", b"1\n2\n"), ("annotation/01_x/1__kk.mat", b"no")]
    with pytest.raises(
        SettingsError, match=r"annotation/01_x/1__kk\.mat is not a readable MATLAB file"
    ):
        read_cosum({"annotations": zip_files(broken)}, name="mine")
