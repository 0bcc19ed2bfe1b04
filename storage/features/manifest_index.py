"""All accounts of a variant in one file, so that 95,000 videos open in the time one account takes
to parse.

    .../features/<variant>-<fp>/index.bin    one line: sha256 of the rest; one line of JSON: each
    shard's sidecar and
                                             parts, and the bytes it has in each column; then the
                                             columns, one by one, each with all shards: ids, rows,
                                             places, digests, other verdicts

The sidecars stay the truth. A shard's summary is used only while its sidecar has the size and time
of change that the index names; failing that, while its bytes have the sha256 that it names; else
the sidecar itself is read. So the index may be old, damaged, or not there, and only costs time. It
also remembers which shards had a sidecar, so that one which disappears is missed. Refuses to know
facts and provenance: those are in the sidecars.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import IntegrityError
from storage.base.paths import VariantLayout, shard_and_number
from storage.base.video_status import DONE, TAXONOMY_VERSION, State, VideoStatus
from storage.features.manifest import PartRecord, ShardManifest
from storage.features.manifest_file import parse_manifest
from storage.files.atomic_write import publish

FORMAT = "video-highlights index 4"
SETTLED_NS = 2_000_000_000
"""A sidecar that changed less than this before the index was written may have changed again within
one tick of the file system's clock: its time says nothing, its sha256 does.
"""
Stamp = Sequence[int]
"""Size in bytes and time of change in nanoseconds."""
_IDS, _ROWS, _PLACES, _DIGESTS, _OTHERS = range(5)
"""Ids and digests of what is done, a line each; its rows and places, numbers; of all else the
verdicts, as JSON.
"""
_NUMBER = np.dtype("<i8")
_SHA256_LINE_BYTES = 65


@dataclass(frozen=True)
class ShardSummary:
    """What a sidecar says, without facts and provenance. Columns are taken apart when they are
    first asked for.
    """

    catalog: str
    shard: int
    sha256: str
    """Of the sidecar's bytes."""
    stamp: Stamp
    """Of the sidecar when it was read."""
    parts: tuple[PartRecord, ...]
    columns: tuple[bytes, ...]
    """Bytes of the columns `_IDS` to `_OTHERS`."""
    time_origin: str
    """Since when the seconds of its parts count."""

    @property
    def done_count(self) -> int:
        """How many videos are done."""
        return len(self.columns[_ROWS]) // _NUMBER.itemsize

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The videos that are done, ascending."""
        return tuple(_lines([self], _IDS))

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Of each of `ids`."""
        return np.frombuffer(self.columns[_ROWS], _NUMBER)

    @cached_property
    def part_numbers(self) -> NDArray[np.int64]:
        """For each of `ids`, which of `parts` has it."""
        return np.frombuffer(self.columns[_PLACES], _NUMBER)

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """Of each of `ids`."""
        return tuple(_lines([self], _DIGESTS))

    @cached_property
    def unfinished(self) -> Mapping[str, VideoStatus]:
        """The verdicts of all ids that are not done."""
        told = json.loads(self.columns[_OTHERS])
        return {
            i: VideoStatus(State(state), reason, detail)
            for i, (state, reason, detail) in told.items()
        }

    @cached_property
    def statuses(self) -> Mapping[str, VideoStatus]:
        """Of every id, in no order."""
        return {**dict.fromkeys(self.ids, DONE), **self.unfinished}


def read_summaries(layout: VariantLayout, *, by_content: bool = False) -> dict[int, ShardSummary]:
    """Shard → its summary, ascending, for the shards that have a sidecar.

    With `by_content` no time of change is believed: every sidecar is read and hashed.
    Raises IntegrityError for a sidecar that is damaged, or lost (see `lost_shards`).
    """
    known, settled_ns = _known(layout)
    stamps, with_parts = _listed(layout)
    for shard in sorted((known.keys() | with_parts) - stamps.keys()):
        _refuse_lost(layout, shard)
    found = {}
    for shard, stamp in sorted(stamps.items()):
        summary = _current(layout, shard, stamp, known.get(shard), 0 if by_content else settled_ns)
        if summary is not None:
            found[shard] = summary
    return found


