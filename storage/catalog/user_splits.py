"""Names the splits of a catalog's users, for messages about a split that has none."""

from __future__ import annotations

import difflib
from collections import Counter

from storage.catalog.catalog import Catalog


def describe_splits(catalog: Catalog, split: str) -> str:
    """`trian (3), test (1); is trian a misspelling of train?`: the splits that there are."""
    counts = Counter(user.split for user in catalog.users)
    near = difflib.get_close_matches(split, counts, n=1)
    # A near miss comes first: it is probably what was meant.
    names = sorted(counts, key=lambda name: (name not in near, name))
    listed = ", ".join(f"{name} ({counts[name]})" for name in names) or "no users"
    return f"{listed}; is {near[0]} a misspelling of {split}?" if near else listed
