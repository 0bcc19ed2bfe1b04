"""The shard's account on disk, and the two ways it changes: `commit` adds videos, `compact` packs
them anew.

Parts and the checksums of their blocks are published first; the sidecar, the only file ever
replaced, comes last. So a kill at any instant leaves the old account or the new one. Before a
shard's first part an empty account is written: so parts without a sidecar never come from a kill,
and say that a sidecar was lost. Refuses to know who else writes: hold the shard's lease.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from storage.base.errors import IntegrityError, LookupFailed
from storage.base.paths import VariantLayout, part_number
from storage.base.records import CONTAINER_START, JSON, FeatureTrack
from storage.base.video_status import failure_status
from storage.features.manifest import ManifestEntry, PartRecord, ShardManifest, logical_digest
from storage.features.part_reader import PartHeader, PartReader
from storage.features.part_writer import part_image
from storage.features.time_origin import refuse_to_extend
from storage.files.atomic_write import publish, remove, size_and_sha256
from storage.files.block_checksums import BlockChecksums, checksums_of
from storage.files.checksummed_json import seal, unseal

__all__ = [
    "DEFAULT_PART_BYTES",
    "ManifestEntry",
    "PartRecord",
    "ShardManifest",
    "commit",
    "compact",
    "logical_digest",
    "parse_sidecar",
    "read_sidecar",
    "rebase",
    "request_retry",
    "write_checksums",
    "write_sidecar",
]

DEFAULT_PART_BYTES = 256 * 1024 * 1024
"""A part is built in memory, and needs about three times its size there."""
Item = TypeVar("Item")


def read_sidecar(layout: VariantLayout, shard: int) -> ShardManifest | None:
    """The shard's account; None if there is none yet. Raises IntegrityError if it is damaged or
    another shard's.
    """
    path = layout.sidecar(shard)
    try:
        return parse_sidecar(layout, shard, path.read_bytes())
    except FileNotFoundError:
        return None


def parse_sidecar(layout: VariantLayout, shard: int, raw: bytes) -> ShardManifest:
    """The account that these bytes of the shard's sidecar are. Raises IntegrityError as
    `read_sidecar` does.
    """
    path = layout.sidecar(shard)
    sidecar = ShardManifest.from_json(path, unseal(path, raw))
    expected = PartHeader(
        sidecar.catalog, shard, layout.variant, layout.fingerprint, sidecar.time_origin
    )
    found = sidecar.header
    if found != expected:
        raise IntegrityError(
            path, f"is the account of {found}, expected {expected}; it was copied here"
        )
    return sidecar


def write_sidecar(layout: VariantLayout, sidecar: ShardManifest) -> None:
    """Replace the shard's account in one step."""
    publish(layout.sidecar(sidecar.shard), seal(sidecar.to_json()), replace=True)


def write_checksums(layout: VariantLayout, part_file: str, checksums: BlockChecksums) -> str:
    """Publish the checksums of a part's blocks; returns the sha256 of that file, for the
    sidecar.
    """
    content = checksums.encode()
    # Replaces what an earlier part of that name, now set aside, may have left.
    publish(layout.checksums(part_file), content, replace=True)
    return hashlib.sha256(content).hexdigest()


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
    """Add verdicts, and the rows of those that are done, to a shard.

    `tracks` gives one track per done entry, by ascending id; it is read lazily, so that no more
    than one part and one video are in memory. They are packed into new parts of at most
    `max_part_bytes` of rows (but at least one video). A video that is kept already with the same
    digest stays where it is, so committing twice changes nothing; one with another digest moves to
    its new part.

    Raises SettingsError for a shard of format version 1, whose times count from another origin.
    """
    found = read_sidecar(layout, shard)
    known = found or ShardManifest(catalog, shard, layout.variant, layout.fingerprint)
    if known.catalog != catalog:
        raise IntegrityError(
            layout.sidecar(shard), f"belongs to the catalog {known.catalog!r}, not to {catalog!r}"
        )
    if known.parts:
        refuse_to_extend(layout.folder.parents[1], {layout.folder.name: [known.time_origin]})
    known = replace(known, time_origin=CONTAINER_START)
    wanted = {video_id for video_id, entry in entries.items() if entry.is_done}
    kept: dict[str, ManifestEntry] = {}
    fresh = _fresh(tracks, known, wanted, kept)
    writer = _PartWriter(layout, replace(known, provenance=provenance), is_first=found is None)
    for pack in _packs(fresh, lambda track: track.nbytes, max_part_bytes):
        writer.write(pack, entries)
    if missing := wanted - kept.keys() - writer.entries.keys():
        raise ValueError(f"done, but no track was given: {', '.join(sorted(missing))}")
    sidecar = replace(
        writer.account,
        parts=known.parts + tuple(writer.parts),
        entries={**known.entries, **entries, **kept, **writer.entries},
    )
    write_sidecar(layout, sidecar)
    return sidecar


