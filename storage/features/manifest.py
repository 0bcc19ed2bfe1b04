"""The nouns of a shard's account: what became of each id, and which parts hold the rows.

Checks itself when made and when parsed. Refuses to know the disk: `sidecar.py` reads and writes it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from storage.base.errors import IntegrityError
from storage.base.fingerprint import to_json_value
from storage.base.records import CONTAINER_START, JSON, STREAM_CLOCK, TIME_ORIGINS, VIDEO_ID
from storage.base.video_status import State, VideoStatus
from storage.features.part_reader import PartHeader

FORMAT = "video-highlights sidecar"
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Version 1 does not say since when times count: it is the streams' own clocks."""
WITH_CHECKSUMS = 2
"""The first version whose parts have checksums of their blocks."""
Kind = TypeVar("Kind", str, int, dict[str, JSON], list[JSON])


@dataclass(frozen=True)
class ManifestEntry:
    """What became of one video."""

    status: VideoStatus
    part: str = ""
    """File name of the part that holds its rows; empty unless done and committed."""
    rows: int = 0
    digest: str = ""
    """FeatureTrack.digest() of its rows, or empty."""
    attempts: int = 1
    facts: Mapping[str, JSON] = field(default_factory=dict)
    """Source, decoder, counts, losses: whatever the pipeline found worth keeping."""

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
        """The entry such an object describes. Raises IntegrityError, about `path`, naming the field
        that is wrong.
        """
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
        fields.check_no_rest()
        return entry


@dataclass(frozen=True)
class PartRecord:
    """One part of a shard, as its sidecar vouches for it."""

    file: str
    sha256: str
    size_bytes: int
    videos: int
    rows: int
    checksums_sha256: str = ""
    """Of the file with the checksums of its blocks; empty for a part of an earlier release, which
    has none.
    """

    @staticmethod
    def from_json(path: Path, content: JSON, version: int = FORMAT_VERSION) -> PartRecord:
        """The part such an object of a sidecar of that version describes. Raises IntegrityError."""
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
"""In a provenance: the kinds of all processors that made rows of the shard. Rows of unlike kinds
differ in their last digits.
"""


@dataclass(frozen=True)
class ShardManifest:
    """The account of one shard of one variant."""

    catalog: str
    shard: int
    variant: str
    fingerprint: str
    parts: tuple[PartRecord, ...] = ()
    """In order of their numbers."""
    entries: Mapping[str, ManifestEntry] = field(default_factory=dict)
    """One per id that has a verdict."""
    provenance: Mapping[str, JSON] = field(default_factory=dict)
    """Of the last commit; every part keeps that of its own commit in its records."""
    time_origin: str = CONTAINER_START
    """Since when the seconds of all its parts count: one of `TIME_ORIGINS`."""

    def __post_init__(self) -> None:
        if self.time_origin not in TIME_ORIGINS:
            raise ValueError(
                f"times count from {self.time_origin!r}; this release knows {', '.join(TIME_ORIGINS)}"
            )
        files = {part.file for part in self.parts}
        if len(files) != len(self.parts):
            raise ValueError(
                f"a part is listed twice among {', '.join(part.file for part in self.parts)}"
            )
        for video_id, entry in self.entries.items():
            if not VIDEO_ID.fullmatch(video_id):
                raise ValueError(f"entries: {video_id!r} is no video id")
            if entry.is_done != (entry.part in files) or entry.is_done != bool(
                entry.rows and entry.digest
            ):
                raise ValueError(
                    f"entries.{video_id}: {entry.status} with part {entry.part!r} and {entry.rows} rows"
                )

    @property
    def header(self) -> PartHeader:
        """What every part of the shard says of itself."""
        return PartHeader(
            self.catalog, self.shard, self.variant, self.fingerprint, self.time_origin
        )

    @property
    def counts(self) -> dict[State, int]:
        """How many ids are in each state; adds up to the entries."""
        counter = Counter(entry.status.state for entry in self.entries.values())
        return {state: counter[state] for state in State}

    def live_in(self, file: str) -> list[str]:
        """Ids whose rows are in that part, ascending; rows of other ids in it are superseded."""
        return sorted(video_id for video_id, entry in self.entries.items() if entry.part == file)

    def without_parts(self, files: Iterable[str]) -> ShardManifest:
        """The same account without these parts and the ids that live in them."""
        gone = frozenset(files)
        return replace(
            self,
            parts=tuple(part for part in self.parts if part.file not in gone),
            entries={
                video_id: entry
                for video_id, entry in self.entries.items()
                if entry.part not in gone
            },
        )

    def to_json(self) -> dict[str, JSON]:
        """The account as a JSON object; `from_json` reads it back."""
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
        """The account such an object describes. Raises IntegrityError, about `path`, naming the
        field that is wrong.
        """
        fields = JsonFields(path, content, "the sidecar")
        found, version = fields.take("format", str), fields.take("format_version", int)
        if found != FORMAT or version not in READABLE_VERSIONS:
            raise IntegrityError(
                path, f"is a {found!r} of version {version}; this release reads {READABLE_VERSIONS}"
            )
        parts = [PartRecord.from_json(path, item, version) for item in fields.take("parts", list)]
        entries = {
            key: ManifestEntry.from_json(path, item)
            for key, item in fields.take("entries", dict).items()
        }
        header = [fields.take(name, str) for name in ("catalog", "variant", "fingerprint")]
        shard, provenance = fields.take("shard", int), fields.take("provenance", dict)
        time_origin = STREAM_CLOCK if version == 1 else fields.take("time_origin", str)
        fields.check_no_rest()
        try:
            return ShardManifest(
                header[0],
                shard,
                header[1],
                header[2],
                tuple(parts),
                entries,
                provenance,
                time_origin,
            )
        except ValueError as error:
            raise IntegrityError(path, str(error)) from error


class JsonFields:
    """Takes the fields of a JSON object one by one, each with its type, and tells which one is
    wrong.
    """

    def __init__(self, path: Path, content: JSON, noun: str) -> None:
        if not isinstance(content, dict):
            raise IntegrityError(path, f"{noun} is no JSON object but {content!r}")
        self._path, self._rest, self._noun = path, dict(content), noun

    def take(self, name: str, kind: type[Kind]) -> Kind:
        """The field's value. Raises IntegrityError if it is absent or of another type."""
        value = self._rest.pop(name, None)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise IntegrityError(
                self._path, f"field {name!r} of {self._noun} is {value!r}, not a {kind.__name__}"
            )
        return value

    def check_no_rest(self) -> None:
        """Raises IntegrityError if fields are left that nobody knows."""
        if self._rest:
            raise IntegrityError(
                self._path, f"{self._noun} has unknown fields: {', '.join(sorted(self._rest))}"
            )


def _status(path: Path, state: str, reason: str, detail: str) -> VideoStatus:
    try:
        return VideoStatus(State(state), reason, detail)
    except ValueError as error:
        raise IntegrityError(path, f"a verdict is wrong: {error}") from error


def logical_digest(manifests: Iterable[ShardManifest]) -> str:
    """sha256 over `id digest` lines of the done videos, by id: the same however they are spread
    over parts.
    """
    digests = {
        video_id: entry.digest
        for manifest in manifests
        for video_id, entry in manifest.entries.items()
        if entry.is_done
    }
    lines = [f"{video_id} {digests[video_id]}\n" for video_id in sorted(digests)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
