"""Finds one video's file in a folder, where it stays, and records which files were seen.

A recorded result holds as long as the folder has no other file for the video. A file counts as
another one if its size or its time of change differs.
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
    """The first file of the folder that may be the video's and starts like a video.

    Args:
        video_id: the video.
        names: what its file may be called, without suffix; see `file_names`.
        source: settings with a folder.
        record_path: where the result is recorded.
        known: the record of an earlier run. It holds if it is about the same files.
        retry: look again although it holds.

    Raises:
        VideoError: after recording it. `altered` is not recorded: the file that was read before is
            gone, and there is another one.
        SystemicFault: the folder, or a file in it, cannot be read.
    """
    if source.folder is None:
        raise ValueError("the source is not a folder")
    folder = video_folder(source.folder)
    files: Sequence[Candidate] = folder.candidates(names)
    earlier = known if known is not None and known.source_name == source.name else None
    if earlier is not None:
        media = _reuse(video_id, files, earlier, retry=retry)
        if media is not None:
            return media
        files = _in_order_of_trying(video_id, files, earlier, retry=retry)
    try:
        if not files:
            raise VideoError(video_id, failure_status("not_found", folder.describe_missing(names)))
        chosen = _first_video(video_id, files)
        media = _read(video_id, chosen, files, earlier)
    except VideoError as error:
        seen = tuple(file.seen for file in files)
        MediaRecord(source.name, error.status, seen=seen).write(record_path)
        raise
    except OSError as error:
        raise SystemicFault(
            f"a file of the folder {source.folder} cannot be read: {error.strerror}"
        ) from error
    _record(source, media, chosen, files).write(record_path)
    return media


def _record(
    source: SourceSettings, media: Media, chosen: Candidate, files: Sequence[Candidate]
) -> MediaRecord:
    # The chosen file comes first: `_chosen_before` reads it there.
    seen = (chosen.seen, *(file.seen for file in files if file is not chosen))
    return MediaRecord(
        source.name,
        DONE,
        media.sha256,
        media.size_bytes,
        media.path.suffix,
        media.facts,
        seen,
    )


def _reuse(
    video_id: str, files: Sequence[Candidate], earlier: MediaRecord, *, retry: bool
) -> Media | None:
    """The recorded file, if it is still the same. Raises a recorded failure that still holds."""
    has_new_file = is_unseen(files, earlier)
    may_hold = not retry and not has_new_file
    if may_hold and is_final(earlier.status):
        raise VideoError(video_id, earlier.status)
    file = _chosen_before(files, earlier)
    if file is None:
        return None
    if retry and (has_new_file or digest(file.path) != earlier.sha256):
        return None
    return Media(
        file.path, earlier.sha256, earlier.size_bytes, earlier.facts, was_hashed_earlier=True
    )


def _in_order_of_trying(
    video_id: str, files: Sequence[Candidate], earlier: MediaRecord, *, retry: bool
) -> Sequence[Candidate]:
    if retry:
        # New files first: a person put them there because of the file that was used before.
        seen = earlier.seen or ()
        return sorted(files, key=lambda file: not is_new([file], seen))
    if earlier.status.state is State.DONE and files:
        return _same_bytes_first(video_id, files, earlier)
    return files


def is_unseen(files: Sequence[Candidate], known: MediaRecord) -> bool:
    """Whether the folder has a file that the record is not about.

    A record of an older release does not list its files. A failure then counts as one about no
    file, and a file that was used is recognised by its size and sha256.
    """
    if known.seen is not None:
        return is_new(files, known.seen)
    is_done = known.status.state is State.DONE
    if not is_done:
        return bool(files)
    has_same_bytes = any(_has_bytes_of(file, known) for file in files)
    return not has_same_bytes


def _has_bytes_of(file: Candidate, known: MediaRecord) -> bool:
    # The size is compared first: it costs no reading.
    return file.seen.size_bytes == known.size_bytes and digest(file.path) == known.sha256


def _chosen_before(files: Sequence[Candidate], earlier: MediaRecord) -> Candidate | None:
    """The file that was used before, if it is there unchanged."""
    is_done = earlier.status.state is State.DONE
    if not is_done or not earlier.seen:
        return None
    chosen = earlier.seen[0]
    for file in files:
        is_same = not is_new([file], [chosen])
        if is_same:
            return file
    return None


def _same_bytes_first(
    video_id: str, files: Sequence[Candidate], earlier: MediaRecord
) -> list[Candidate]:
    """All files, the one with the recorded bytes first.

    Raises VideoError `altered` if none has them: features of other bytes must not come beside those
    that were made already, unless a person asks for a retry.
    """
    for file in files:
        if _has_bytes_of(file, earlier):
            return [file, *(other for other in files if other is not file)]
    first = files[0]
    detail = (
        f"{first.path.name} has {first.seen.size_bytes:,} bytes, and is not the file that was "
        f"read before ({earlier.size_bytes:,} bytes)"
    )
    raise VideoError(video_id, failure_status("altered", printable(detail)))


def _first_video(video_id: str, files: Sequence[Candidate]) -> Candidate:
    """The first file that starts like a video; if none does, raises the fault of the first."""
    faults: list[VideoError] = []
    for file in files:
        try:
            accepted_suffix(file.path, video_id)
        except VideoError as error:
            faults.append(error)
        else:
            return file
    raise faults[0]


def _read(
    video_id: str, chosen: Candidate, files: Sequence[Candidate], earlier: MediaRecord | None
) -> Media:
    # Size and time are compared after reading: a copy in progress grows meanwhile.
    sha256 = digest(chosen.path)
    status = chosen.path.stat()
    if (status.st_size, status.st_mtime_ns) != (chosen.seen.size_bytes, chosen.seen.mtime_ns):
        detail = "the file changed while it was read: is it still being copied?"
        raise VideoError(video_id, failure_status("network", detail))
    facts: dict[str, JSON] = {}
    if len(files) > 1:
        facts["taken"] = chosen.seen.name
        facts["passed_over"] = [*sorted(file.seen.name for file in files if file is not chosen)]
    if earlier is not None and earlier.status.state is State.DONE:
        if earlier.sha256 == sha256:
            # The same bytes under another name or time: everything that was said of them holds.
            return Media(chosen.path, sha256, chosen.seen.size_bytes, earlier.facts)
        facts["replaces_sha256"] = earlier.sha256
    return Media(chosen.path, sha256, chosen.seen.size_bytes, facts)