def compact(layout: VariantLayout, shard: int, *, max_part_bytes: int) -> ShardManifest:
    """Pack the shard's live videos, by id, into as few parts as `max_part_bytes` allows, and drop
    superseded rows.

    The logical digest stays. Does nothing to a shard that is packed so already. Raises
    IntegrityError if a video's rows are not what its entry says; then nothing was changed.
    """
    known = read_sidecar(layout, shard)
    if known is None:
        raise IntegrityError(
            layout.sidecar(shard),
            "is not there, so there is nothing to compact; run audit --repair",
        )
    readers = {part.file: PartReader(layout.folder / part.file) for part in known.parts}
    sizes = {track.video_id: track.nbytes for track in _live_tracks(readers, known)}
    if list(_packs(sizes, sizes.__getitem__, max_part_bytes)) == [
        list(reader.ids()) for reader in readers.values()
    ]:
        return known
    writer = _PartWriter(layout, known)
    for pack in _packs(_live_tracks(readers, known), lambda track: track.nbytes, max_part_bytes):
        writer.write(pack, known.entries)
    sidecar = replace(known, parts=tuple(writer.parts), entries={**known.entries, **writer.entries})
    write_sidecar(layout, sidecar)
    for part in known.parts:
        remove(layout.folder / part.file)
        remove(layout.checksums(part.file))
    return sidecar


def rebase(
    layout: VariantLayout,
    shard: int,
    clocks: Mapping[str, JSON],
    begun: Mapping[str, str],
    *,
    max_part_bytes: int = DEFAULT_PART_BYTES,
) -> ShardManifest:
    """Bring a shard of format version 1 over: its seconds count from the containers' start from
    then on.

    `clocks` has the done videos whose streams' clocks began at 0, each with the fact that is kept
    of it under `clock`: their rows are packed anew, unchanged. `begun` has the other done videos,
    each with the reason in words: they become `pending:requested`, and the next build makes them
    again. A kill leaves the old account or the new one.
    """
    known = read_sidecar(layout, shard)
    if known is None or known.time_origin == CONTAINER_START:
        raise ValueError(
            f"shard {shard} of {layout.folder.name} has no account whose times count on streams' clocks"
        )
    done = {video_id for video_id, entry in known.entries.items() if entry.is_done}
    if done != clocks.keys() | begun.keys() or clocks.keys() & begun.keys():
        raise ValueError(
            f"of {len(done)} done videos {len(clocks)} are kept and {len(begun)} are not: together all"
        )
    entries = {
        video_id: replace(entry, facts={**entry.facts, "clock": clocks[video_id]})
        if video_id in clocks
        else entry
        for video_id, entry in known.entries.items()
    }
    again = {
        video_id: ManifestEntry(
            failure_status("requested", reason),
            attempts=entries[video_id].attempts,
            facts=entries[video_id].facts,
        )
        for video_id, reason in begun.items()
    }
    readers = {
        part.file: PartReader(layout.folder / part.file, part.checksums_sha256)
        for part in known.parts
    }
    kept = replace(known, entries={**known.entries, **again})
    writer = _PartWriter(layout, replace(known, time_origin=CONTAINER_START))
    for pack in _packs(_live_tracks(readers, kept), lambda track: track.nbytes, max_part_bytes):
        writer.write(pack, entries)
    sidecar = replace(
        writer.account, parts=tuple(writer.parts), entries={**entries, **again, **writer.entries}
    )
    write_sidecar(layout, sidecar)
    for part in known.parts:
        remove(layout.folder / part.file)
        remove(layout.checksums(part.file))
    return sidecar


