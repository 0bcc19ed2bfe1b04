"""Rewrites a shard's live rows into new parts.

`compact` drops superseded rows, `rebase` times, and `drop_videos` all that there is of some videos.

A kill at any instant leaves the old manifest with its parts, or the new one: the new parts are
published first, the manifest is replaced, and only then are the old parts removed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace

from storage.base.errors import IntegrityError, LookupFailed
from storage.base.paths import VariantLayout
from storage.base.records import CONTAINER_START, JSON, FeatureTrack
from storage.base.video_status import failure_status
from storage.features.commit import DEFAULT_PART_BYTES, PartPublisher, split_by_size
from storage.features.manifest import ManifestEntry, ShardManifest
from storage.features.manifest_file import read_manifest, write_manifest
from storage.features.part_reader import PartReader, part_files
from storage.files.atomic_write import remove

Readers = Mapping[str, PartReader]
"""File name of a part → its reader."""


def compact(layout: VariantLayout, shard: int, *, max_part_bytes: int) -> ShardManifest:
    """Pack the shard's live videos by id into as few parts as possible, without superseded rows.

    A part has at most `max_part_bytes` of rows, or one video. The logical digest stays the same.
    A shard that is packed so already is left as it is.

    Raises:
        IntegrityError: there is no manifest, or a video's rows are not what its entry says.
            Nothing was changed then.
    """
    known = read_manifest(layout, shard)
    if known is None:
        raise IntegrityError(
            layout.manifest(shard),
            "is missing, so there is nothing to compact; run audit --repair",
        )
    readers = {part.file: PartReader(layout.folder / part.file) for part in known.parts}
    if _is_compact(readers, known, max_part_bytes):
        return known
    return _repack(layout, readers, known, max_part_bytes)


def _is_compact(readers: Readers, known: ShardManifest, max_part_bytes: int) -> bool:
    sizes = {track.video_id: track.nbytes for track in _live_tracks(readers, known)}
    # Equal: each live video is where it would be put, and no row is superseded.
    planned = list(split_by_size(sizes, sizes.__getitem__, max_part_bytes))
    present = [list(reader.ids()) for reader in readers.values()]
    return planned == present


def rebase(
    layout: VariantLayout,
    shard: int,
    clock_facts: Mapping[str, JSON],
    rebuild_reasons: Mapping[str, str],
    *,
    max_part_bytes: int = DEFAULT_PART_BYTES,
) -> ShardManifest:
    """Convert a shard of format version 1: its seconds count from the containers' start from then.

    `clock_facts` has the done videos whose streams' clocks began at 0, each with the fact that is
    kept of it under `clock`; their rows are packed anew, unchanged. `rebuild_reasons` has the other
    done videos, each with the reason in words; they become `pending:requested`, and the next build
    makes them again.

    Raises:
        ValueError: the shard has no manifest of format version 1, or `clock_facts` and
            `rebuild_reasons` are not together its done videos, each once.
    """
    known = read_manifest(layout, shard)
    if known is None or known.time_origin == CONTAINER_START:
        raise ValueError(
            f"shard {shard} of {layout.folder.name} has no manifest whose times count on streams' "
            "clocks"
        )
    _check_all_are_assigned(known, clock_facts, rebuild_reasons)
    entries = {
        video_id: _rebased(video_id, entry, clock_facts, rebuild_reasons)
        for video_id, entry in known.entries.items()
    }
    # One origin for the whole shard: parts are written with it, and none of another stays.
    rebased = replace(known, entries=entries, time_origin=CONTAINER_START)
    readers = {
        part.file: PartReader(layout.folder / part.file, part.checksums_sha256)
        for part in known.parts
    }
    return _repack(layout, readers, rebased, max_part_bytes)


def _check_all_are_assigned(
    known: ShardManifest, clock_facts: Mapping[str, JSON], rebuild_reasons: Mapping[str, str]
) -> None:
    done = {video_id for video_id, entry in known.entries.items() if entry.is_done}
    in_both = clock_facts.keys() & rebuild_reasons.keys()
    if in_both or done != clock_facts.keys() | rebuild_reasons.keys():
        raise ValueError(
            f"each of the {len(done)} done videos must be in clock_facts or in rebuild_reasons; "
            f"got {len(clock_facts)} and {len(rebuild_reasons)} videos, {len(in_both)} in both"
        )


def _rebased(
    video_id: str,
    entry: ManifestEntry,
    clock_facts: Mapping[str, JSON],
    rebuild_reasons: Mapping[str, str],
) -> ManifestEntry:
    if video_id in clock_facts:
        return replace(entry, facts={**entry.facts, "clock": clock_facts[video_id]})
    if video_id in rebuild_reasons:
        status = failure_status("requested", rebuild_reasons[video_id])
        return ManifestEntry(status, attempts=entry.attempts, facts=entry.facts)
    return entry


def drop_videos(
    layout: VariantLayout,
    shard: int,
    is_dropped: Callable[[str], bool],
    *,
    max_part_bytes: int = DEFAULT_PART_BYTES,
) -> ShardManifest | None:
    """Remove videos from a shard: their entries, and their rows, live or superseded, in all parts.

    A part that holds such rows is replaced by parts with its other live rows; other parts stay as
    they are. A part that the manifest does not name is removed if it holds such rows. Returns the
    shard's manifest; None if it has none.

    Raises:
        IntegrityError: a part cannot be read, or the rows of another video in it are not what its
            entry says. Nothing was changed then.
    """
    known = read_manifest(layout, shard)
    if known is None:
        return None
    readers = {path.name: PartReader(path) for path in part_files(layout, shard)}
    holding = {file for file, reader in readers.items() if any(map(is_dropped, reader.ids()))}
    manifest = known
    if any(map(is_dropped, known.entries)) or holding & {part.file for part in known.parts}:
        manifest = _publish_without(layout, readers, known, is_dropped, holding, max_part_bytes)
    # Also those of an earlier call that was killed here, which the manifest does not name any more.
    for file in sorted(holding):
        remove(layout.folder / file)
        remove(layout.checksums(file))
    return manifest


def _publish_without(
    layout: VariantLayout,
    readers: Readers,
    known: ShardManifest,
    is_dropped: Callable[[str], bool],
    holding: Collection[str],
    max_part_bytes: int,
) -> ShardManifest:
    """Replace the parts `holding` dropped videos by new ones, and then the manifest."""
    entries = {
        video_id: entry for video_id, entry in known.entries.items() if not is_dropped(video_id)
    }
    moved = {video_id: entry for video_id, entry in entries.items() if entry.part in holding}
    # All parts of `known`, so that a number in use is not given again.
    publisher = PartPublisher(layout, known)
    publisher.publish_all(_tracks_of(readers, moved), moved, max_part_bytes)
    rest = tuple(part for part in known.parts if part.file not in holding)
    manifest = replace(
        known,
        parts=rest + tuple(publisher.parts),
        entries={**entries, **publisher.entries},
    )
    write_manifest(layout, manifest)
    return manifest


def _repack(
    layout: VariantLayout, readers: Readers, manifest: ShardManifest, max_part_bytes: int
) -> ShardManifest:
    """Write the live rows of `manifest` into new parts, publish it with these, remove the old."""
    publisher = PartPublisher(layout, manifest)
    tracks = _live_tracks(readers, manifest)
    publisher.publish_all(tracks, manifest.entries, max_part_bytes)
    repacked = replace(
        manifest,
        parts=tuple(publisher.parts),
        entries={**manifest.entries, **publisher.entries},
    )
    # From here on the new parts count. A kill before the removals leaves orphans, which the audit
    # reports and the repair removes.
    write_manifest(layout, repacked)
    for part in manifest.parts:
        remove(layout.folder / part.file)
        remove(layout.checksums(part.file))
    return repacked


def _live_tracks(readers: Readers, manifest: ShardManifest) -> Iterator[FeatureTrack]:
    """The rows of each done video by ascending id, compared with the digest in its entry."""
    return _tracks_of(readers, manifest.entries)


def _tracks_of(readers: Readers, entries: Mapping[str, ManifestEntry]) -> Iterator[FeatureTrack]:
    for video_id, entry in sorted(entries.items()):
        if entry.is_done:
            yield _checked_track(readers[entry.part], video_id, entry)


def _checked_track(reader: PartReader, video_id: str, entry: ManifestEntry) -> FeatureTrack:
    try:
        track = reader.track(video_id)
    except LookupFailed as error:
        raise IntegrityError(reader.path, f"lacks {video_id}, which its manifest names") from error
    if track.digest() != entry.digest:
        raise IntegrityError(reader.path, f"the rows of {video_id} are not what its entry says")
    return track
