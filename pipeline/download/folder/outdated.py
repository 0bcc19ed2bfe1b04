"""Finds recorded failures that are about other bytes than the source has now.

The folder may have another file since then, or the source may be of another kind.

A folder is listed once, and only records of videos in question are read, so that a run which finds
nothing new costs little disk access.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.download.access.source import FOLDER, SourceSettings
from pipeline.download.folder.from_folder import is_unseen
from pipeline.download.folder.video_folder import NOT_IN_FOLDER, Candidate, file_names, video_folder
from pipeline.media.media_file import read_record
from storage.base.paths import Layout
from storage.base.video_status import State, VideoStatus

_DECIDED_BY_A_PERSON = ("requested", "altered")
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
    """The ids among these failures of a shard that the source may answer differently now.

    With a folder: it has a file for the video that the failure is not about. With a site: the
    failure is about a folder. Videos that are done stay done. Raises SystemicFault if the folder
    cannot be read.
    """
    folder = None if source.folder is None else video_folder(source.folder)
    for video_id, status in statuses.items():
        if status.state is State.DONE or status.reason in _DECIDED_BY_A_PERSON:
            continue
        record_path = layout.media_record(video_id, shard)
        if folder is None:
            is_outdated = _is_about_a_folder(status, record_path)
        else:
            names = file_names(video_id, alternative_ids.get(video_id, ()))
            is_outdated = _has_unseen_file(folder.candidates(names), record_path)
        if is_outdated:
            yield video_id


def _has_unseen_file(files: Sequence[Candidate], record_path: Path) -> bool:
    if not files:
        return False
    known = read_record(record_path)
    if known is None or known.source_name != FOLDER:
        return True
    return is_unseen(files, known)


def _is_about_a_folder(status: VideoStatus, record_path: Path) -> bool:
    if status.reason == "not_found":
        return status.detail.startswith(NOT_IN_FOLDER)
    if status.state not in _ABOUT_A_FILE:
        return False
    known = read_record(record_path)
    return known is not None and known.source_name == FOLDER
