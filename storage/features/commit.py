"""Adds videos to a shard: publishes their rows as new parts, then replaces the manifest.

Parts and the checksums of their blocks come first, the manifest last, so a kill at any instant
leaves the old manifest or the new one. Before a shard's first part an empty manifest is written.
So parts without a manifest never come from a kill: they mean that a manifest was lost. Callers hold
the shard's lease; that is not checked here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from storage.base.errors import IntegrityError
from storage.base.paths import VariantLayout, part_number
from storage.base.records import CONTAINER_START, JSON, FeatureTrack
from storage.base.video_status import failure_status
from storage.features.manifest import ManifestEntry, PartRecord, ShardManifest
from storage.features.manifest_file import read_manifest, write_checksums, write_manifest
from storage.features.part_writer import part_image
from storage.features.time_origin import refuse_to_extend
from storage.files.atomic_write import publish, size_and_sha256
from storage.files.block_checksums import checksums_of

DEFAULT_PART_BYTES = 256 * 1024 * 1024
"""A part is built in memory, and needs about three times its size there."""
Item = TypeVar("Item")


def commit(
    layout: VariantLayout,
    catalog: str,
    shard: int,
    *,
    entries: Mapping[str, ManifestEntry],
    tracks: Iterable[FeatureTrack],
    max_part_bytes: int,
    provenance: Mapping[str, JSON],
) -> ShardManifest:
    """Add the statuses of videos to a shard, and the rows of those that are done.

    `tracks` gives one track per done entry, by ascending id. It is read lazily, so no more than one
    part and one video are in memory. The tracks are packed into new parts of at most
    `max_part_bytes` of rows, or one video. A video whose rows are stored already stays where it is,
    so committing twice changes nothing; one with another digest moves to its new part.

    Raises:
        SettingsError: the shard is of format version 1, whose times count from another origin.
        IntegrityError: the shard belongs to another catalog.
        ValueError: a done entry has no track, or a track no done entry.
    """
    on_disk = read_manifest(layout, shard)
    known = on_disk or ShardManifest(catalog, shard, layout.variant, layout.fingerprint)
    _check_may_extend(layout, known, catalog)
    known = replace(known, time_origin=CONTAINER_START, provenance=provenance)

    done_ids = {video_id for video_id, entry in entries.items() if entry.is_done}
    unchanged_ids: set[str] = set()
    new_tracks = _without_unchanged(tracks, known, done_ids, unchanged_ids)
    publisher = PartPublisher(layout, known, is_first=on_disk is None)
    publisher.publish_all(new_tracks, entries, max_part_bytes)

    # Only known at the end: tracks are read one at a time.
    if missing := done_ids - unchanged_ids - publisher.entries.keys():
        raise ValueError(f"done, but no track was given: {', '.join(sorted(missing))}")
    unchanged = {video_id: known.entries[video_id] for video_id in unchanged_ids}
    manifest = replace(
        known,
        # Superseded rows stay in their parts until `compact`: parts are never changed.
        parts=known.parts + tuple(publisher.parts),
        entries={**known.entries, **entries, **unchanged, **publisher.entries},
    )
    write_manifest(layout, manifest)
    return manifest


def _check_may_extend(layout: VariantLayout, known: ShardManifest, catalog: str) -> None:
    if known.catalog != catalog:
        raise IntegrityError(
            layout.manifest(known.shard),
            f"belongs to the catalog {known.catalog!r}, not to {catalog!r}",
        )
    # A shard without parts has no times yet: the origin in its manifest does not matter.
    if known.parts:
        refuse_to_extend(layout.folder.parents[1], {layout.folder.name: [known.time_origin]})


def _without_unchanged(
    tracks: Iterable[FeatureTrack],
    known: ShardManifest,
    done_ids: Collection[str],
    unchanged_ids: set[str],
) -> Iterator[FeatureTrack]:
    """The tracks that are not stored yet; adds the ids of the others to `unchanged_ids`."""
    for track in tracks:
        if track.video_id not in done_ids:
            raise ValueError(f"{track.video_id} has a track, but its entry does not say done")
        entry = known.entries.get(track.video_id)
        if entry is not None and entry.digest == track.digest():
            # Its rows stay in their old part: a part of equal rows would only take space.
            unchanged_ids.add(track.video_id)
        else:
            yield track


def request_retry(
    layout: VariantLayout,
    shard: int,
    reasons: Collection[str] = (),
    *,
    video_ids: Collection[str] = (),
) -> tuple[str, ...]:
    """Mark failed videos of a shard as to be tried again; returns their ids, ascending.

    They are those that failed for one of `reasons`, and those of `video_ids` that failed. They
    become `pending:requested`, with the old status as detail, so the states still add up.
    """
    known = read_manifest(layout, shard)
    if known is None:
        return ()
    marked: dict[str, ManifestEntry] = {}
    for video_id, entry in known.entries.items():
        is_asked_for = entry.status.reason in reasons or video_id in video_ids
        is_waiting = entry.is_done or entry.status.reason == "requested"
        if is_asked_for and not is_waiting:
            # A status, not a list beside the manifest: so a kill between asking and doing loses
            # nothing.
            status = failure_status("requested", str(entry.status))
            marked[video_id] = replace(entry, status=status)
    if marked:
        write_manifest(layout, replace(known, entries={**known.entries, **marked}))
    return tuple(sorted(marked))


class PartPublisher:
    """Publishes tracks as parts under the next free numbers, and collects their records."""

    def __init__(
        self, layout: VariantLayout, manifest: ShardManifest, *, is_first: bool = False
    ) -> None:
        """`is_first`: the shard has no manifest on disk yet."""
        self.parts: list[PartRecord] = []
        """Of the parts published so far, by number."""
        self.entries: dict[str, ManifestEntry] = {}
        """Of the videos published so far, with part, rows and digest."""
        self._layout = layout
        self._manifest = manifest
        self._is_first = is_first
        self._next_number = 1 + max((part_number(part.file) for part in manifest.parts), default=-1)

    def publish_all(
        self,
        tracks: Iterable[FeatureTrack],
        entries: Mapping[str, ManifestEntry],
        max_part_bytes: int,
    ) -> None:
        """Publish the tracks in their order, in parts of at most so many bytes, or one video."""
        for pack in split_by_size(tracks, attrgetter("nbytes"), max_part_bytes):
            self._publish_part(pack, entries)

    def _publish_part(
        self, tracks: Sequence[FeatureTrack], entries: Mapping[str, ManifestEntry]
    ) -> None:
        described = {
            track.video_id: replace(
                entries[track.video_id], part="", rows=track.rows, digest=track.digest()
            )
            for track in tracks
        }
        # A part repeats its entries and provenance, so a lost manifest can be rebuilt from it.
        records: dict[str, JSON] = {
            "entries": {video_id: entry.to_json() for video_id, entry in described.items()},
            "provenance": dict(self._manifest.provenance),
        }
        # Only for error messages: the final name depends on the content.
        likely_path = self._layout.part(self._manifest.shard, self._next_number)
        content = part_image(likely_path, self._manifest.header, tracks, records)
        sha256 = hashlib.sha256(content).hexdigest()
        path = self._free_path(sha256)
        if self._is_first:
            # So that a part without a manifest always means a lost manifest.
            write_manifest(self._layout, replace(self._manifest, provenance={}))
            self._is_first = False
        publish(path, content, replace=False)
        rows = sum(track.rows for track in tracks)
        checksums = write_checksums(self._layout, path.name, checksums_of([content]))
        self.parts.append(PartRecord(path.name, sha256, len(content), len(tracks), rows, checksums))
        for video_id, entry in described.items():
            self.entries[video_id] = replace(entry, part=path.name)

    def _free_path(self, sha256: str) -> Path:
        # A killed commit may have left a part that no manifest names: taken if it is the same,
        # stepped over if not.
        while True:
            path = self._layout.part(self._manifest.shard, self._next_number)
            self._next_number += 1
            if not path.exists() or size_and_sha256(path)[1] == sha256:
                return path


def split_by_size(
    items: Iterable[Item], size_of: Callable[[Item], int], max_bytes: int
) -> Iterator[list[Item]]:
    """Items in order, greedily in packs of at most `max_bytes`; a larger item gets its own."""
    pack: list[Item] = []
    pack_bytes = 0
    for item in items:
        item_bytes = size_of(item)
        if pack and pack_bytes + item_bytes > max_bytes:
            yield pack
            pack, pack_bytes = [], 0
        pack.append(item)
        pack_bytes += item_bytes
    if pack:
        yield pack
