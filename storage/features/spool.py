"""The spool: finished videos of one shard that wait for their part.

A kill costs at most the videos that were being processed. The spool is one append log; each record
holds the status of a video, and its rows as they are in memory. An incomplete or damaged record is
passed over, and that video is processed again.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import IntegrityError, LookupFailed
from storage.base.records import CONTAINER_START, JSON, Array, FeatureTrack, Ragged
from storage.features.manifest import JsonFields, ManifestEntry
from storage.features.part_writer import check_track
from storage.files import append_log
from storage.files.append_log import LogRecord
from storage.files.atomic_write import publish
from storage.files.file_lock import check_held
from storage.files.os_errors import disk_fault

_SPANS = "spans"
_NUMBER_KINDS = "iuf"


def put(
    folder: Path, video_id: str, entry: ManifestEntry, track: FeatureTrack | None = None
) -> None:
    """Add the status of a video, and its `track` if it is done. Replaces its earlier record.

    Raises:
        ValueError: a done video comes without its own track, or another one with a track.
    """
    expected_id = video_id if entry.is_done else None
    given_id = None if track is None else track.video_id
    if given_id != expected_id:
        raise ValueError(
            f"{video_id}: {entry.status} with {track}; a done video needs its own track, and a "
            "video that is not done must have none"
        )
    arrays: dict[str, Array] = {}
    if track is not None:
        check_track(track)
        arrays = dict(_plain_arrays(track))
    head: dict[str, JSON] = {
        "video_id": video_id,
        "entry": entry.to_json(),
        "arrays": [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()],
        # A spool of an older release would mix two origins in one part.
        "time_origin": CONTAINER_START,
    }
    # Empty arrays have no bytes to write.
    body = [_bytes_of(array) for array in arrays.values() if array.size]
    append_log.append(_file(folder), json.dumps(head, allow_nan=False).encode("ascii"), body)


def _bytes_of(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


class SpooledVideos:
    """The complete records of a spool at one moment. It reads only, so any process may ask."""

    def __init__(self, folder: Path) -> None:
        self._path = _file(folder)
        self._records: dict[str, LogRecord] = {}
        self._arrays: dict[str, list[Any]] = {}
        entries: dict[str, ManifestEntry] = {}
        for record in append_log.read_records(self._path):
            try:
                video_id, entry, arrays = _parse_head(self._path, record.head)
            except (IntegrityError, ValueError):
                continue  # complete, but of another release
            entries[video_id] = entry
            self._arrays[video_id] = arrays
            self._records[video_id] = record
        self.entries: Mapping[str, ManifestEntry] = dict(sorted(entries.items()))
        """By ascending id. Of a video that was put twice, the last entry."""

    def track(self, video_id: str) -> FeatureTrack:
        """The rows of a video that is done.

        Raises:
            LookupFailed: the video is not here, or not done.
            IntegrityError: its rows were damaged since.
        """
        if video_id not in self.entries or not self.entries[video_id].is_done:
            raise LookupFailed(f"{self._path} keeps no rows of {video_id}")
        content = append_log.read_body(self._path, self._records[video_id])
        try:
            arrays = dict(_split_arrays(content, self._arrays[video_id]))
            spans = arrays.pop(_SPANS)
            return FeatureTrack(video_id, spans, _with_ragged(arrays))
        except (ValueError, TypeError, KeyError) as error:
            raise IntegrityError(
                self._path, f"the rows of {video_id} are not a feature track: {error}"
            ) from error


def needs_rewrite(folder: Path, is_dropped: Callable[[str], bool]) -> bool:
    """Whether `drop` would change the spool: it keeps such a video, or bytes of unknown videos."""
    path = _file(folder)
    size_bytes = path.stat().st_size if path.is_file() else 0
    return size_bytes != sum(record.size_bytes for record in _kept_records(path, is_dropped))


def drop(folder: Path, is_dropped: Callable[[str], bool]) -> None:
    """Rewrite the spool without these videos, and without incomplete and unreadable records.

    Those may hold rows of any video, and no reader uses them. The caller holds the shard's lease.
    """
    path = _file(folder)
    kept = list(_kept_records(path, is_dropped))
    if kept:
        publish(path, append_log.copy_records(path, kept), replace=True)
    else:
        clear(folder)


def _kept_records(path: Path, is_dropped: Callable[[str], bool]) -> Iterator[LogRecord]:
    for record in append_log.read_records(path):
        try:
            video_id, _, _ = _parse_head(path, record.head)
        except (IntegrityError, ValueError):
            continue
        if not is_dropped(video_id):
            yield record


def clear(folder: Path) -> None:
    """Remove the spool, once the manifest has its videos."""
    check_held()  # after a takeover it is the other process's spool
    try:
        if folder.is_dir():
            shutil.rmtree(folder)
    except OSError as error:
        raise disk_fault(error, folder) from error


def _file(folder: Path) -> Path:
    return folder / "finished.journal"


def _parse_head(path: Path, head: bytes) -> tuple[str, ManifestEntry, list[Any]]:
    fields = JsonFields(path, json.loads(head), "a spooled video")
    video_id = fields.take("video_id", str)
    entry = ManifestEntry.from_json(path, fields.take("entry", dict))
    arrays = fields.take("arrays", list)
    if fields.take("time_origin", str) != CONTAINER_START:
        raise ValueError("its times count from another origin")
    fields.check_no_rest()
    return video_id, entry, arrays


def _plain_arrays(track: FeatureTrack) -> Iterator[tuple[str, Array]]:
    yield _SPANS, track.spans
    for name, array in track.arrays.items():
        if isinstance(array, Ragged):
            yield f"{name}/values", array.values
            yield f"{name}/lengths", array.lengths
        else:
            yield f"{name}/", array


def _split_arrays(content: NDArray[np.uint8], arrays: list[Any]) -> Iterator[tuple[str, Array]]:
    """The arrays of a record's body, whose names, types and shapes its head has."""
    start = 0
    for name, type_name, shape in arrays:
        dtype = np.dtype(type_name)
        size_bytes = math.prod(shape) * dtype.itemsize
        if dtype.kind not in _NUMBER_KINDS:
            raise ValueError(f"{name} is {dtype}")
        # A copy is aligned, and does not keep the other arrays in memory.
        yield name, content[start : start + size_bytes].copy().view(dtype).reshape(shape)
        start += size_bytes


def _with_ragged(arrays: Mapping[str, Array]) -> dict[str, Array | Ragged]:
    found: dict[str, Array | Ragged] = {}
    for full_name, array in arrays.items():
        name, _, role = full_name.partition("/")
        if role == "values":
            found[name] = Ragged(array, arrays[f"{name}/lengths"])
        elif role == "":
            found[name] = array
    return found
