"""The splits that a catalog's users have, in a message about another one."""

from __future__ import annotations

from storage.base.records import User, Video
from storage.catalog.catalog import Catalog
from storage.catalog.user_splits import describe_splits


def test_a_misspelt_split_is_named_first() -> None:
    users = [User("ann", "zest"), User("bob", "trian"), User("cas", "trian"), User("dan", "all2")]
    catalog = Catalog("mine", [Video("v")], users, [], [], 1, "seconds")
    shown = describe_splits(catalog, "train")
    assert shown == "trian (2), all2 (1), zest (1); is trian a misspelling of train?"
    assert (
        describe_splits(Catalog("x", [Video("v")], [], [], [], 1, "seconds"), "test") == "no users"
    )
