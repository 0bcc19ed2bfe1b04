"""An index of all manifests of a variant, so that a store with 95,000 videos opens quickly.

    .../features/<variant>-<fingerprint>/index.bin
        one line: sha256 of the rest
        one line of JSON: each shard's manifest and parts, and the bytes it has in each column
        the columns one by one, each with all shards: ids, rows, part numbers, digests, and the
        statuses of videos that are not done

The manifests stay the source of truth. A shard's summary is used only while its manifest has the
size and modification time that the index names, or else the sha256 that it names; otherwise the
manifest is read. So an index that is old, damaged or missing only costs time. It also remembers
which shards had a manifest, so that a lost one is noticed. Facts and provenance are not in it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate, chain, compress, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import IntegrityError
from storage.base.paths import VariantLayout, shard_and_number
from storage.base.video_status import DONE, TAXONOMY_VERSION, State, VideoStatus
from storage.features.manifest import PartRecord, ShardManifest, digest_of_lines
from storage.features.manifest_file import parse_manifest
from storage.files.atomic_write import publish

FORMAT = "video-highlights index 4"
SETTLED_NS = 2_000_000_000
"""A manifest's modification time is trusted only if it is older than the index by at least this.

A younger manifest may have changed again within one tick of the file system's clock; its sha256 is
compared then.
"""
Stamp = Sequence[int]
"""Size in bytes and modification time in nanoseconds."""
_IDS, _ROWS, _PART_NUMBERS, _DIGESTS, _UNFINISHED = range(5)
"""Columns. Of done videos: ids and digests as lines, rows and part numbers as integers.

Of all other videos: their statuses as JSON.
"""
_NUMBER = np.dtype("<i8")
_SHA256_LINE_BYTES = 65


@dataclass(frozen=True)
class ShardSummary:
    """A manifest without facts and provenance. Columns are decoded when they are first used."""

    catalog: str
    shard: int
    sha256: str
    """Of the manifest's bytes."""
    stamp: Stamp
    """Of the manifest when it was read."""
    parts: tuple[PartRecord, ...]
    columns: tuple[bytes, ...]
    """Bytes of the columns `_IDS` to `_UNFINISHED`."""
    time_origin: str
    """Origin of the seconds in its parts, one of `TIME_ORIGINS`."""

    @property
    def done_count(self) -> int:
        """Number of videos that are done."""
        return len(self.columns[_ROWS]) // _NUMBER.itemsize

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The videos that are done, ascending."""
        return tuple(_lines([self], _IDS))

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Number of rows of each of `ids`."""
        # A view, not a copy: most videos of an opened store are never read.
        return np.frombuffer(self.columns[_ROWS], _NUMBER)

    @cached_property
    def part_numbers(self) -> NDArray[np.int64]:
        """For each of `ids`, the index of its part in `parts`."""
        return np.frombuffer(self.columns[_PART_NUMBERS], _NUMBER)

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """Digest of each of `ids`."""
        return tuple(_lines([self], _DIGESTS))

    @cached_property
    def unfinished(self) -> Mapping[str, VideoStatus]:
        """The statuses of all ids that are not done."""
        rows = json.loads(self.columns[_UNFINISHED])
        return {
            video_id: VideoStatus(State(state), reason, detail)
            for video_id, (state, reason, detail) in rows.items()
        }

    @cached_property
    def statuses(self) -> Mapping[str, VideoStatus]:
        """The status of every id, in no order."""
        return {**dict.fromkeys(self.ids, DONE), **self.unfinished}

    def without(self, is_left_out: Callable[[str], bool]) -> ShardSummary:
        """The summary without some videos; itself if it has none of them."""
        left_out = set(filter(is_left_out, self.statuses))
        if not left_out:
            return self
        kept = np.array([video_id not in left_out for video_id in self.ids], bool)
        unfinished = {
            video_id: [str(status.state), status.reason, status.detail]
            for video_id, status in self.unfinished.items()
            if video_id not in left_out
        }
        columns = (
            "".join(f"{item}\n" for item in compress(self.ids, kept)).encode("ascii"),
            self.rows[kept].tobytes(),
            self.part_numbers[kept].tobytes(),
            "".join(f"{item}\n" for item in compress(self.digests, kept)).encode("ascii"),
            json.dumps(unfinished).encode("ascii"),
        )
        return replace(self, columns=columns)


def read_summaries(layout: VariantLayout, *, by_content: bool = False) -> dict[int, ShardSummary]:
    """Shard → its summary, ascending, for the shards that have a manifest.

    With `by_content` no modification time is trusted: every manifest is read and hashed.

    Raises:
        IntegrityError: a manifest is damaged, or lost (see `lost_shards`).
    """
    indexed, trusted_before_ns = _read_index(layout)
    stamps, shards_with_parts = _list_folder(layout)
    if by_content:
        trusted_before_ns = 0
    # A lost manifest must not look like a store with fewer videos.
    for shard in sorted((indexed.keys() | shards_with_parts) - stamps.keys()):
        _raise_if_lost(layout, shard)
    summaries: dict[int, ShardSummary] = {}
    for shard, stamp in sorted(stamps.items()):
        summary = _current_summary(layout, shard, stamp, indexed.get(shard), trusted_before_ns)
        if summary is not None:
            summaries[shard] = summary
    return summaries


