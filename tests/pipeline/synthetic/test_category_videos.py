"""The category sample as files and as a catalog: the same bytes twice, labels as the manners
say.
"""

from __future__ import annotations

import csv
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.datasets.readers.category_videos import SEGMENTS, read_category_sample
from pipeline.synthetic.category_videos import DOMAINS, QUIET, CategorySize, write_category_sample
from storage.base.errors import IntegrityError, SettingsError

TINY = CategorySize(train=1, test=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("category")
    done: list[tuple[int, int]] = []
    write_category_sample(path, TINY, progress=lambda now, of: done.append((now, of)))
    assert done == [(number, 8) for number in range(1, 9)]
    return path


def test_a_second_writing_changes_nothing_and_another_seed_is_refused(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(before) == 17, "8 videos, where their figures are, and the table"
    write_category_sample(folder, TINY)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(IntegrityError):
        write_category_sample(folder, TINY, seed=2)


def test_a_label_is_what_the_manner_is_worth_in_its_domain(folder: Path) -> None:
    rows = list(csv.DictReader((folder / SEGMENTS).read_text().splitlines()))
    for row in rows:
        own = DOMAINS[row["domain"]][1]
        wanted = 1.0 if row["manner"] == own else -1.0 if row["manner"] in QUIET else 0.0
        assert float(row["label"]) == wanted
    for video_id in {row["video_id"] for row in rows}:
        labels = [float(row["label"]) for row in rows if row["video_id"] == video_id]
        assert 3 <= labels.count(1.0) <= 5
        assert labels.count(0.0) == 1
        assert len(labels) == 10


def test_bystanders_perform_as_often_beside_highlights_as_beside_the_rest(folder: Path) -> None:
    rows = list(csv.DictReader((folder / SEGMENTS).read_text().splitlines()))
    for is_highlight in (True, False):
        performing = [
            row["bystander"] not in QUIET for row in rows if (row["label"] == "1.0") == is_highlight
        ]
        assert len(performing) >= 24
        assert 0.3 < np.mean(performing) < 0.7


def test_the_catalog_has_domains_a_split_and_a_judgement_of_each_segment(folder: Path) -> None:
    survey = read_category_sample(
        {"segments": (folder / SEGMENTS).read_bytes()}, name="category-sample"
    )
    catalog = survey.catalog
    assert not any(survey.oddities.values())
    assert {name: len(ids) for name, ids in catalog.groupings["domain"].items()} == dict.fromkeys(
        sorted(DOMAINS), 2
    )
    assert {name: len(ids) for name, ids in catalog.groupings["vlist_sel"].items()} == {
        "test": 4,
        "train": 4,
    }
    assert len(catalog.annotations) == 80
    assert catalog.segments.segments[catalog.videos[0].video_id][:2] == ((0.0, 3.0), (3.0, 6.0))


def test_a_figure_is_told_for_every_frame_of_the_file(folder: Path) -> None:
    for video in sorted(folder.glob("*.mp4"))[::4]:
        with av.open(str(video)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        covers = np.unpackbits(np.load(folder / f"{video.stem}.figure.npy"), axis=2).astype(bool)
        assert covers.shape == (len(frames), *frames[0].shape[:2])
        light = np.stack(frames).max(axis=3)
        assert light[covers].mean() > light[~covers].mean() + 60


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"video,start\n",
        b"video_id,domain,part,start,end,label,manner,bystander\na,b,c,0,x,1,d,e\n",
    ],
)
def test_another_table_is_refused(content: bytes) -> None:
    with pytest.raises(SettingsError, match=r"start with video_id|line 2 of segments.csv|no video"):
        read_category_sample({"segments": content}, name="category-sample")
