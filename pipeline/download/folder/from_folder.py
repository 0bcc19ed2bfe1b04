"""One video's file out of a folder, used where it lies; and a record of which files were seen.

A verdict stands while the folder has no other file for the video than those it was about: a file is
another where its size or time of change is. Knows no site.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.download.access.source import SourceSettings
from pipeline.download.folder.video_folder import Candidate, is_new, printable, video_folder
from pipeline.media.media_file import Media, MediaRecord, accepted_suffix, digest, is_final
from storage.base.errors import SystemicFault, VideoError
from storage.base.records import JSON
from storage.base.video_status import DONE, State, failure_status


def fetch_from_folder(
    video_id: str,
    names: Sequence[str],
    source: SourceSettings,
    record_path: Path,
    known: MediaRecord | None,
    *,
    retry: bool,
) -> Media:
    """The first file of the folder that may be the video's and is a video by its first bytes.

    What is `known` from an earlier run holds if it is about the same files, unless `retry`. Raises
    VideoError, after recording it: `altered`, which leaves the record as it is, where the file that
    was read before is there no longer, but another one. Raises SystemicFault if the folder cannot
    be read.
    """
    if source.folder is None:
        raise ValueError("the source is not a folder")
    listed = video_folder(source.folder)
    found: Sequence[Candidate] = listed.candidates(names)
    mine = known if known is not None and known.source_name == source.name else None
    if mine is not None:
        kept = _still_valid(video_id, found, mine, retry=retry)
        if kept is not None:
            return kept
        found = _in_order_of_trying(video_id, found, mine, retry=retry)
    try:
        if not found:
            raise VideoError(video_id, failure_status("not_found", listed.lacks(names)))
        taken = _acceptable(video_id, found)
        media = _read(video_id, taken, found, mine)
    except VideoError as error:
        MediaRecord(source.name, error.status, seen=tuple(one.seen for one in found)).write(
            record_path
        )
        raise
    except OSError as error:
        raise SystemicFault(
            f"a file of the folder {source.folder} cannot be read: {error.strerror}"
        ) from error
    seen = (taken.seen, *(one.seen for one in found if one is not taken))
    MediaRecord(
        source.name, DONE, media.sha256, media.size_bytes, media.path.suffix, media.facts, seen
    ).write(record_path)
    return media


def _still_valid(
    video_id: str, found: Sequence[Candidate], known: MediaRecord, *, retry: bool
) -> Media | None:
    """The recorded file, if it is still the same. Raises VideoError where the recorded failure
    still holds.
    """
    unseen = is_unseen(found, known)
    if is_final(known.status) and not retry and not unseen:
        raise VideoError(video_id, known.status)
    same = _recorded(found, known)
    if same is None or (retry and (unseen or digest(same.path) != known.sha256)):
        return None
    return Media(same.path, known.sha256, known.size_bytes, known.facts, is_kept=True)


def _in_order_of_trying(
    video_id: str, found: Sequence[Candidate], known: MediaRecord, *, retry: bool
) -> Sequence[Candidate]:
    if retry:
        # The file that was taken before is tried last: somebody put another there because of it.
        return sorted(found, key=lambda one: not is_new([one], known.seen or ()))
    if known.status.state is State.DONE and found:
        return _of_the_same_bytes(video_id, found, known)
    return found


def is_unseen(found: Sequence[Candidate], known: MediaRecord) -> bool:
    """Whether the folder has a file that the record is not about.

    A record of an older release does not say which files it is about: a failure counts as one about
    no file, and a file that was taken is known by its size and sha256.
    """
    if known.seen is not None:
        return is_new(found, known.seen)
    if known.status.state is not State.DONE:
        return bool(found)
    return not any(
        one.seen.size_bytes == known.size_bytes and digest(one.path) == known.sha256
        for one in found
    )


def _recorded(found: Sequence[Candidate], known: MediaRecord) -> Candidate | None:
    """The file that was taken before, if it is there unchanged."""
    if known.status.state is not State.DONE or not known.seen:
        return None
    taken = known.seen[0]
    return next((one for one in found if not is_new([one], [taken])), None)


def _of_the_same_bytes(
    video_id: str, found: Sequence[Candidate], known: MediaRecord
) -> list[Candidate]:
    """All files, the one with the recorded bytes first. Raises VideoError `altered` where none has
    them: features of other bytes do not come beside those that were made already, unless a person
    asks for a retry.
    """
    for one in found:
        if one.seen.size_bytes == known.size_bytes and digest(one.path) == known.sha256:
            return [one, *(other for other in found if other is not one)]
    told = f"{found[0].path.name} has {found[0].seen.size_bytes:,} bytes, and is not the file that was read before"
    raise VideoError(
        video_id, failure_status("altered", f"{printable(told)} ({known.size_bytes:,} bytes)")
    )


def _acceptable(video_id: str, found: Sequence[Candidate]) -> Candidate:
    """The first that is a video by its first bytes; if none is, raises what is wrong with the
    first.
    """
    wrong: list[VideoError] = []
    for one in found:
        try:
            accepted_suffix(one.path, video_id)
        except VideoError as error:
            wrong.append(error)
        else:
            return one
    raise wrong[0]


def _read(
    video_id: str, taken: Candidate, found: Sequence[Candidate], known: MediaRecord | None
) -> Media:
    sha256 = digest(taken.path)
    status = taken.path.stat()
    if (status.st_size, status.st_mtime_ns) != (taken.seen.size_bytes, taken.seen.mtime_ns):
        raise VideoError(
            video_id,
            failure_status(
                "network", "the file changed while it was read: is it still being copied?"
            ),
        )
    facts: dict[str, JSON] = {}
    if len(found) > 1:
        facts["taken"] = taken.seen.name
        facts["passed_over"] = [*sorted(one.seen.name for one in found if one is not taken)]
    if known is not None and known.status.state is State.DONE:
        if known.sha256 == sha256:
            return Media(taken.path, sha256, taken.seen.size_bytes, known.facts)
        facts["replaces_sha256"] = known.sha256
    return Media(taken.path, sha256, taken.seen.size_bytes, facts)