def read_summary(layout: VariantLayout, shard: int) -> ShardSummary | None:
    """One shard's summary, or None if it has no manifest yet.

    Raises:
        IntegrityError: the manifest is damaged, or lost (see `lost_shards`).
    """
    indexed, trusted_before_ns = _read_index(layout)
    try:
        stamp = _stamp(layout.manifest(shard).stat())
    except FileNotFoundError:
        _, shards_with_parts = _list_folder(layout)
        if shard in indexed or shard in shards_with_parts:
            _raise_if_lost(layout, shard)
        return None
    return _current_summary(layout, shard, stamp, indexed.get(shard), trusted_before_ns)


def lost_shards(layout: VariantLayout) -> tuple[int, ...]:
    """The shards whose manifest is gone, ascending.

    A manifest was there if the index names it, or if the shard has parts: before the first part a
    manifest is written, if an empty one. A shard without either was never built.
    """
    indexed, _ = _read_index(layout)
    stamps, shards_with_parts = _list_folder(layout)
    return tuple(sorted((indexed.keys() | shards_with_parts) - stamps.keys()))


def refresh_index(layout: VariantLayout) -> None:
    """Write the index anew if it differs from the manifests.

    Raises IntegrityError, DiskFull, SystemicFault.
    """
    indexed, trusted_before_ns = _read_index(layout)
    summaries = read_summaries(layout)
    is_trusted = all(summary.stamp[1] < trusted_before_ns for summary in summaries.values())
    if summaries != indexed or not is_trusted:
        publish(layout.index_file, _encode(layout, summaries), replace=True)


def indexed_ids(layout: VariantLayout) -> frozenset[str]:
    """The ids that the index file names, also where it is older than the manifests."""
    indexed, _ = _read_index(layout)
    return frozenset(chain.from_iterable(summary.statuses for summary in indexed.values()))


def done_ids(summaries: Iterable[ShardSummary]) -> list[str]:
    """The videos that are done, shard by shard."""
    return _lines(summaries, _IDS)


def logical_digest_of(summaries: Iterable[ShardSummary]) -> str:
    """The same as `storage.features.manifest.logical_digest` of the manifests."""
    every = tuple(summaries)
    return digest_of_lines(zip(_lines(every, _IDS), _lines(every, _DIGESTS), strict=True))


def _lines(summaries: Iterable[ShardSummary], column: int) -> list[str]:
    # Joined before it is decoded: one call for all shards, not one for each.
    return b"".join([summary.columns[column] for summary in summaries]).decode("ascii").splitlines()


def _list_folder(layout: VariantLayout) -> tuple[dict[int, Stamp], set[int]]:
    """The stamps of all manifests, by shard; and the shards that have parts."""
    stamps: dict[int, Stamp] = {}
    shards_with_parts: set[int] = set()
    if not layout.folder.is_dir():
        return stamps, shards_with_parts
    with os.scandir(layout.folder) as files:
        for file in files:
            parsed = shard_and_number(file.name)
            if parsed is None:
                continue
            shard, number = parsed
            if number is not None:
                shards_with_parts.add(shard)
            # `shard_0012.json` has the same number as `shard_012.json`, and is not ours.
            elif file.name == layout.manifest(shard).name:
                stamps[shard] = _stamp(file.stat())
    return stamps, shards_with_parts


def _raise_if_lost(layout: VariantLayout, shard: int) -> None:
    path = layout.manifest(shard)
    if path.exists():
        return  # written while the folder was being listed
    folder = layout.folder.parents[1]
    raise IntegrityError(
        path,
        "is lost: this shard has parts, or the index names it. Run `python -m storage audit "
        f"--repair {folder}`, which rebuilds it from the parts; if the shard was deleted on "
        f"purpose, delete {layout.index_file.name} too.",
    )


def _stamp(status: os.stat_result) -> Stamp:
    return [status.st_size, status.st_mtime_ns]


def _current_summary(
    layout: VariantLayout,
    shard: int,
    stamp: Stamp,
    indexed: ShardSummary | None,
    trusted_before_ns: int,
) -> ShardSummary | None:
    """The summary in the index if it is up to date, else one of the manifest on disk."""
    if indexed is not None and indexed.stamp == stamp and stamp[1] < trusted_before_ns:
        return indexed
    path = layout.manifest(shard)
    try:
        with path.open("rb") as file:
            # The stamp of the very file that is read: it may have been replaced since.
            stamp, raw = _stamp(os.fstat(file.fileno())), file.read()
    except FileNotFoundError:
        return None
    sha256 = hashlib.sha256(raw).hexdigest()
    # Copied or touched, but the same: parsing is what takes time.
    if indexed is not None and indexed.sha256 == sha256:
        return replace(indexed, stamp=stamp)
    return _summarize(parse_manifest(layout, shard, raw), sha256, stamp)


