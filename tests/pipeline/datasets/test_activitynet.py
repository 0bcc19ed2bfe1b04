"""ActivityNet: the real list and label map under a JSON of the official form; categories, subsets,
every odd entry.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets.parsing.parsed_dataset import ParsedDataset
from pipeline.datasets.readers.activitynet import read_activitynet
from storage.base.errors import SettingsError
from storage.base.records import Annotation, Group, Video
from tests.support.published_annotations import activitynet, counts

LABELS = {"Long jump": "sport", "Tango": "social", "Walking / playing": "household"}
GOOD = {
    "subset": "training",
    "duration": 30.5,
    "annotations": [{"label": "Long jump", "segment": [1, 5.5]}],
}


def test_the_list_and_the_label_map_are_read_as_published(shared_data: Path) -> None:
    survey = read_activitynet(activitynet(shared_data), name="activitynet")
    catalog = survey.catalog
    assert len(catalog.videos) == 3316
    assert set(catalog.groupings["domain"]) == {
        "eat_drink",
        "sport",
        "social",
        "personal_care",
        "household",
    }
    assert len(catalog.group("set_learning", "test")) == 1106
    assert catalog.group("set_learning", "train") | catalog.group("set_learning", "test") == set(
        catalog.segments.segments
    )
    found = counts(survey)
    several = found.pop("several_categories")
    assert several == sum(map(len, catalog.groupings["domain"].values())) - 3316
    assert found == {"ends_after_duration": 3316 + 332, "id_starts_with_dash": 61}


def survey(database: dict[str, Any], names: str = "") -> ParsedDataset:
    sources = {
        "annotations": json.dumps({"version": "VERSION 1.3", "database": database}).encode(),
        "labels": json.dumps({"label_dict": LABELS, "label_space": ["sport"]}).encode(),
    }
    return read_activitynet(
        {**sources, **({"videos": names.encode()} if names else {})}, name="mine"
    )


def test_marks_are_kept_by_category_and_label() -> None:
    marks = [
        {"label": "Long jump", "segment": [1, 5.5]},
        {"label": "Walking / playing", "segment": [2.5, 40]},
    ]
    entry = {**GOOD, "annotations": marks}
    found = survey({"-a": entry, "b": {**GOOD, "subset": "validation"}})
    assert found.catalog.videos == (Video("-a", 30.5), Video("b", 30.5))
    assert found.catalog.annotations == (
        Annotation("-a", "household/Walking / playing", 2.5, 40.0),
        Annotation("-a", "sport/Long jump", 1.0, 5.5),
        Annotation("b", "sport/Long jump", 1.0, 5.5),
    )
    assert set(found.catalog.groups) == {
        Group("domain", "household", "-a"), Group("domain", "sport", "-a"), Group("domain", "sport", "b"),
        Group("set_learning", "train", "-a"), Group("set_learning", "test", "b"),
    }  # fmt: skip
    assert found.catalog.time_unit == "seconds"
    assert counts(found) == {
        "ends_after_duration": 1,
        "several_categories": 1,
        "id_starts_with_dash": 1,
    }


ODD: list[tuple[dict[str, Any], str, str]] = [
    ({"b": {**GOOD, "subset": "testing"}}, "dropped:other_subset", "b testing"),
    ({"b": {**GOOD, "annotations": []}}, "dropped:no_category", "b"),
    ({"b": {**GOOD, "annotations": [{"label": "Juggling", "segment": [1, 2]}]}},
     "dropped:label_without_category", "b Juggling"),
    ({"b": {**GOOD, "annotations": [{"label": "Tango", "segment": [2, 2]}]}}, "dropped:bad_times", "b Tango [2, 2]"),
    ({"b": {**GOOD, "annotations": [{"label": "Tango"}]}}, "dropped:bad_times", "b Tango None"),
    ({"b": {**GOOD, "duration": 0}}, "duration_unknown", "b"),
    ({"a b": GOOD}, "dropped:bad_video_id", "a b"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "oddity", "case"), ODD)
def test_an_oddity_is_named(more: dict[str, Any], oddity: str, case: str) -> None:
    found = survey({"good": GOOD, **more})
    assert list(found.oddities[oddity]) == [case]
    assert "good" in {video.video_id for video in found.catalog.videos}


def test_of_a_list_only_its_videos_are_taken() -> None:
    found = survey({"good": GOOD, "other": GOOD}, "v_good.mp4\nv_gone.mkv\nwhat.mp4\n")
    assert [video.video_id for video in found.catalog.videos] == ["good"]
    assert counts(found) == {"dropped:not_in_the_json": 1, "dropped:bad_name": 1}


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"annotations": b"{}"}, "ActivityNet needs its labels; got annotations"),
        (
            {"annotations": b"{}", "labels": b"{}"},
            "the localisation JSON of ActivityNet has no table 'database'",
        ),
        (
            {"annotations": b'{"database": {}}', "labels": b"[]"},
            "the label map of ActivityNet has no table 'label_dict'",
        ),
        (
            {"annotations": b'{"database": {}}', "labels": b'{"label_dict": {}}'},
            "no video of ActivityNet is usable: its files list none",
        ),
        (
            {
                "annotations": b'{"database": {"https://youtu.be/x": {}}}',
                "labels": b'{"label_dict": {}}',
                "videos": b"v_https://youtu.be/x.mp4\nother.mp4\nv_abc.mp4\nv_abd.mp4",
            },
            "no video of ActivityNet is usable: 1 bad_name, as in 'other.mp4'; "
            "1 bad_video_id, as in 'https://youtu.be/x', which is an address: write only the id; "
            "2 not_in_the_json, as in 'abc'",
        ),
    ],
)
def test_what_is_not_the_dataset_is_refused(sources: dict[str, bytes], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_activitynet(sources, name="mine")
