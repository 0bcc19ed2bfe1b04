"""Finds what the shards of all variants hold of forgotten videos, and removes it.

That is entries of manifests and of the index, rows in parts and spools, and files that may hold
rows: damaged files that were set aside, and temporaries of interrupted writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from storage.base.errors import IntegrityError
from storage.base.paths import Layout, VariantLayout
from storage.catalog.forgotten import Forgotten
from storage.features import spool
from storage.features.compaction import drop_videos
from storage.features.manifest_file import read_manifest
from storage.features.manifest_index import indexed_ids, refresh_index
from storage.features.part_reader import PartReader, with_repair_advice
from storage.features.store import variant_layouts
from storage.files.atomic_write import remove
from storage.files.process_identity import owner_of_temporary

_SHARD = re.compile(r"\.?shard_([0-9]{3,})\.")


@dataclass(frozen=True)
class Trace:
    """One file or folder that holds something of a forgotten video, or may hold it."""

    path: Path
    what: str
    """What it holds, such as `its media`."""
    remove: Callable[[], object]
    """Removes what it holds; calling it again does no harm."""
    is_certain: bool = True
    """Whether it holds something for sure. Otherwise it is removed, and an audit is silent."""
    shard: int | None = None
    """The shard whose lease must be held meanwhile; None for files of no shard."""


def shard_traces(layout: Layout, forgotten: Forgotten, shard_count: int) -> Iterator[Trace]:
    """What the shards of all variants hold, and after those the indexes.

    Damage of files is passed over here: it is the concern of the audit.
    """
    own_shards = forgotten.shards(shard_count)
    for variant in variant_layouts(layout.folder):
        for shard, files in sorted(_files_by_shard(variant).items()):
            yield from _traces_of_shard(variant, shard, files, forgotten, shard in own_shards)
    for variant in variant_layouts(layout.folder):
        ids = indexed_ids(variant)
        count = sum(map(forgotten.matches, ids))
        is_unreadable = not ids and variant.index_file.exists()
        if count or is_unreadable:
            what = f"ids: {count}" if count else "an index that cannot be read"
            action = partial(_refresh_index, variant)
            yield Trace(variant.index_file, what, action, is_certain=bool(count))


def _refresh_index(variant: VariantLayout) -> None:
    with with_repair_advice():
        refresh_index(variant)


def _files_by_shard(variant: VariantLayout) -> dict[int, list[Path]]:
    """The files of each shard in the variant's folder, temporaries and set-aside ones included."""
    files: dict[int, list[Path]] = {}
    for path in sorted(variant.folder.iterdir()):
        if match := _SHARD.match(path.name):
            files.setdefault(int(match[1]), []).append(path)
    spools = variant.spool(0).parent
    for folder in spools.iterdir() if spools.is_dir() else ():
        if folder.name.isdecimal():
            files.setdefault(int(folder.name), [])
    return files


def _traces_of_shard(
    variant: VariantLayout,
    shard: int,
    files: list[Path],
    forgotten: Forgotten,
    is_own_shard: bool,
) -> Iterator[Trace]:
    spool_folder = variant.spool(shard)
    if is_own_shard and spool.needs_rewrite(spool_folder, forgotten.matches):
        yield Trace(
            spool_folder,
            "finished rows, or a record that was cut short",
            partial(spool.drop, spool_folder, forgotten.matches),
            is_certain=any(map(forgotten.matches, spool.SpooledVideos(spool_folder).entries)),
            shard=shard,
        )
    if text := _held_by_parts(variant, shard, files, forgotten):
        yield Trace(
            variant.manifest(shard),
            text,
            partial(_drop_videos, variant, shard, forgotten),
            shard=shard,
        )
    for path in files if is_own_shard else ():
        if owner_of_temporary(path) or path.suffix == ".damaged":
            yield Trace(
                path,
                "a damaged or unfinished file, which may hold rows",
                partial(remove, path),
                is_certain=False,
                shard=shard,
            )


def _held_by_parts(
    variant: VariantLayout, shard: int, files: list[Path], forgotten: Forgotten
) -> str:
    """What the manifest names and the parts hold, in words; empty for nothing."""
    try:
        manifest = read_manifest(variant, shard)
    except IntegrityError:
        manifest = None
    entries = sum(map(forgotten.matches, manifest.entries if manifest else ()))
    ids_of_parts = {path.name: _ids_of(path) for path in files if path.suffix == ".h5"}
    parts = [file for file, ids in ids_of_parts.items() if any(map(forgotten.matches, ids))]
    if not entries and not parts:
        return ""
    return f"ids: {entries}; parts with rows: {len(parts)} of {len(ids_of_parts)}"


def _ids_of(path: Path) -> tuple[str, ...]:
    try:
        return PartReader(path).ids()
    except IntegrityError:
        return ()


def _drop_videos(variant: VariantLayout, shard: int, forgotten: Forgotten) -> None:
    with with_repair_advice():
        manifest = drop_videos(variant, shard, forgotten.matches)
        if manifest is None:
            raise IntegrityError(
                variant.manifest(shard), "is lost, and parts of its shard are there"
            )


def check_readable(layout: Layout, shards: set[int]) -> None:
    """Raise IntegrityError if a manifest or part of these shards cannot be read.

    It could hold rows that are not found, so it has to be repaired before a take-down.
    """
    for variant in variant_layouts(layout.folder):
        files = _files_by_shard(variant)
        for shard in sorted(shards & files.keys()):
            with with_repair_advice():
                read_manifest(variant, shard)
                for path in files[shard]:
                    if path.suffix == ".h5":
                        PartReader(path).ids()
