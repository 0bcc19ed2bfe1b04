"""One video as one HTML file that can be sent: numbers, pictures, style and script are inside."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

from storage.base.errors import LookupFailed, SettingsError
from storage.base.records import JSON, Ragged
from storage.files.atomic_write import publish
from trainer.view.feature_strips import PICTURES, strips_json
from trainer.view.http_rules import safe_json
from trainer.view.lanes import StoredScores
from trainer.view.media import MediaFile, NoMedia
from trainer.view.opened_store import UNREADABLE, OpenedStore, Snapshot
from trainer.view.overlays import overlays_json
from trainer.view.pages import render_single_file
from trainer.view.video_details import (
    check_id,
    details_json,
    jpeg_of,
    liked_clips,
    media_of,
    picture,
)

MOST_VIDEO_BYTES = 256 * 2**20
"""A larger video is not put into a file: browsers refuse addresses of more than 512 MB."""
MOST_ROWS_OF_OVERLAYS = 6000
MOST_PICTURES = 1200
MOST_BESIDE_VIDEO = 40
"""Pictures of the timeline, in a file that has the video."""


def write_static_page(
    folder: Path, video_id: str, out: Path, *, with_video: bool = False
) -> Iterator[str]:
    """Write the page of one video; yields its path and size, and what it leaves out.

    Raises:
        LookupFailed: there is no catalog, or it has no such video.
        SettingsError: with `with_video`, there is no file of it, or it is too large.
        DiskFull, SystemicFault: the file cannot be written; an older one stays as it was.
    """
    store = OpenedStore(folder)
    snapshot = store.snapshot()
    check_id(snapshot, video_id)
    details = details_json(snapshot, StoredScores(store), video_id)
    data: dict[str, JSON] = {
        "details": details,
        "strips": _strips(snapshot, video_id),
        "overlays": _overlays(snapshot, video_id),
        "media": _video(snapshot, video_id) if with_video else None,
    }
    most = MOST_BESIDE_VIDEO if with_video else MOST_PICTURES
    data["pictures"] = _pictures(snapshot, details, video_id, most)
    _add_clip_pictures(snapshot, details)
    content = render_single_file(
        "single.html.jinja",
        catalog=snapshot.catalog.name,
        id=video_id,
        title=snapshot.title(video_id),
        data=safe_json(data),
    )
    publish(out, content, replace=True)
    yield f"page     {out} ({len(content) / 1e6:.2f} MB, {_moving(details, with_video)})"


def _moving(details: dict[str, JSON], with_video: bool) -> str:
    if with_video:
        return "with the video"
    return "with stored pictures" if details["pictures"] else "without video and pictures"


def _strips(snapshot: Snapshot, video_id: str) -> dict[str, JSON]:
    strips: dict[str, JSON] = {}
    for name, variant in snapshot.readers_of(video_id).items():
        try:
            strips[name] = strips_json(variant.reader[video_id])
        except UNREADABLE:
            strips[name] = {"rows": 0, "strips": [], "problems": []}  # `details` has the message
    return strips


def _overlays(snapshot: Snapshot, video_id: str) -> dict[str, JSON]:
    """All overlays of the video, or those of its beginning, with a message that says so."""
    variants, end = snapshot.readers_of(video_id), _end_seconds(snapshot, video_id)
    answer = overlays_json(video_id, variants, 0.0, end, most_rows=MOST_ROWS_OF_OVERLAYS)
    until, problems = _float(answer["until"]), answer["problems"]
    if until < end and isinstance(problems, list):
        problems.append(f"this file has overlays until {until:.1f} s only")
    return answer


def _end_seconds(snapshot: Snapshot, video_id: str) -> float:
    ends = [0.0]
    for variant in snapshot.readers_of(video_id).values():
        try:
            ends.append(float(variant.reader[video_id].spans[:, 1].max(initial=0)))
        except UNREADABLE:
            continue  # `details` has the message
    return max(ends)


def _float(value: JSON) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _video(snapshot: Snapshot, video_id: str) -> str:
    """The video as a data address."""
    media = media_of(snapshot, video_id)
    if isinstance(media, NoMedia):
        raise SettingsError(
            (f"--with-video: {video_id} has no video ({media.reason}); leave the option out",)
        )
    if media.size_bytes > MOST_VIDEO_BYTES:
        raise SettingsError(
            (
                f"--with-video: the video has {media.size_bytes:,} bytes, at most "
                f"{MOST_VIDEO_BYTES:,} fit into a page; leave the option out",
            )
        )
    return _data_address(media)


def _data_address(media: MediaFile) -> str:
    content = base64.b64encode(media.path.read_bytes()).decode()
    return f"data:{media.content_type};base64,{content}"


def _pictures(snapshot: Snapshot, details: dict[str, JSON], video_id: str, most: int) -> list[JSON]:
    """At most `most` stored pictures as base64, evenly spaced; `details` gets their spans."""
    shown = details["pictures"]
    if not isinstance(shown, dict) or not isinstance(shown["spans"], list):
        return []
    rows = snapshot.variants[str(shown["variant"])].reader[video_id][PICTURES]
    step = max(1, -(-len(rows) // most))
    numbers = range(0, len(rows), step)
    shown["spans"] = [shown["spans"][number] for number in numbers]
    encoded: list[JSON] = []
    for number in numbers:
        row = rows[number]
        if isinstance(row, Ragged):
            raise LookupFailed(f"{PICTURES} is not a list of pictures")
        encoded.append(base64.b64encode(jpeg_of(row)).decode())
    return encoded


def _add_clip_pictures(snapshot: Snapshot, details: dict[str, JSON]) -> None:
    """A picture from the middle of each liked clip."""
    predictions = details["predictions"]
    for clip in liked_clips(predictions) if isinstance(predictions, dict) else ():
        clip["has_media"] = False  # other videos are not in the file
        if clip["has_picture"]:
            middle = (_float(clip["start"]) + _float(clip["end"])) / 2
            content = picture(snapshot, str(clip["video_id"]), middle)
            clip["picture"] = base64.b64encode(content).decode()