def request_retry(
    layout: VariantLayout,
    shard: int,
    reasons: Collection[str] = (),
    *,
    video_ids: Collection[str] = (),
) -> tuple[str, ...]:
    """Mark the shard's ids that failed for one of `reasons`, or that are among `video_ids` and
    failed, as to be tried again; returns them, ascending.

    They become `pending:requested`, with the old verdict as detail, so the equation of states still
    adds up.
    """
    known = read_sidecar(layout, shard)
    if known is None:
        return ()
    marked = {
        video_id: replace(entry, verdict=failure_status("requested", str(entry.verdict)))
        for video_id, entry in known.entries.items()
        if (entry.verdict.reason in reasons or video_id in video_ids)
        and not entry.is_done
        and entry.verdict.reason != "requested"
    }
    if marked:
        write_sidecar(layout, replace(known, entries={**known.entries, **marked}))
    return tuple(sorted(marked))


class _PartWriter:
    """Publishes packs under the next free numbers, and remembers what is where."""

    def __init__(
        self, layout: VariantLayout, account: ShardManifest, *, is_first: bool = False
    ) -> None:
        """`is_first`: the shard has no sidecar yet."""
        self.account = account
        self._is_first = is_first
        self.parts: list[PartRecord] = []
        self.entries: dict[str, ManifestEntry] = {}
        self._layout = layout
        self._number = 1 + max((part_number(part.file) for part in account.parts), default=-1)

    def write(self, tracks: Sequence[FeatureTrack], entries: Mapping[str, ManifestEntry]) -> None:
        described = {
            track.video_id: replace(
                entries[track.video_id], part="", rows=track.rows, digest=track.digest()
            )
            for track in tracks
        }
        records: dict[str, JSON] = {
            "entries": {video_id: entry.to_json() for video_id, entry in described.items()},
            "provenance": dict(self.account.provenance),
        }
        likely_path = self._layout.part(self.account.shard, self._number)
        content = part_image(likely_path, self.account.header, tracks, records)
        sha256 = hashlib.sha256(content).hexdigest()
        path = self._free_path(sha256)
        if self._is_first:
            write_sidecar(self._layout, replace(self.account, provenance={}))
            self._is_first = False
        publish(path, content, replace=False)
        rows = sum(track.rows for track in tracks)
        checksums = write_checksums(self._layout, path.name, checksums_of([content]))
        self.parts.append(PartRecord(path.name, sha256, len(content), len(tracks), rows, checksums))
        self.entries |= {
            video_id: replace(entry, part=path.name) for video_id, entry in described.items()
        }

    def _free_path(self, sha256: str) -> Path:
        # A killed commit may have left a part that no sidecar names: taken if it is the same,
        # stepped over if not.
        while True:
            path = self._layout.part(self.account.shard, self._number)
            self._number += 1
            if not path.exists() or size_and_sha256(path)[1] == sha256:
                return path


def _fresh(
    tracks: Iterable[FeatureTrack],
    known: ShardManifest,
    wanted: Collection[str],
    kept: dict[str, ManifestEntry],
) -> Iterator[FeatureTrack]:
    for track in tracks:
        if track.video_id not in wanted:
            raise ValueError(f"{track.video_id} has a track, but no entry that says done")
        entry = known.entries.get(track.video_id)
        if entry is not None and entry.digest == track.digest():
            kept[track.video_id] = entry
        else:
            yield track


def _packs(
    items: Iterable[Item], size_of: Callable[[Item], int], max_bytes: int
) -> Iterator[list[Item]]:
    """Items in their order, greedily in packs of at most `max_bytes`; a larger one makes a pack of
    its own.
    """
    pack: list[Item] = []
    filled_bytes = 0
    for item in items:
        if pack and filled_bytes + size_of(item) > max_bytes:
            yield pack
            pack, filled_bytes = [], 0
        pack.append(item)
        filled_bytes += size_of(item)
    if pack:
        yield pack


def _live_tracks(readers: Mapping[str, PartReader], known: ShardManifest) -> Iterator[FeatureTrack]:
    for video_id in sorted(video_id for video_id, entry in known.entries.items() if entry.is_done):
        entry = known.entries[video_id]
        try:
            track = readers[entry.part].track(video_id)
        except LookupFailed as error:
            raise IntegrityError(
                readers[entry.part].path, f"lacks {video_id}, which its sidecar names"
            ) from error
        if track.digest() != entry.digest:
            raise IntegrityError(
                readers[entry.part].path, f"the rows of {video_id} are not what its entry says"
            )
        yield track
