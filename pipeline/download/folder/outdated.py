"""Verdicts that are about other bytes than the source has now: another file in the folder, or
another kind of source.

Looks and decides nothing else. A folder is listed once, and only records of videos that are in
question are read, so that a run which finds nothing new asks little of the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.download.access.source import FOLDER, SourceSettings
from pipeline.download.folder.from_folder import is_unseen
from pipeline.download.folder.video_folder import NOT_IN_FOLDER, file_names, video_folder
from pipeline.media.media_file import read_record
from storage.base.paths import Layout
from storage.base.video_status import State, VideoStatus

_ASKED_BY_A_PERSON = ("requested", "altered")
"""A file that differs from the one that other features were made of is a person's decision: --retry
altered.
"""
_ABOUT_A_FILE = (State.REJECTED, State.QUARANTINED)


def outdated_ids(
    statuses: Mapping[str, VideoStatus],
    *,
    layout: Layout,
    shard: int,
    source: SourceSettings,
    alternative_ids: Mapping[str, tuple[str, ...]],
) -> Iterator[str]:
    """The ids among these failures of a shard that the source may answer in another way now.

    With a folder: it has a file for the video that the verdict is not about. With a site: the
    verdict is about a folder. Videos that are done stay done. Raises SystemicFault if the folder
    cannot be read.
    """
    folder = None if source.folder is None else video_folder(source.folder)
    for video_id, status in statuses.items():
        if status.state is State.DONE or status.reason in _ASKED_BY_A_PERSON:
            continue
        if folder is None:
            if _is_of_a_folder(video_id, status, layout, shard):
                yield video_id
            continue
        found = folder.candidates(file_names(video_id, alternative_ids.get(video_id, ())))
        if not found:
            continue
        known = read_record(layout.media_record(video_id, shard))
        if known is None or known.source_name != FOLDER or is_unseen(found, known):
            yield video_id


def _is_of_a_folder(video_id: str, status: VideoStatus, layout: Layout, shard: int) -> bool:
    if status.reason == "not_found":
        return status.detail.startswith(NOT_IN_FOLDER)
    if status.state not in _ABOUT_A_FILE:
        return False
    known = read_record(layout.media_record(video_id, shard))
    return known is not None and known.source_name == FOLDER
