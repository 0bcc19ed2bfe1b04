"""Which videos a split of a catalog without users holds: its published splits by name, and folds of
our own.

`folds-5-0` is fold 0 of 5 for testing and the others for training, each domain's videos in the
order of a hash; for catalogs that publish no split. Refuses to know annotations and features.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from storage.base.errors import LookupFailed, SettingsError
from storage.catalog.catalog import Catalog
from trainer.data.labels.annotator_labels import label_rule
from trainer.data.sources.settings import DataSettings

DOMAIN_GROUPING = "domain"
"""The grouping that says what a video is about."""
GROUP_NAMES = {"train": ("train",), "test": ("test", "val")}
"""Split → names of its group; what UMT calls val is what it tests on."""
_FOLDS = re.compile(r"folds-([0-9]+)-([0-9]+)")


def grouping_name(catalog: Catalog, settings: DataSettings) -> str:
    """The split's name: the settings', or else that of the catalog's rule."""
    rule = label_rule(catalog)
    return settings.grouping or (rule.grouping if rule else "")


def split_videos(
    catalog: Catalog, split: str, settings: DataSettings, *, domain: str, is_outside: bool = False
) -> tuple[tuple[str, ...], str]:
    """The videos of a split in a domain (or, `is_outside`, in none but others), ascending, and what
    was held out.

    Videos for validation are `holdout_videos` of the training ones of each domain, those with the
    smallest hash; no dataset of this kind publishes any. Raises SettingsError, LookupFailed for
    names that are not there.
    """
    inside = (
        catalog.group(DOMAIN_GROUPING, domain)
        if domain
        else frozenset(video.video_id for video in catalog.videos)
    )
    everything = frozenset(video.video_id for video in catalog.videos)
    wanted = everything - inside if is_outside else inside
    if split == "all":
        return tuple(sorted(wanted)), ""
    if split == "test":
        return tuple(sorted(wanted & _published_part(catalog, "test", settings))), ""
    train = wanted & _published_part(catalog, "train", settings)
    held = _held_out_videos(catalog, train, settings)
    name = f"holdout-{len(held)}-seed{settings.holdout_seed}" if held else ""
    return tuple(sorted(held if split == "validation" else train - held)), name


def _published_part(catalog: Catalog, split: str, settings: DataSettings) -> frozenset[str]:
    grouping = grouping_name(catalog, settings)
    if not grouping:
        raise SettingsError(
            (f"{catalog.name} has no split by itself: set data.grouping, such as folds-5-0",)
        )
    if fold := _FOLDS.fullmatch(grouping):
        tested = _fold_videos(catalog, int(fold[1]), int(fold[2]), settings.holdout_seed)
        return (
            tested
            if split == "test"
            else frozenset(video.video_id for video in catalog.videos) - tested
        )
    groups = catalog.groupings.get(grouping, {})
    for name in GROUP_NAMES[split]:
        if name in groups:
            return groups[name]
    there = "; ".join(
        f"{known} of {', '.join(of)}"
        for known, of in catalog.groupings.items()
        if known != DOMAIN_GROUPING
    )
    raise LookupFailed(
        f"{catalog.name} has no {split} part of the split {grouping!r}; it has {there or 'no split'}"
    )


def _fold_videos(catalog: Catalog, folds: int, fold: int, seed: int) -> frozenset[str]:
    if not 0 <= fold < folds or folds < 2:
        raise SettingsError(
            (f"folds-N-i has N from 2 on and i from 0 to N - 1; got folds-{folds}-{fold}",)
        )
    kinds = catalog.groupings.get(DOMAIN_GROUPING) or {
        "": frozenset(video.video_id for video in catalog.videos)
    }
    return frozenset(one for ids in kinds.values() for one in _by_hash(ids, seed)[fold::folds])


def _held_out_videos(
    catalog: Catalog, train: frozenset[str], settings: DataSettings
) -> frozenset[str]:
    count = settings.holdout_videos
    kinds = catalog.groupings.get(DOMAIN_GROUPING) or {"": train}
    held = frozenset(
        one
        for ids in kinds.values()
        for one in _by_hash(ids & train, settings.holdout_seed)[:count]
    )
    if train and count and held == train:
        raise SettingsError(
            (f"holdout_videos is {count}, which leaves {catalog.name} no video to train on",)
        )
    return held


def _by_hash(ids: Iterable[str], seed: int) -> list[str]:
    return sorted(ids, key=lambda one: hashlib.sha256(f"{seed}\n{one}".encode()).hexdigest())