def read_summary(layout: VariantLayout, shard: int) -> ShardSummary | None:
    """One shard's; None if it has none yet. Raises IntegrityError for a sidecar that is damaged or
    lost.
    """
    known, settled_ns = _known(layout)
    try:
        stamp = _stamp(layout.manifest(shard).stat())
    except FileNotFoundError:
        if shard in known or shard in _listed(layout)[1]:
            _refuse_lost(layout, shard)
        return None
    return _current(layout, shard, stamp, known.get(shard), settled_ns)


def lost_shards(layout: VariantLayout) -> tuple[int, ...]:
    """The shards whose sidecar is gone, ascending.

    A sidecar was there if the index names it, or if the shard has parts: an account, if an empty
    one, is written before the first part. A shard without either was never built.
    """
    stamps, with_parts = _listed(layout)
    return tuple(sorted((_known(layout)[0].keys() | with_parts) - stamps.keys()))


def refresh_index(layout: VariantLayout) -> None:
    """Write the index anew if it is not what the sidecars say. Raises IntegrityError, DiskFull,
    SystemicFault.
    """
    known, settled_ns = _known(layout)
    found = read_summaries(layout)
    if found != known or any(one.stamp[1] >= settled_ns for one in found.values()):
        publish(layout.index_file, _encoded(layout, found), replace=True)


def done_ids(found: Iterable[ShardSummary]) -> list[str]:
    """The videos that are done, shard by shard."""
    return _lines(found, _IDS)


