"""Finds the media file of a video id, and names its type by the file's first bytes.

A path is made of the catalog's folder, a checked id and a known suffix. No text from a request, a
record or a list of videos becomes a part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storage.base.errors import IntegrityError
from storage.base.paths import Layout
from storage.base.records import JSON
from storage.catalog.catalog import shard_of
from storage.features.media_records import decode_media_record

SUFFIXES = (
    *(".mp4", ".webm", ".mkv", ".mov", ".m4v", ".ogv", ".avi", ".flv", ".ts"),
    *(".3gp", ".3g2", ".mts", ".m2ts", ".f4v", ".qt", ".ogg", ".ogm", ".mk3d", ".divx"),
    *(".mpg", ".mpeg", ".vob", ".wmv", ".asf"),
)
"""Suffixes that are looked for; those that browsers play come first."""
_HEAD_BYTES = 512
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_MATROSKA = b"\x1aE\xdf\xa3"
_TS_PACKET_BYTES = 188


@dataclass(frozen=True)
class MediaFile:
    """A media file that may be shown."""

    path: Path
    content_type: str
    """By its first bytes: always `video/...`."""
    size_bytes: int
    notes: tuple[str, ...] = ()
    """What a viewer should know, such as that it is not the file that was recorded."""


@dataclass(frozen=True)
class NoMedia:
    """Why a video has no file that can be shown."""

    reason: str


def find_media(layout: Layout, video_id: str, shard_count: int) -> MediaFile | NoMedia:
    """The media file of an id of the catalog, or why there is none.

    `video_id` must be an id of the catalog: the file's name is made of it. Raises ValueError for
    any text that cannot be an id.
    """
    shard = shard_of(video_id, shard_count)
    record, problem = _read_record(layout.media_record(video_id, shard))
    reasons = [problem] if problem else []
    for path in _places(layout, video_id, shard):
        # Also false for a link whose target is gone, and for a pipe or a device.
        if not path.is_file():
            continue
        with path.open("rb") as file:
            content_type = content_type_of(file.read(_HEAD_BYTES))
        if content_type is None:
            reasons.append(f"{path.name} does not begin like a video, so it is not sent")
            continue
        size_bytes = path.stat().st_size
        return MediaFile(path, content_type, size_bytes, _notes(record, size_bytes, problem))
    return NoMedia("; ".join(reasons) or _why_missing(record))


def _places(layout: Layout, video_id: str, shard: int) -> list[Path]:
    """Where its file may be, the likeliest place first."""
    folders = (layout.links, layout.sources)
    names = [f"{video_id}{suffix}" for suffix in SUFFIXES]
    downloaded = [layout.media_file(video_id, shard, suffix) for suffix in SUFFIXES]
    return [*downloaded, *(folder / name for folder in folders for name in names)]


def _read_record(path: Path) -> tuple[dict[str, JSON], str]:
    """The record of fetching the file, empty if there is none; and what is wrong with it."""
    try:
        return decode_media_record(path, path.read_bytes())[0], ""
    except FileNotFoundError:
        return {}, ""
    except (IntegrityError, OSError) as error:
        return {}, f"its media record cannot be read: {error}"


def _notes(record: dict[str, JSON], size_bytes: int, problem: str) -> tuple[str, ...]:
    notes = [problem] if problem else []
    recorded = record.get("size_bytes")
    if isinstance(recorded, int) and recorded != size_bytes:
        notes.append(
            f"this file has {size_bytes:,} bytes, the one that features were made of had "
            f"{recorded:,}: times may not agree"
        )
    return tuple(notes)


def _why_missing(record: dict[str, JSON]) -> str:
    if not record:
        return "no file of it was fetched, and the catalog's sources hold none"
    if record.get("state") != "done":
        return f"{record.get('state')}:{record.get('reason')} ({record.get('detail')})"
    if record.get("asked") == "folder":
        return (
            "its file lies in a folder of yours, which the store does not name; link it as "
            "sources/links/<id>.<suffix> to see it here"
        )
    return "its file was fetched, and is not in the store any more"


def content_type_of(head: bytes) -> str | None:
    """The media type of a file that begins with `head`; None if it is not a video container."""
    if head[4:8] in _MP4_BOXES:
        return "video/mp4"
    if head.startswith(_MATROSKA):
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "video/x-msvideo"
    if head[:1] == b"G" and head[_TS_PACKET_BYTES : _TS_PACKET_BYTES + 1] == b"G":
        return "video/mp2t"
    return next((kind for start, kind in _STARTS.items() if head.startswith(start)), None)


_STARTS = {
    b"OggS": "video/ogg",
    b"FLV\x01": "video/x-flv",
    b"\x00\x00\x01\xba": "video/mpeg",
    b"\x00\x00\x01\xb3": "video/mpeg",
    b"0&\xb2u\x8ef\xcf\x11": "video/x-ms-asf",
}
