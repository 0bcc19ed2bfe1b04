"""Every catalog says which videos belong to which split, and what it cannot say is an error."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from storage.base.errors import LookupFailed
from storage.base.paths import Layout
from storage.base.records import Group, Link, User, Video
from storage.catalog.catalog import Catalog, read_catalog, write_catalog

IDS = ("a", "b", "c", "d", "e", "f")


def catalog(**rows: Any) -> Catalog:
    tables: dict[str, Any] = {"users": (), "links": (), "groups": (), **rows}
    videos = tuple(map(Video, IDS))
    return Catalog("tiny", videos, annotations=(), shard_count=1, time_unit="seconds", **tables)


USERS: dict[str, Any] = {
    "users": (User("ann", "train"), User("bob", "train"), User("eve", "test"), User("non", "val")),
    "links": (
        Link("ann", "b", "target"),
        Link("ann", "a", "history"),
        Link("bob", "c", "target"),
        Link("eve", "d", "target"),
        Link("eve", "a", "history"),
    ),
}
UMT = (Group("umt", "train", "a"), Group("umt", "val", "b"))
DOMAINS = tuple(Group("domain", "dog" if video_id < "d" else "cat", video_id) for video_id in IDS)


def test_users_give_their_targets_and_histories_to_their_split() -> None:
    splits = catalog(**USERS).ids_by_split()
    assert splits == {"test": ("a", "d"), "train": ("a", "b", "c"), "val": ()}


def test_a_video_of_two_splits_is_in_both_and_one_of_none_in_none() -> None:
    splits = catalog(**USERS).ids_by_split()
    assert set(splits["train"]) & set(splits["test"]) == {"a"}
    assert "e" not in {video_id for ids in splits.values() for video_id in ids}


def test_without_users_and_groups_all_is_the_only_split() -> None:
    assert catalog().ids_by_split() == {"all": IDS}


def test_domains_alone_are_no_split() -> None:
    assert catalog(groups=DOMAINS).ids_by_split() == {"all": IDS}
    assert catalog(groups=DOMAINS).ids_by_split("domain")["cat"] == ("d", "e", "f")


def test_the_only_published_grouping_is_taken() -> None:
    published = catalog(groups=UMT + DOMAINS)
    assert published.ids_by_split() == {"train": ("a",), "val": ("b",)}
    assert published.ids_by_split("all") == {"all": IDS}


def test_users_come_before_a_grouping_unless_it_is_named() -> None:
    both = catalog(groups=UMT, **USERS)
    assert both.ids_by_split() == both.ids_by_split("users") == catalog(**USERS).ids_by_split()
    assert both.ids_by_split("umt") == {"train": ("a",), "val": ("b",)}


def test_several_groupings_need_a_name() -> None:
    several = catalog(groups=(*UMT, Group("vlist_sel", "test", "c")))
    with pytest.raises(LookupFailed, match="several published splits; name one of umt, vlist_sel"):
        several.ids_by_split()
    assert several.ids_by_split("vlist_sel") == {"test": ("c",)}


@pytest.mark.parametrize("name", ["users", "folds", "folds-5", "vlist_sel", "../x"])
def test_an_unknown_name_lists_those_that_are_there(name: str) -> None:
    with pytest.raises(LookupFailed, match="it has umt, all, and folds-N-i"):
        catalog(groups=UMT).ids_by_split(name)


@pytest.mark.parametrize("name", ["folds-1-0", "folds-3-3"])
def test_folds_that_do_not_exist_are_refused(name: str) -> None:
    with pytest.raises(LookupFailed, match="from 0 to N - 1"):
        catalog().ids_by_split(name)


def test_folds_test_every_video_once_by_its_hash() -> None:
    folds = [catalog(groups=DOMAINS).ids_by_split(f"folds-3-{fold}") for fold in range(3)]
    assert sorted(video_id for fold in folds for video_id in fold["test"]) == list(IDS)
    for fold in folds:
        assert sorted(fold["train"] + fold["test"]) == list(IDS)
    by_hash = sorted("abc", key=lambda one: hashlib.sha256(f"0\n{one}".encode()).hexdigest())
    assert by_hash[0] in folds[0]["test"]


def test_a_catalog_on_disk_has_the_same_splits(tmp_path: Path) -> None:
    write_catalog(Layout(tmp_path, "tiny"), catalog(groups=UMT, **USERS))
    read = read_catalog(tmp_path / "tiny")
    assert read.ids_by_split() == catalog(**USERS).ids_by_split()
    assert read.ids_by_split("umt") == {"train": ("a",), "val": ("b",)}