def logical_digest_of(found: Iterable[ShardSummary]) -> str:
    """What `storage.features.manifest.logical_digest` says of the same sidecars."""
    every = tuple(found)
    lines = [
        f"{video_id} {digest}\n"
        for video_id, digest in sorted(
            zip(_lines(every, _IDS), _lines(every, _DIGESTS), strict=True)
        )
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _lines(found: Iterable[ShardSummary], column: int) -> list[str]:
    return b"".join([one.columns[column] for one in found]).decode("ascii").splitlines()


def _listed(layout: VariantLayout) -> tuple[dict[int, Stamp], set[int]]:
    """The stamps of all sidecars, by shard; and the shards that have parts."""
    stamps: dict[int, Stamp] = {}
    with_parts: set[int] = set()
    if not layout.folder.is_dir():
        return stamps, with_parts
    with os.scandir(layout.folder) as entries:
        for entry in entries:
            named = shard_and_number(entry.name)
            if named is None:
                continue
            if named[1] is not None:
                with_parts.add(named[0])
            elif entry.name == layout.manifest(named[0]).name:
                stamps[named[0]] = _stamp(entry.stat())
    return stamps, with_parts


def _refuse_lost(layout: VariantLayout, shard: int) -> None:
    path = layout.manifest(shard)
    if path.exists():
        return  # it came while the folder was being listed
    folder = layout.folder.parents[1]
    raise IntegrityError(
        path,
        "is lost: this shard has parts, or the index names it. Run `python -m storage audit --repair "
        f"{folder}`, which makes it anew from the parts; if the shard was deleted on purpose, delete "
        f"{layout.index_file.name} too.",
    )


def _stamp(status: os.stat_result) -> Stamp:
    return [status.st_size, status.st_mtime_ns]


def _current(
    layout: VariantLayout, shard: int, stamp: Stamp, known: ShardSummary | None, settled_ns: int
) -> ShardSummary | None:
    if known is not None and known.stamp == stamp and stamp[1] < settled_ns:
        return known
    path = layout.manifest(shard)
    try:
        with path.open("rb") as file:
            stamp, raw = _stamp(os.fstat(file.fileno())), file.read()
    except FileNotFoundError:
        return None
    sha256 = hashlib.sha256(raw).hexdigest()
    if known is not None and known.sha256 == sha256:
        return replace(known, stamp=stamp)
    return _summarized(parse_manifest(layout, shard, raw), sha256, stamp)


def _summarized(manifest: ShardManifest, sha256: str, stamp: Stamp) -> ShardSummary:
    done = sorted(
        (video_id, entry) for video_id, entry in manifest.entries.items() if entry.is_done
    )
    numbers = {part.file: number for number, part in enumerate(manifest.parts)}
    others = {i: entry.status for i, entry in sorted(manifest.entries.items()) if not entry.is_done}
    columns = (
        "".join(f"{video_id}\n" for video_id, _ in done).encode("ascii"),
        np.array([entry.rows for _, entry in done], _NUMBER).tobytes(),
        np.array([numbers[entry.part] for _, entry in done], _NUMBER).tobytes(),
        "".join(f"{entry.digest}\n" for _, entry in done).encode("ascii"),
        json.dumps(
            {i: [str(one.state), one.reason, one.detail] for i, one in others.items()}
        ).encode("ascii"),
    )
    return ShardSummary(
        manifest.catalog,
        manifest.shard,
        sha256,
        stamp,
        manifest.parts,
        columns,
        manifest.time_origin,
    )


def _known(layout: VariantLayout) -> tuple[Mapping[int, ShardSummary], int]:
    """What the index says, and the time of change from which on a sidecar's stamp proves
    nothing.
    """
    try:
        status = layout.index_file.stat()
    except FileNotFoundError:
        return {}, 0
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return _decoded(layout, identity), status.st_mtime_ns - SETTLED_NS


def _encoded(layout: VariantLayout, found: Mapping[int, ShardSummary]) -> bytes:
    head = json.dumps({**_preamble(layout), "shards": [_to_json(one) for one in found.values()]})
    columns = zip(*(one.columns for one in found.values()), strict=True)
    body = b"".join([head.encode("ascii"), b"\n", *chain.from_iterable(columns)])
    return _sha256_line(body) + body


@lru_cache(maxsize=8)
def _decoded(layout: VariantLayout, identity: tuple[int, ...]) -> Mapping[int, ShardSummary]:
    """The summaries in the index; none if it is not, to the last bit, what this release wrote for
    this variant.
    """
    try:
        whole = layout.index_file.read_bytes()
    except FileNotFoundError:
        return {}
    body = memoryview(whole)[_SHA256_LINE_BYTES:]
    if whole[:_SHA256_LINE_BYTES] != _sha256_line(body):
        return {}
    end = whole.index(b"\n", _SHA256_LINE_BYTES)
    content = json.loads(whole[_SHA256_LINE_BYTES:end])
    shards = content.pop("shards", None)
    return _taken_apart(shards, whole, end + 1) if content == _preamble(layout) else {}


def _sha256_line(body: bytes | memoryview) -> bytes:
    return hashlib.sha256(body).hexdigest().encode("ascii") + b"\n"


def _preamble(layout: VariantLayout) -> dict[str, object]:
    return {"format": FORMAT, "taxonomy": TAXONOMY_VERSION, "variant": layout.folder.name}


def _to_json(one: ShardSummary) -> list[object]:
    parts = [list(vars(part).values()) for part in one.parts]
    return [
        one.catalog,
        one.shard,
        one.sha256,
        one.stamp,
        parts,
        one.time_origin,
        [len(item) for item in one.columns],
    ]


def _taken_apart(
    shards: Sequence[list[Any]], whole: bytes, first: int
) -> Mapping[int, ShardSummary]:
    sizes = chain.from_iterable(zip(*(shard[-1] for shard in shards), strict=True))
    pieces = [whole[start:end] for start, end in pairwise(accumulate(sizes, initial=first))]
    found = {}
    for number, (catalog, shard, sha256, stamp, parts, time_origin, _) in enumerate(shards):
        mine = tuple(pieces[number :: len(shards)])
        listed = tuple(PartRecord(*part) for part in parts)
        found[shard] = ShardSummary(catalog, shard, sha256, stamp, listed, mine, time_origin)
    return found
