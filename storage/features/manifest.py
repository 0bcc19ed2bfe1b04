"""The manifest of a shard: the status of each id, and the parts that hold the rows.

The classes check themselves when they are made and when they are parsed. `manifest_file.py` reads
and writes them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from storage.base.errors import IntegrityError
from storage.base.fingerprint import to_json_value
from storage.base.records import CONTAINER_START, JSON, STREAM_CLOCK, TIME_ORIGINS, VIDEO_ID
from storage.base.video_status import State, VideoStatus
from storage.features.part_reader import PartHeader

FORMAT = "video-highlights sidecar"
"""On disk the manifest keeps the name that it had in the first release."""
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Version 1 does not say since when times count: it is the streams' own clocks."""
WITH_CHECKSUMS = 2
"""The first version whose parts have checksums of their blocks."""
Kind = TypeVar("Kind", str, int, dict[str, JSON], list[JSON])


@dataclass(frozen=True)
class ManifestEntry:
    """The status of one video, and where its rows are."""

    status: VideoStatus
    part: str = ""
    """File name of the part that holds its rows; empty unless done and committed."""
    rows: int = 0
    digest: str = ""
    """FeatureTrack.digest() of its rows, or empty."""
    attempts: int = 1
    facts: Mapping[str, JSON] = field(default_factory=dict)
    """Source, decoder, counts and losses, as the pipeline recorded them."""

    @property
    def is_done(self) -> bool:
        """Whether its rows are in a part, or about to be."""
        return self.status.state is State.DONE

    def to_json(self) -> dict[str, JSON]:
        """All fields as a JSON object; `from_json` reads it back."""
        status: dict[str, JSON] = {
            "state": str(self.status.state),
            "reason": self.status.reason,
            "detail": self.status.detail,
        }
        rest: dict[str, JSON] = {
            "part": self.part,
            "rows": self.rows,
            "digest": self.digest,
            "attempts": self.attempts,
        }
        return {**status, **rest, "facts": dict(self.facts)}

    @staticmethod
    def from_json(path: Path, content: JSON) -> ManifestEntry:
        """The entry in a JSON object. Raises IntegrityError, which names the wrong field."""
        fields = JsonFields(path, content, "an entry")
        entry = ManifestEntry(
            _status(
                path,
                fields.take("state", str),
                fields.take("reason", str),
                fields.take("detail", str),
            ),
            part=fields.take("part", str),
            rows=fields.take("rows", int),
            digest=fields.take("digest", str),
            attempts=fields.take("attempts", int),
            facts=fields.take("facts", dict),
        )
        # An unknown field may change the meaning of the others.
        fields.check_no_rest()
        return entry


@dataclass(frozen=True)
class PartRecord:
    """One part of a shard, with the size and checksums that it must have."""

    file: str
    sha256: str
    size_bytes: int
    videos: int
    rows: int
    checksums_sha256: str = ""
    """Of the file with the checksums of its blocks; empty for a part of an earlier release."""

    @staticmethod
    def from_json(path: Path, content: JSON, version: int = FORMAT_VERSION) -> PartRecord:
        """The part in a JSON object of a manifest of that version. Raises IntegrityError."""
        fields = JsonFields(path, content, "a part")
        part = PartRecord(
            fields.take("file", str),
            fields.take("sha256", str),
            fields.take("size_bytes", int),
            fields.take("videos", int),
            fields.take("rows", int),
            fields.take("checksums_sha256", str) if version >= WITH_CHECKSUMS else "",
        )
        fields.check_no_rest()
        return part


PROCESSORS = "processors"
"""Key in a provenance: the kinds of all processors that made rows of the shard.

Rows of different kinds differ in their last digits.
"""


