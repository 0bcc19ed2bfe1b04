"""Fetches the media file of one video from a site or a folder, and records the result.

A recorded result is not asked for again: not a file that is here, and not a final failure. How a
site is asked is in `ytdlp`, how a folder is searched in `folder`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.download.access.rate_limiter import RateLimiter
from pipeline.download.access.source import FOLDER, YOUTUBE, SourceSettings
from pipeline.download.folder.from_folder import fetch_from_folder
from pipeline.download.folder.video_folder import file_names, video_folder
from pipeline.download.text_answer import record_text_answer
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
from storage.base.records import JSON
from storage.base.video_status import DONE, State, VideoStatus, failure_status
from storage.files.atomic_write import publish_file, temporary_beside
from storage.files.file_lock import check_held
from storage.files.os_errors import disk_fault

if TYPE_CHECKING:
    from pipeline.download.ytdlp import Downloaded

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
    """The media file of one video, from its record if there is one, else from the source.

    Args:
        video_id: the video.
        layout: where media files and records of its catalog lie.
        shard: the video's shard.
        source: the site or folder to ask.
        alternative_ids: ids to ask a site for, in this order; see `storage.base.records.Video`.
        rate_limiter: paces requests to a site, and pauses them when the site says stop. Without
            one, such an answer is a failure of the video.
        retry: ask again for a failure that is final, and for a file whose bytes changed.

    Raises:
        VideoError: a failure of this video, after recording it. `altered`: the recorded file has
            another size now. Whether a file of equal size has changed is left to its reader.
        SystemicFault: this machine or the site is at fault; nothing is recorded.
        DiskFull: as SystemicFault.
        IntegrityError: the record is damaged.
    """
    record_path = layout.media_record(video_id, shard)
    names = file_names(video_id, alternative_ids)
    known = read_record(record_path)
    if known is not None:
        if not retry:
            _raise_recorded_failure(video_id, known, source)
        media = _reuse_download(
            video_id, known, layout, shard, source=source, names=names, retry=retry
        )
        if media is not None:
            return media
    # A folder decides itself whether its record still holds: it looks at the files first.
    if source.folder is not None:
        return fetch_from_folder(video_id, names, source, record_path, known, retry=retry)
    asked_ids = alternative_ids or (video_id,)
    site_fetch = _SiteFetch(video_id, asked_ids, source, rate_limiter, record_path, known)
    return site_fetch.run(lambda suffix: layout.media_file(video_id, shard, suffix))


def _raise_recorded_failure(video_id: str, known: MediaRecord, source: SourceSettings) -> None:
    """Raise the final failure that this site gave earlier. A folder looks for new files first."""
    is_same_site = source.folder is None and known.source_name == source.name
    if is_same_site and is_final(known.status):
        raise VideoError(video_id, known.status)


def _reuse_download(
    video_id: str,
    known: MediaRecord,
    layout: Layout,
    shard: int,
    *,
    source: SourceSettings,
    names: tuple[str, ...],
    retry: bool,
) -> Media | None:
    """The file that a site gave earlier; None if there is none, or it must be asked for again.

    It also serves a run with a folder, unless a retry finds a file there.
    """
    if known.source_name == FOLDER:
        return None
    if retry and source.folder is not None and video_folder(source.folder).candidates(names):
        return None
    path = layout.media_file(video_id, shard, known.suffix)
    if not _is_intact(video_id, known, path, retry=retry):
        return None
    return Media(path, known.sha256, known.size_bytes, known.facts, was_hashed_earlier=True)


def _is_intact(video_id: str, known: MediaRecord, path: Path, *, retry: bool) -> bool:
    """Whether the recorded file is here.

    Without `retry` only its size is compared, and a difference raises VideoError `altered`. With
    it all bytes are, and a difference means that the file must be asked for again.
    """
    if known.status.state is not State.DONE or not path.is_file():
        return False
    size_bytes = path.stat().st_size
    if retry:
        return (size_bytes, digest(path)) == (known.size_bytes, known.sha256)
    if size_bytes != known.size_bytes:
        detail = (
            f"{path.name} has {size_bytes:,} bytes, and {known.size_bytes:,} were recorded "
            "when it was fetched"
        )
        raise VideoError(video_id, failure_status("altered", detail))
    return True


class _SiteFetch:
    """One call of `fetch` that asks a site."""

    def __init__(
        self,
        video_id: str,
        asked_ids: tuple[str, ...],
        source: SourceSettings,
        rate_limiter: RateLimiter | None,
        record_path: Path,
        known: MediaRecord | None,
    ) -> None:
        self._video_id = video_id
        self._asked_ids = asked_ids
        self._source = source
        self._rate_limiter = rate_limiter
        self._record_path = record_path
        self._known = known if known and known.source_name == source.name else None
        """The record of an earlier call that asked the same site."""
        self._partial = record_path.with_suffix(".partial")

    def run(self, path_for: Callable[[str], Path]) -> Media:
        """Download, keep and record. `path_for` maps a suffix to the file's final place."""
        try:
            downloaded = self._download()
            media = _keep(downloaded, path_for(downloaded.suffix))
        except VideoError as error:
            raise VideoError(self._video_id, self._record_failure(error.status)) from error
        except OSError as error:
            raise disk_fault(error, self._partial) from error
        record = MediaRecord(
            self._source.name,
            DONE,
            media.sha256,
            media.size_bytes,
            media.path.suffix,
            media.facts,
        )
        # The record comes after the file: a kill in between leaves a file that is fetched again.
        record.write(self._record_path)
        _remove_partial(self._partial)
        return media

    def _download(self) -> Downloaded:
        """The file of the first id that the site has."""
        *others, last = self._asked_ids
        for asked_id in others:
            try:
                return self._download_as(asked_id)
            except VideoError as error:
                if error.status.state is not State.UNAVAILABLE:
                    raise
                # What came of this id is not a part of the next one's file.
                _remove_partial(self._partial)
        return self._download_as(last)

    def _download_as(self, asked_id: str) -> Downloaded:
        # Here, so that a folder of videos needs no yt-dlp.
        from pipeline.download.ytdlp import download

        self._partial.mkdir(parents=True, exist_ok=True)
        try:
            downloaded = download(asked_id, self._partial, self._source, self._rate_limiter)
        except VideoError as error:
            status = error.status
            if asked_id != self._video_id:
                status = failure_status(status.reason, f"asked for {asked_id}: {status.detail}")
            raise VideoError(self._video_id, status) from error
        if asked_id == self._video_id:
            return downloaded
        return replace(downloaded, facts={**downloaded.facts, "asked_as": asked_id})

    def _record_failure(self, status: VideoStatus) -> VideoStatus:
        """Record a failure; the status that was recorded, which may be a final one."""
        record = self._failure_record(status)
        record.write(self._record_path)
        # A part is kept only for an attempt that will follow.
        has_part = (self._partial / "media.part").exists()
        if is_final(record.status) or not has_part:
            _remove_partial(self._partial)
        return record.status

    def _failure_record(self, status: VideoStatus) -> MediaRecord:
        if status.reason == "text_answer":
            successes = self._rate_limiter.successes if self._rate_limiter else None
            return record_text_answer(
                status, self._record_path.parent, self._known, self._source.name, successes
            )
        # Another failure between two text answers does not reset their count.
        facts: Mapping[str, JSON] = {}
        if self._known and self._known.status.state is State.PENDING and not is_final(status):
            facts = self._known.facts
        return MediaRecord(self._source.name, status, facts=facts)


def _keep(downloaded: Downloaded, path: Path) -> Media:
    """Move a downloaded file to its final place."""
    sha256 = digest(downloaded.path)
    size_bytes = downloaded.path.stat().st_size
    temporary = downloaded.path.rename(temporary_beside(path))
    check_held()
    # A file that lies there has no valid record, so nothing uses it.
    path.unlink(missing_ok=True)
    publish_file(temporary, path)
    facts = dict(downloaded.facts)
    if downloaded.damage:
        facts["damage"] = downloaded.damage
    return Media(path, sha256, size_bytes, facts)


def _remove_partial(partial: Path) -> None:
    check_held()
    # A leftover is harmless and the next call removes it; an error here would hide the cause of a
    # failed download.
    shutil.rmtree(partial, ignore_errors=True)
