"""All accounts of a variant in one file, so that 95,000 videos open in the time one account takes to parse.

    .../features/<variant>-<fp>/index.json    one line: sha256 of the rest; then, per shard, what readers need

The sidecars stay the truth. A shard's summary is used only while its sidecar has the size and time of change that the
index names; failing that, while its bytes have the sha256 that it names; else the sidecar itself is read. So the index
may be old, damaged, or not there, and only costs time. Refuses to know facts and provenance: those are in the sidecars.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any

from storage.account import Part, Sidecar
from storage.atomic import publish
from storage.layout import VariantLayout, shard_and_number
from storage.sidecar import parse_sidecar
from storage.verdicts import DONE, TAXONOMY_VERSION, State, Verdict

FORMAT = "video-highlights index 1"
SETTLED_NS = 2_000_000_000
"""A sidecar that changed less than this before the index was written may have changed again within one tick of the file
system's clock: its time says nothing, its sha256 does."""
Stamp = Sequence[int]
"""Size in bytes and time of change in nanoseconds."""


@dataclass(frozen=True)
class Summary:
    """What a sidecar says, without facts and provenance. Texts are taken apart when they are first asked for."""

    catalog: str
    shard: int
    sha256: str
    """Of the sidecar's bytes."""
    stamp: Stamp
    """Of the sidecar when it was read."""
    parts: tuple[Part, ...]
    rows: Sequence[int]
    """Of each of `ids`."""
    places: Sequence[int]
    """For each of `ids`, which of `parts` has it."""
    ids_text: str
    """`ids` with spaces between them."""
    digests_text: str
    """`digests` likewise."""
    others_told: Mapping[str, Sequence[str]]
    """State, reason and detail of all other ids."""

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The videos that are done, ascending."""
        return tuple(self.ids_text.split())

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """Of each of `ids`."""
        return tuple(self.digests_text.split())

    @cached_property
    def others(self) -> Mapping[str, Verdict]:
        """The verdicts of all ids that are not done."""
        return {i: Verdict(State(state), reason, told) for i, (state, reason, told) in self.others_told.items()}

    @cached_property
    def verdicts(self) -> Mapping[str, Verdict]:
        """Of every id, in no order."""
        return {**dict.fromkeys(self.ids, DONE), **self.others}


_PART = tuple(field.name for field in fields(Part))
_SUMMARY = tuple(field.name for field in fields(Summary))


def summaries(layout: VariantLayout, *, by_content: bool = False) -> dict[int, Summary]:
    """Shard → its summary, ascending, for the shards that have a sidecar. Raises IntegrityError for a damaged sidecar.

    With `by_content` no time of change is believed: every sidecar is read and hashed.
    """
    known, settled_ns = _known(layout)
    found = {}
    for shard, stamp in sorted(_stamps(layout)):
        summary = _current(layout, shard, stamp, known.get(shard), 0 if by_content else settled_ns)
        if summary is not None:
            found[shard] = summary
    return found


def summary(layout: VariantLayout, shard: int) -> Summary | None:
    """One shard's; None if it has no sidecar. Raises IntegrityError."""
    known, settled_ns = _known(layout)
    try:
        stamp = _stamp(layout.sidecar(shard).stat())
    except FileNotFoundError:
        return None
    return _current(layout, shard, stamp, known.get(shard), settled_ns)


def refresh(layout: VariantLayout) -> None:
    """Write the index anew if it is not what the sidecars say. Raises IntegrityError, DiskFull, SystemicFault."""
    known, settled_ns = _known(layout)
    found = summaries(layout)
    if found != known or any(one.stamp[1] >= settled_ns for one in found.values()):
        publish(layout.index_file, _encoded(layout, found), replace=True)


def logical_digest_of(found: Mapping[int, Summary]) -> str:
    """What `storage.account.logical_digest` says of the same sidecars."""
    pairs = sorted(pair for one in found.values() for pair in zip(one.ids, one.digests, strict=True))
    lines = [f"{video_id} {digest}\n" for video_id, digest in pairs]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _stamps(layout: VariantLayout) -> Iterator[tuple[int, Stamp]]:
    if not layout.folder.is_dir():
        return
    for entry in os.scandir(layout.folder):
        named = shard_and_number(entry.name)
        if named is not None and entry.name == layout.sidecar(named[0]).name:
            yield named[0], _stamp(entry.stat())


def _stamp(status: os.stat_result) -> Stamp:
    return [status.st_size, status.st_mtime_ns]


def _current(layout: VariantLayout, shard: int, stamp: Stamp, known: Summary | None, settled_ns: int) -> Summary | None:
    if known is not None and known.stamp == stamp and stamp[1] < settled_ns:
        return known
    path = layout.sidecar(shard)
    try:
        with path.open("rb") as file:
            stamp, raw = _stamp(os.fstat(file.fileno())), file.read()
    except FileNotFoundError:
        return None
    sha256 = hashlib.sha256(raw).hexdigest()
    if known is not None and known.sha256 == sha256:
        return replace(known, stamp=stamp)
    return _summarized(parse_sidecar(layout, shard, raw), sha256, stamp)


def _summarized(sidecar: Sidecar, sha256: str, stamp: Stamp) -> Summary:
    done = sorted((video_id, entry) for video_id, entry in sidecar.entries.items() if entry.is_done)
    numbers = {part.file: number for number, part in enumerate(sidecar.parts)}
    others = {i: entry.verdict for i, entry in sorted(sidecar.entries.items()) if not entry.is_done}
    return Summary(
        catalog=sidecar.catalog,
        shard=sidecar.shard,
        sha256=sha256,
        stamp=stamp,
        parts=sidecar.parts,
        rows=[entry.rows for _, entry in done],
        places=[numbers[entry.part] for _, entry in done],
        ids_text=" ".join(video_id for video_id, _ in done),
        digests_text=" ".join(entry.digest for _, entry in done),
        others_told={i: [str(one.state), one.reason, one.detail] for i, one in others.items()},
    )


def _known(layout: VariantLayout) -> tuple[Mapping[int, Summary], int]:
    """What the index says, and the time of change from which on a sidecar's stamp proves nothing."""
    try:
        status = layout.index_file.stat()
    except FileNotFoundError:
        return {}, 0
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return _decoded(layout, identity), status.st_mtime_ns - SETTLED_NS


def _encoded(layout: VariantLayout, found: Mapping[int, Summary]) -> bytes:
    content = {**_preamble(layout), "shards": [_to_json(one) for one in found.values()]}
    body = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


@lru_cache(maxsize=8)
def _decoded(layout: VariantLayout, identity: tuple[int, ...]) -> Mapping[int, Summary]:
    """The summaries in the index; none if it is not, to the last bit, what this release wrote for this variant."""
    try:
        sha256, _, body = layout.index_file.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return {}
    if hashlib.sha256(body).hexdigest().encode() != sha256:
        return {}
    content = json.loads(body)
    shards = content.pop("shards", None)
    return {one["shard"]: _from_json(one) for one in shards} if content == _preamble(layout) else {}


def _preamble(layout: VariantLayout) -> dict[str, object]:
    return {"format": FORMAT, "taxonomy": TAXONOMY_VERSION, "variant": layout.folder.name}


def _to_json(one: Summary) -> dict[str, object]:
    parts = [[getattr(part, name) for name in _PART] for part in one.parts]
    return {name: getattr(one, name) for name in _SUMMARY} | {"parts": parts}


def _from_json(fields: dict[str, Any]) -> Summary:
    parts = tuple(Part(*part) for part in fields.pop("parts"))
    return Summary(**fields, parts=parts)