@dataclass(frozen=True)
class ShardManifest:
    """The manifest of one shard of one variant."""

    catalog: str
    shard: int
    variant: str
    fingerprint: str
    parts: tuple[PartRecord, ...] = ()
    """In order of their numbers."""
    entries: Mapping[str, ManifestEntry] = field(default_factory=dict)
    """One per id that has a status."""
    provenance: Mapping[str, JSON] = field(default_factory=dict)
    """Of the last commit; every part keeps that of its own commit in its records."""
    time_origin: str = CONTAINER_START
    """Since when the seconds of all its parts count: one of `TIME_ORIGINS`."""

    def __post_init__(self) -> None:
        if self.time_origin not in TIME_ORIGINS:
            raise ValueError(
                f"times count from {self.time_origin!r}; this release reads "
                f"{', '.join(TIME_ORIGINS)}"
            )
        files = [part.file for part in self.parts]
        if len(set(files)) != len(files):
            raise ValueError(f"a part is listed twice among {', '.join(files)}")
        known_files = frozenset(files)
        for video_id, entry in self.entries.items():
            _check_entry(video_id, entry, known_files)

    @property
    def header(self) -> PartHeader:
        """The header that every part of the shard must have."""
        return PartHeader(
            self.catalog, self.shard, self.variant, self.fingerprint, self.time_origin
        )

    @property
    def counts(self) -> dict[State, int]:
        """Number of ids in each state; they add up to the entries."""
        # All states, also those with no id, so that equations always have the same terms.
        counter = Counter(entry.status.state for entry in self.entries.values())
        return {state: counter[state] for state in State}

    def live_in(self, file: str) -> list[str]:
        """Ids whose rows are in that part, ascending; other rows in it are superseded."""
        return sorted(video_id for video_id, entry in self.entries.items() if entry.part == file)

    def without_parts(self, files: Iterable[str]) -> ShardManifest:
        """The same manifest without these parts and the ids whose rows are in them."""
        removed = frozenset(files)
        entries = self.entries.items()
        return replace(
            self,
            parts=tuple(part for part in self.parts if part.file not in removed),
            entries={video_id: entry for video_id, entry in entries if entry.part not in removed},
        )

    def to_json(self) -> dict[str, JSON]:
        """The manifest as a JSON object; `from_json` reads it back."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **vars(self.header),
            "parts": to_json_value(self.parts),
            "entries": {video_id: entry.to_json() for video_id, entry in self.entries.items()},
            "provenance": to_json_value(self.provenance),
        }

    @staticmethod
    def from_json(path: Path, content: JSON) -> ShardManifest:
        """The manifest in a JSON object. Raises IntegrityError, which names the wrong field."""
        fields = JsonFields(path, content, "the manifest")
        found, version = fields.take("format", str), fields.take("format_version", int)
        if found != FORMAT or version not in READABLE_VERSIONS:
            raise IntegrityError(
                path, f"is a {found!r} of version {version}; this release reads {READABLE_VERSIONS}"
            )
        part_items, entry_items = fields.take("parts", list), fields.take("entries", dict)
        values: dict[str, Any] = {
            "catalog": fields.take("catalog", str),
            "shard": fields.take("shard", int),
            "variant": fields.take("variant", str),
            "fingerprint": fields.take("fingerprint", str),
            "parts": tuple(PartRecord.from_json(path, item, version) for item in part_items),
            "entries": {
                video_id: ManifestEntry.from_json(path, item)
                for video_id, item in entry_items.items()
            },
            "provenance": fields.take("provenance", dict),
            "time_origin": STREAM_CLOCK if version == 1 else fields.take("time_origin", str),
        }
        fields.check_no_rest()
        try:
            return ShardManifest(**values)
        except ValueError as error:
            raise IntegrityError(path, str(error)) from error


def _check_entry(video_id: str, entry: ManifestEntry, files: Collection[str]) -> None:
    if not VIDEO_ID.fullmatch(video_id):
        raise ValueError(f"entries: {video_id!r} is not a valid video id")
    is_in_a_part = entry.part in files
    has_rows = bool(entry.rows and entry.digest)
    # Done means exactly: a part of this shard holds its rows.
    if not entry.is_done == is_in_a_part == has_rows:
        raise ValueError(
            f"entries.{video_id}: {entry.status} with part {entry.part!r} and {entry.rows} rows"
        )


class JsonFields:
    """Takes the fields of a JSON object one by one, and names the one that is wrong."""

    def __init__(self, path: Path, content: JSON, noun: str) -> None:
        if not isinstance(content, dict):
            raise IntegrityError(path, f"{noun} is not a JSON object but {content!r}")
        self._path = path
        self._rest = dict(content)
        self._noun = noun

    def take(self, name: str, kind: type[Kind]) -> Kind:
        """The field's value. Raises IntegrityError if it is missing or of another type."""
        # Removed when read, so that `check_no_rest` sees what is unknown.
        value = self._rest.pop(name, None)
        # bool is a subclass of int, and no field is a bool.
        if not isinstance(value, kind) or isinstance(value, bool):
            raise IntegrityError(
                self._path, f"field {name!r} of {self._noun} is {value!r}, not a {kind.__name__}"
            )
        return value

    def check_no_rest(self) -> None:
        """Raise IntegrityError if fields are left that this release does not know."""
        if self._rest:
            raise IntegrityError(
                self._path, f"{self._noun} has unknown fields: {', '.join(sorted(self._rest))}"
            )


def _status(path: Path, state: str, reason: str, detail: str) -> VideoStatus:
    try:
        return VideoStatus(State(state), reason, detail)
    except ValueError as error:
        raise IntegrityError(path, f"a status is wrong: {error}") from error


def logical_digest(manifests: Iterable[ShardManifest]) -> str:
    """sha256 over a line `id digest` for each done video, by id.

    It is the same however the videos are spread over parts and shards.
    """
    digests: dict[str, str] = {}
    for manifest in manifests:
        for video_id, entry in manifest.entries.items():
            if entry.is_done:
                digests[video_id] = entry.digest
    return digest_of_lines(digests.items())


def digest_of_lines(digests: Iterable[tuple[str, str]]) -> str:
    """sha256 over a line `id digest` for each pair, by id."""
    lines = [f"{video_id} {digest}\n" for video_id, digest in sorted(digests)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
