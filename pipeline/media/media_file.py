"""A stored video file: its type by its first bytes, its digest, and the record beside it.

A file that passes here has a container's first bytes and a digest; whether frames can be decoded is
the decoder's question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.media.container.container_formats import describe_type, suffix_for
from pipeline.media.container.encryption import detect_encryption
from storage.base.errors import IntegrityError, VideoError
from storage.base.records import JSON
from storage.base.video_status import REASONS, TAXONOMY_VERSION, State, VideoStatus, failure_status
from storage.features.media_records import decode_media_record, encode_media_record
from storage.files.atomic_write import publish
from storage.files.os_errors import disk_fault

KEPT_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".flv", ".ts", ".m4v", ".ogv")
"""Every suffix that we give a media file, by its first bytes."""
SUFFIXES = (
    *KEPT_SUFFIXES,
    *(".3gp", ".3g2", ".mts", ".m2ts", ".f4v", ".qt", ".ogg", ".ogm", ".mk3d", ".divx"),
    *(".mpg", ".mpeg", ".vob", ".wmv", ".asf", ".rm", ".rmvb", ".gif"),
)
"""Every suffix that a video in a folder may have, in any case, in the order of preference. Files of
some are of types that we do not take; they are found, so that their verdict says what they are.
"""


@dataclass(frozen=True)
class Media:
    """One video's file."""

    path: Path
    sha256: str
    size_bytes: int
    facts: Mapping[str, JSON] = field(default_factory=dict)
    """What its site said of it; what a folder's file replaces."""
    was_hashed_earlier: bool = field(default=False, compare=False)
    """Whether it was hashed by an earlier call, so that its bytes may have changed since."""


@dataclass(frozen=True)
class FolderFile:
    """A file of a folder as it was when it was looked at."""

    name: str
    size_bytes: int
    mtime_ns: int
    """Time of change in nanoseconds."""


@dataclass(frozen=True)
class MediaRecord:
    """The result of asking one source for one video: a status, and facts of the file if it is done.

    A failure may have facts too: counts that go on from run to run.
    """

    source_name: str
    """The source that was asked, `asked` on disk. A failure counts only for that source."""
    status: VideoStatus
    sha256: str = ""
    size_bytes: int = 0
    suffix: str = ""
    facts: Mapping[str, JSON] = field(default_factory=dict)
    seen: tuple[FolderFile, ...] | None = None
    """The files of a folder that might have been the video's, the chosen one first. The status is
    only about these. None for a site, and in records of releases that did not keep it.
    """

    def write(self, path: Path) -> None:
        """Publish this record at `path`, replacing an older one. Equal records are equal bytes."""
        content: dict[str, JSON] = {"asked": self.source_name, "state": self.status.state.value}
        if self.status.state is State.DONE:
            content |= {"sha256": self.sha256, "size_bytes": self.size_bytes, "suffix": self.suffix}
            content["facts"] = dict(self.facts)
        else:
            content["reason"] = self.status.reason
            content["detail"] = self.status.detail
            # Reasons may be split in a later release; the version says what this one meant.
            content["taxonomy"] = TAXONOMY_VERSION
            if self.facts:
                content["facts"] = dict(self.facts)
        if self.seen is not None:
            content["seen"] = [[file.name, file.size_bytes, file.mtime_ns] for file in self.seen]
        publish(path, encode_media_record(content), replace=True)


def read_record(path: Path) -> MediaRecord | None:
    """The record at `path`; None if there is none. Raises IntegrityError if it is damaged."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_fault(error, path) from error
    try:
        return _parse_record(decode_media_record(path, raw)[0])
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            path, f"is not a media record ({error!r}). Delete it and run again."
        ) from error


def _parse_record(content: Mapping[str, JSON]) -> MediaRecord:
    state = State(str(content["state"]))
    source_name = str(content["asked"])
    seen = _parse_seen(content.get("seen"))
    if state is not State.DONE:
        status = VideoStatus(state, str(content["reason"]), str(content["detail"]))
        counts = content.get("facts", {})
        facts = counts if isinstance(counts, dict) else {}
        return MediaRecord(source_name, status, facts=facts, seen=seen)
    size, suffix, facts_of_file = content["size_bytes"], content["suffix"], content["facts"]
    # The suffix becomes part of a file name, so a record may name only those we write.
    is_valid_suffix = str(suffix).lower() in SUFFIXES
    if not is_valid_suffix or not isinstance(size, int) or not isinstance(facts_of_file, dict):
        raise ValueError(f"size_bytes {size!r}, suffix {suffix!r}, facts {facts_of_file!r}")
    sha256 = str(content["sha256"])
    status = VideoStatus(state)
    return MediaRecord(source_name, status, sha256, size, str(suffix), facts_of_file, seen)


def _parse_seen(content: JSON) -> tuple[FolderFile, ...] | None:
    if not isinstance(content, list):
        return None
    return tuple(map(_parse_folder_file, content))


def _parse_folder_file(content: JSON) -> FolderFile:
    match content:
        case [str(name), int(size_bytes), int(mtime_ns)]:
            return FolderFile(name, size_bytes, mtime_ns)
    raise ValueError(f"a seen file is {content!r}")


def is_final(status: VideoStatus) -> bool:
    """Whether this is a failure that stands until a person asks for a retry."""
    if status.state is State.DONE:
        return False
    return REASONS[status.reason].state is not State.PENDING


def accepted_suffix(path: Path, video_id: str) -> str:
    """The suffix for a file, by its first bytes.

    Raises VideoError: `not_a_video` for another type, `unreadable` for encrypted pictures.
    """
    suffix = suffix_for(path)
    if suffix is None:
        detail = f"the file is {describe_type(path)}"
        raise VideoError(video_id, failure_status("not_a_video", detail))
    if encryption := detect_encryption(path):
        detail = f"the pictures are encrypted ({encryption}); the file has no key"
        raise VideoError(video_id, failure_status("unreadable", detail))
    return suffix


def digest(path: Path) -> str:
    """The sha256 of a file in hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_media(media: Media) -> None:
    """Compare all bytes of a file with its record. Raises IntegrityError if they differ."""
    if not media.path.is_file():
        raise IntegrityError(media.path, "is gone. Run again to fetch it.")
    size_bytes = media.path.stat().st_size
    if size_bytes != media.size_bytes:
        raise IntegrityError(
            media.path,
            f"has {size_bytes:,} bytes, its record {media.size_bytes:,}. Fetch it again.",
        )
    sha256 = digest(media.path)
    if sha256 != media.sha256:
        raise IntegrityError(
            media.path, f"has sha256 {sha256}, its record {media.sha256}. Fetch it again."
        )
