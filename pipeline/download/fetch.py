"""One video id in, one media file out: from a site or from a folder; and a record of what became of
it.

Knows neither yt-dlp nor a decoder. Decides what is asked at all: a recorded answer is never asked
for again.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from pipeline.download.access.rate_limiter import RateLimiter
from pipeline.download.access.source import FOLDER, YOUTUBE, SourceSettings
from pipeline.download.folder.from_folder import fetch_from_folder
from pipeline.download.folder.video_folder import file_names, video_folder
from pipeline.download.text_answer import record_text_answer
from pipeline.download.ytdlp import Downloaded, download
from pipeline.media.media_file import (
    Media,
    MediaRecord,
    digest,
    is_final,
    read_record,
    verify_media,
)
from storage.base.errors import VideoError
from storage.base.paths import Layout
from storage.base.video_status import DONE, State, VideoStatus, failure_status
from storage.files.atomic_write import publish_file, temporary_beside
from storage.files.file_lock import check_held
from storage.files.os_errors import disk_fault

__all__ = ["YOUTUBE", "Media", "SourceSettings", "fetch", "verify_media"]


def fetch(
    video_id: str,
    *,
    layout: Layout,
    shard: int,
    source: SourceSettings,
    alternative_ids: tuple[str, ...] = (),
    rate_limiter: RateLimiter | None = None,
    retry: bool = False,
) -> Media:
    """The media file of one video, asked for at most once: a recorded answer is given again without
    asking.

    `alternative_ids` is as in `storage.base.records.Video`: a site that has not one is asked for the next.
    `rate_limiter` paces requests to a site and pauses them when it says stop; without one, that too is a
    failure of the video.

    Raises VideoError for what is the video's matter, after recording it; a failure that is not
    pending is raised from its record until `retry`. A recorded file that has changed its size is
    `altered`, until `retry` asks anew; whether one of equal size has changed is for whoever reads
    it. Raises SystemicFault or DiskFull, and records nothing, when this machine is at fault, and
    IntegrityError for a damaged record.
    """
    record_path = layout.media_record(video_id, shard)
    known = read_record(record_path)
    names = file_names(video_id, alternative_ids)
    answered = known is not None and is_final(known.status) and known.source_name == source.name
    if known is not None and answered and source.folder is None and not retry:
        raise VideoError(video_id, known.status)
    # What was fetched from a site earlier serves a run with a folder too, unless a retry finds a
    # file there.
    if (
        known is not None
        and known.source_name != FOLDER
        and not (retry and _is_in_folder(source, names))
    ):
        kept = layout.media_file(video_id, shard, known.suffix)
        if _is_kept(video_id, known, kept, retry=retry):
            return Media(kept, known.sha256, known.size_bytes, known.facts, is_kept=True)
    if source.folder is not None:
        return fetch_from_folder(video_id, names, source, record_path, known, retry=retry)
    partial = record_path.with_suffix(".partial")
    try:
        arrived = _from_site(
            video_id,
            alternative_ids or (video_id,),
            partial,
            source=source,
            rate_limiter=rate_limiter,
        )
        media = _kept(arrived, layout.media_file(video_id, shard, arrived.suffix))
    except VideoError as error:
        failure = _record_of(error.status, record_path, known, source, rate_limiter)
        failure.write(record_path)
        if is_final(failure.status) or not (partial / "media.part").exists():
            _sweep(partial)
        raise VideoError(video_id, failure.status) from error
    except OSError as error:
        raise disk_fault(error, partial) from error
    found = MediaRecord(
        source.name, DONE, media.sha256, media.size_bytes, media.path.suffix, media.facts
    )
    found.write(record_path)
    _sweep(partial)
    return media


def _record_of(
    status: VideoStatus,
    record_path: Path,
    known: MediaRecord | None,
    source: SourceSettings,
    rate_limiter: RateLimiter | None,
) -> MediaRecord:
    if status.reason == "text_answer":
        return record_text_answer(
            status,
            record_path.parent,
            known,
            source.name,
            rate_limiter.successes if rate_limiter else None,
        )
    # Another failure between two texts takes nothing from their count.
    counted = (
        known.facts
        if known and known.source_name == source.name and known.status.state is State.PENDING
        else {}
    )
    return MediaRecord(source.name, status, facts={} if is_final(status) else counted)


def _is_in_folder(source: SourceSettings, names: tuple[str, ...]) -> bool:
    return source.folder is not None and bool(video_folder(source.folder).candidates(names))


def _is_kept(video_id: str, known: MediaRecord, path: Path, *, retry: bool) -> bool:
    """Whether the recorded file is there; False if it has to be asked for anew, as with `retry` an
    altered one has.
    """
    if known.status.state is not State.DONE or not path.is_file():
        return False
    size_bytes = path.stat().st_size
    if retry:
        return (size_bytes, digest(path)) == (known.size_bytes, known.sha256)
    if size_bytes != known.size_bytes:
        told = f"{path.name} has {size_bytes:,} bytes, and {known.size_bytes:,} were recorded when it was fetched"
        raise VideoError(video_id, failure_status("altered", told))
    return True


def _from_site(
    video_id: str,
    names: tuple[str, ...],
    partial: Path,
    *,
    source: SourceSettings,
    rate_limiter: RateLimiter | None,
) -> Downloaded:
    """What the site has under the first of `names` that it has at all."""
    partial.mkdir(parents=True, exist_ok=True)
    for name in names:
        try:
            arrived = download(name, partial, source, rate_limiter)
        except VideoError as error:
            if error.status.state is State.UNAVAILABLE and name != names[-1]:
                _sweep(partial)
                partial.mkdir(parents=True, exist_ok=True)
                continue
            raise VideoError(video_id, _told_of(name, error.status, video_id)) from error
        return (
            arrived
            if name == video_id
            else replace(arrived, facts={**arrived.facts, "asked_as": name})
        )
    raise ValueError(f"{video_id} has no name to ask for")


def _told_of(name: str, status: VideoStatus, video_id: str) -> VideoStatus:
    return (
        status
        if name == video_id
        else failure_status(status.reason, f"asked for {name}: {status.detail}")
    )


def _kept(arrived: Downloaded, path: Path) -> Media:
    sha256, size_bytes = digest(arrived.path), arrived.path.stat().st_size
    temporary = arrived.path.rename(temporary_beside(path))
    # A file without a valid record was never promised to anybody.
    check_held()
    path.unlink(missing_ok=True)
    publish_file(temporary, path)
    facts = {**arrived.facts, "damage": arrived.damage} if arrived.damage else dict(arrived.facts)
    return Media(path, sha256, size_bytes, facts)


def _sweep(partial: Path) -> None:
    check_held()
    # A leftover is harmless and the next call sweeps it; an error here would hide the cause of a
    # failed download.
    shutil.rmtree(partial, ignore_errors=True)
