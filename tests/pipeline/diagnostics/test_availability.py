"""What is left of a dataset, counted by hand."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import date

import pytest

from pipeline.diagnostics.availability import availability_by_split, availability_report
from storage.base.fingerprint import ids_sha256
from storage.base.records import Group, Link, User, Video
from storage.base.video_status import DONE, REASONS, TAXONOMY_VERSION, failure_status
from storage.catalog.catalog import Catalog

# b is used by both splits; e by nobody.
CATALOG = Catalog(
    name="phd2",
    videos=tuple(Video(video_id) for video_id in "abcde"),
    users=(User("u1", "train"), User("u2", "test")),
    links=(
        Link("u1", "a", "history"),
        Link("u1", "b", "history"),
        Link("u1", "c", "target"),
        Link("u2", "b", "history"),
        Link("u2", "d", "target"),
    ),
    annotations=(),
    shard_count=1,
    time_unit="seconds",
)
STATUSES = {
    "a": DONE,
    "b": failure_status("removed"),
    "c": failure_status("removed"),
    "d": failure_status("network"),
    "e": DONE,
}


def test_every_split_adds_up() -> None:
    whole, test, train = availability_by_split(CATALOG, STATUSES)
    assert [row.split for row in (whole, test, train)] == ["all", "test", "train"]
    assert (whole.ids, whole.done, dict(whole.missing)) == (
        5,
        2,
        {"unavailable:removed": 2, "pending:network": 1},
    )
    assert (test.ids, test.done, dict(test.missing)) == (
        2,
        0,
        {"pending:network": 1, "unavailable:removed": 1},
    )
    assert (train.ids, train.done, dict(train.missing)) == (3, 1, {"unavailable:removed": 2})
    assert (
        str(whole).split(maxsplit=1)[1]
        == "2 of 5 done (40.0%); 2 unavailable:removed, 1 pending:network"
    )
    assert all(row.ids == row.done + sum(row.missing.values()) for row in (whole, test, train))


def test_groups_of_videos_are_rows_too() -> None:
    groups = (
        Group("vlist_sel", "test", "a"),
        Group("vlist_sel", "test", "b"),
        Group("domain", "dog", "e"),
    )
    rows = availability_by_split(dataclasses.replace(CATALOG, groups=groups), STATUSES)
    assert [row.split for row in rows] == ["all", "test", "train", "domain/dog", "vlist_sel/test"]
    assert (rows[3].ids, rows[3].done, rows[4].ids, dict(rows[4].missing)) == (
        1,
        1,
        2,
        {"unavailable:removed": 1},
    )
    assert rows[4].ids_sha256 == ids_sha256("ab")


def test_the_digest_is_what_sha256sum_prints() -> None:
    # printf 'a\ne\n' | sha256sum
    assert ids_sha256(["e", "a"]) == hashlib.sha256(b"a\ne\n").hexdigest()
    assert availability_by_split(CATALOG, STATUSES)[0].surviving_sha256 == ids_sha256("ae")
    assert availability_by_split(CATALOG, STATUSES)[0].ids_sha256 == ids_sha256("abcde")


def test_an_id_without_a_verdict_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 ids have no status, the first is 'e'"):
        availability_by_split(
            CATALOG, {name: status for name, status in STATUSES.items() if name != "e"}
        )


def test_the_report_is_dated_by_whom_it_is_asked() -> None:
    content = availability_report(availability_by_split(CATALOG, STATUSES), date(2026, 11, 21))
    assert (content["day"], content["taxonomy_version"]) == ("2026-11-21", TAXONOMY_VERSION)
    assert content["meanings"] == {name: REASONS[name].meaning for name in ("network", "removed")}
