"""Splits of catalogs without users: published splits by name, and folds of our own.

`folds-5-0` tests on fold 0 of 5 and trains on the others, each domain's videos in the order of a
hash. It is for catalogs that publish no split.
"""

from __future__ import annotations

from dataclasses import replace

from storage.base.errors import LookupFailed, SettingsError
from storage.catalog.catalog import Catalog
from storage.catalog.splits import (
    DOMAIN_GROUPING,
    fold_ids,
    ids_by_domain,
    parse_folds,
    sort_by_hash,
)
from trainer.data.labels.annotator_labels import label_rule
from trainer.data.sources.settings import DataSettings

GROUP_NAMES = {"train": ("train",), "test": ("test", "val")}
"""Split → names of its group. UMT calls val the videos that it tests on."""


def grouping_name(catalog: Catalog, settings: DataSettings) -> str:
    """The name of the published split: from the settings, or else from the catalog's rule."""
    if settings.grouping:
        return settings.grouping
    rule = label_rule(catalog)
    return rule.grouping if rule else ""


def without_absent_domain(
    catalog: Catalog, settings: DataSettings
) -> tuple[DataSettings, tuple[str, ...]]:
    """The settings and no note; for a catalog without domains, no domain and a note.

    Recipes of papers name a domain of their dataset. Settings that need two domains stay, and are
    refused where they are used.
    """
    needs_two = settings.source or settings.against != "nothing"
    if DOMAIN_GROUPING in catalog.groupings or not settings.domain or needs_two:
        return settings, ()
    note = f"{catalog.name} has no domains: data.domain = {settings.domain!r} is left out"
    return replace(settings, domain=""), (note,)


def split_videos(
    catalog: Catalog, split: str, settings: DataSettings, *, domain: str, is_outside: bool = False
) -> tuple[tuple[str, ...], str]:
    """The videos of a split in a domain, ascending, and the name of the hold-out.

    An empty `domain` means all videos; with `is_outside` the videos of all other domains. No
    dataset of this kind publishes validation videos: they are `holdout_videos` of the training
    videos of each domain, those with the smallest hash. Raises SettingsError for a hold-out that
    leaves nothing to train on, LookupFailed for a domain or split that does not exist.
    """
    everything = _all_videos(catalog)
    selected = catalog.group(DOMAIN_GROUPING, domain) if domain else everything
    if is_outside:
        selected = everything - selected
    if split == "all":
        return tuple(sorted(selected)), ""
    if split == "test":
        return tuple(sorted(selected & _published_part(catalog, "test", settings))), ""
    train = selected & _published_part(catalog, "train", settings)
    held_out = _held_out_videos(catalog, train, settings)
    name = f"holdout-{len(held_out)}-seed{settings.holdout_seed}" if held_out else ""
    chosen = held_out if split == "validation" else train - held_out
    return tuple(sorted(chosen)), name


def _all_videos(catalog: Catalog) -> frozenset[str]:
    return frozenset(video.video_id for video in catalog.videos)


def _published_part(catalog: Catalog, split: str, settings: DataSettings) -> frozenset[str]:
    grouping = grouping_name(catalog, settings)
    if not grouping:
        raise SettingsError(
            (f"{catalog.name} publishes no split: set data.grouping, such as folds-5-0",)
        )
    if fold := _folds(grouping):
        everything = _all_videos(catalog)
        tested = fold_ids(catalog.groupings, everything, *fold, settings.holdout_seed)
        return tested if split == "test" else everything - tested
    groups = catalog.groupings.get(grouping, {})
    # The first name that the split has: a split with both `test` and `val` tests on `test`.
    for name in GROUP_NAMES[split]:
        if name in groups:
            return groups[name]
    published = "; ".join(
        f"{name} of {', '.join(parts)}"
        for name, parts in catalog.groupings.items()
        if name != DOMAIN_GROUPING
    )
    raise LookupFailed(
        f"{catalog.name} has no {split} part of the split {grouping!r}; "
        f"it has {published or 'no split'}"
    )


def _folds(grouping: str) -> tuple[int, int] | None:
    try:
        return parse_folds(grouping)
    except LookupFailed as error:
        raise SettingsError((f"data.grouping: {error}",)) from error


def _held_out_videos(
    catalog: Catalog, train: frozenset[str], settings: DataSettings
) -> frozenset[str]:
    """`holdout_videos` training videos of each domain, those with the smallest hash."""
    count = settings.holdout_videos
    # Per domain, so that every domain is represented in validation.
    held_out: set[str] = set()
    for ids in ids_by_domain(catalog.groupings, _all_videos(catalog)).values():
        held_out.update(sort_by_hash(ids & train, settings.holdout_seed)[:count])
    if held_out and held_out == train:
        raise SettingsError(
            (
                f"data.holdout_videos is {count}, which leaves {catalog.name} no video to train "
                "on; set a smaller number",
            )
        )
    return frozenset(held_out)