def _summarize(manifest: ShardManifest, sha256: str, stamp: Stamp) -> ShardSummary:
    number_of = {part.file: number for number, part in enumerate(manifest.parts)}
    ids, rows, part_numbers, digests = [], [], [], []
    unfinished: dict[str, list[str]] = {}
    for video_id, entry in sorted(manifest.entries.items()):
        if entry.is_done:
            ids.append(f"{video_id}\n")
            rows.append(entry.rows)
            part_numbers.append(number_of[entry.part])
            digests.append(f"{entry.digest}\n")
        else:
            status = entry.status
            unfinished[video_id] = [str(status.state), status.reason, status.detail]
    columns = (
        "".join(ids).encode("ascii"),
        np.array(rows, _NUMBER).tobytes(),
        np.array(part_numbers, _NUMBER).tobytes(),
        "".join(digests).encode("ascii"),
        json.dumps(unfinished).encode("ascii"),
    )
    return ShardSummary(
        catalog=manifest.catalog,
        shard=manifest.shard,
        sha256=sha256,
        stamp=stamp,
        parts=manifest.parts,
        columns=columns,
        time_origin=manifest.time_origin,
    )


def _read_index(layout: VariantLayout) -> tuple[Mapping[int, ShardSummary], int]:
    """The summaries in the index, and the modification time from which on stamps prove nothing."""
    try:
        status = layout.index_file.stat()
    except FileNotFoundError:
        return {}, 0
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return _decode(layout, identity), status.st_mtime_ns - SETTLED_NS


def _encode(layout: VariantLayout, summaries: Mapping[int, ShardSummary]) -> bytes:
    shards = [_header_of(summary) for summary in summaries.values()]
    header = json.dumps({**_preamble(layout), "shards": shards})
    # Column by column: all ids of the variant lie together, and are decoded at once.
    columns = zip(*(summary.columns for summary in summaries.values()), strict=True)
    body = b"".join([header.encode("ascii"), b"\n", *chain.from_iterable(columns)])
    return _sha256_line(body) + body


@lru_cache(maxsize=8)
def _decode(layout: VariantLayout, identity: tuple[int, ...]) -> Mapping[int, ShardSummary]:
    """The summaries in the index file with that `identity`, which is only a key of the cache.

    Empty if a bit of the index is wrong, or if it is of another release or another variant.
    """
    try:
        raw = layout.index_file.read_bytes()
    except FileNotFoundError:
        return {}
    body = memoryview(raw)[_SHA256_LINE_BYTES:]
    # Checked before anything is parsed, so a flipped bit costs time and nothing else.
    if raw[:_SHA256_LINE_BYTES] != _sha256_line(body):
        return {}
    end = raw.index(b"\n", _SHA256_LINE_BYTES)
    header = json.loads(raw[_SHA256_LINE_BYTES:end])
    shards = header.pop("shards", None)
    if header != _preamble(layout):
        return {}
    return _decode_columns(shards, raw, end + 1)


def _sha256_line(body: bytes | memoryview) -> bytes:
    return hashlib.sha256(body).hexdigest().encode("ascii") + b"\n"


def _preamble(layout: VariantLayout) -> dict[str, object]:
    return {"format": FORMAT, "taxonomy": TAXONOMY_VERSION, "variant": layout.folder.name}


def _header_of(summary: ShardSummary) -> list[object]:
    return [
        summary.catalog,
        summary.shard,
        summary.sha256,
        summary.stamp,
        [list(vars(part).values()) for part in summary.parts],
        summary.time_origin,
        [len(column) for column in summary.columns],
    ]


def _decode_columns(
    headers: Sequence[list[Any]], raw: bytes, start: int
) -> Mapping[int, ShardSummary]:
    """Shard → its summary, from the headers and the columns, which begin at the byte `start`."""
    sizes_by_column = zip(*(header[-1] for header in headers), strict=True)
    bounds = accumulate(chain.from_iterable(sizes_by_column), initial=start)
    pieces = [raw[begin:end] for begin, end in pairwise(bounds)]
    summaries: dict[int, ShardSummary] = {}
    for place, (catalog, shard, sha256, stamp, parts, time_origin, _) in enumerate(headers):
        # Each column has one piece per shard, so a shard's pieces are that far apart.
        columns = tuple(pieces[place :: len(headers)])
        records = tuple(PartRecord(*part) for part in parts)
        summaries[shard] = ShardSummary(
            catalog, shard, sha256, stamp, records, columns, time_origin
        )
    return summaries
