"""A video file as we hold it: what its first bytes say it is, its digest, and the record that lies
beside it.

Knows no network and no decoder. A file that passes here has a container's first bytes and a digest;
whether frames come out of it is the decoder's question.
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
    """One video's file. `facts` is what its site said of it; empty for a file found in a folder."""

    path: Path
    sha256: str
    size_bytes: int
    facts: Mapping[str, JSON] = field(default_factory=dict)
    is_kept: bool = field(default=False, compare=False)
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
    """What became of asking one source for one video: a verdict, and the file's facts when it is
    done.

    A failure may have facts too: what is counted from run to run.
    """

    source_name: str
    """The source that was asked. A refusal counts only for that source."""
    status: VideoStatus
    sha256: str = ""
    size_bytes: int = 0
    suffix: str = ""
    facts: Mapping[str, JSON] = field(default_factory=dict)
    seen: tuple[FolderFile, ...] | None = None
    """The files of a folder that might have been the video's, the one that was taken first; a
    verdict is about these alone. None for a site, and in records of releases that did not keep it.
    """

    def write(self, path: Path) -> None:
        """Publish this record at `path`, replacing an older one. Equal records are equal bytes."""
        content: dict[str, JSON] = {"asked": self.source_name, "state": self.status.state.value}
        if self.status.state is State.DONE:
            content |= {"sha256": self.sha256, "size_bytes": self.size_bytes, "suffix": self.suffix}
            content["facts"] = dict(self.facts)
        else:
            content |= {
                "reason": self.status.reason,
                "detail": self.status.detail,
                "taxonomy": TAXONOMY_VERSION,
            }
            content |= {"facts": dict(self.facts)} if self.facts else {}
        if self.seen is not None:
            content["seen"] = [[one.name, one.size_bytes, one.mtime_ns] for one in self.seen]
        publish(path, encode_media_record(content), replace=True)


def read_record(path: Path) -> MediaRecord | None:
    """The record at `path`, None where there is none. Raises IntegrityError for one that is not as
    we wrote it.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_fault(error, path) from error
    try:
        return _parsed(decode_media_record(path, raw)[0])
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            path, f"is no media record ({error!r}). Delete it and run again."
        ) from error


def _parsed(content: Mapping[str, JSON]) -> MediaRecord:
    state = State(str(content["state"]))
    asked = str(content["asked"])
    if state is not State.DONE:
        counted = content.get("facts", {})
        status = VideoStatus(state, str(content["reason"]), str(content["detail"]))
        return MediaRecord(
            asked, status, facts=counted if isinstance(counted, dict) else {}, seen=_seen(content)
        )
    size, suffix, facts = content["size_bytes"], content["suffix"], content["facts"]
    # The suffix becomes part of a file name, so a record may name only those we write.
    if (
        not isinstance(size, int)
        or str(suffix).lower() not in SUFFIXES
        or not isinstance(facts, dict)
    ):
        raise ValueError(f"size_bytes {size!r}, suffix {suffix!r}, facts {facts!r}")
    return MediaRecord(
        asked, VideoStatus(state), str(content["sha256"]), size, str(suffix), facts, _seen(content)
    )


def _seen(content: Mapping[str, JSON]) -> tuple[FolderFile, ...] | None:
    listed = content.get("seen")
    if not isinstance(listed, list):
        return None
    return tuple(_seen_file(one) for one in listed)


def _seen_file(content: JSON) -> FolderFile:
    if not isinstance(content, list) or len(content) != 3:
        raise ValueError(f"a seen file is {content!r}")
    name, size_bytes, mtime_ns = content
    if (
        not isinstance(name, str)
        or not isinstance(size_bytes, int)
        or not isinstance(mtime_ns, int)
    ):
        raise ValueError(f"a seen file is {content!r}")
    return FolderFile(name, size_bytes, mtime_ns)


def is_final(status: VideoStatus) -> bool:
    """Whether a failure stands until somebody asks for a retry."""
    return status.state is not State.DONE and REASONS[status.reason].state is not State.PENDING


def accepted_suffix(path: Path, video_id: str) -> str:
    """The suffix a file's bytes call for.

    Raises VideoError: `not_a_video` for another type, `unreadable` for encrypted pictures.
    """
    suffix = suffix_for(path)
    if suffix is None:
        raise VideoError(
            video_id, failure_status("not_a_video", f"the file is {describe_type(path)}")
        )
    if told := detect_encryption(path):
        raise VideoError(
            video_id,
            failure_status(
                "unreadable", f"the pictures are encrypted ({told}); the file has no key"
            ),
        )
    return suffix


def digest(path: Path) -> str:
    """The sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_media(media: Media) -> None:
    """Read the whole file and compare. Raises IntegrityError when it is gone or is not what was
    recorded.
    """
    if not media.path.is_file():
        raise IntegrityError(media.path, "is gone. Run again to fetch it.")
    size_bytes = media.path.stat().st_size
    if size_bytes != media.size_bytes:
        raise IntegrityError(
            media.path, f"has {size_bytes:,} bytes, its record {media.size_bytes:,}. Fetch it anew."
        )
    found = digest(media.path)
    if found != media.sha256:
        raise IntegrityError(
            media.path, f"has sha256 {found}, its record {media.sha256}. Fetch it anew."
        )
