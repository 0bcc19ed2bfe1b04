"""Finished videos of one shard that wait for their part, so that a kill costs at most the video in
hand.

Each is a record of one journal: what became of the video, and its rows as they are in memory. What
is half there, or damaged, is worth nothing and is passed over: that video is simply done again.
Refuses to know shards and sidecars.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
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
from storage.files.file_lock import check_held
from storage.files.os_errors import disk_fault

_SPANS = "spans"
_KINDS = "iuf"


def put(
    folder: Path, video_id: str, entry: ManifestEntry, track: FeatureTrack | None = None
) -> None:
    """Keep what became of a video; `track` exactly if the entry says done. Counts instead of what
    was kept before.
    """
    if entry.is_done != (track is not None) or (track is not None and track.video_id != video_id):
        raise ValueError(
            f"{video_id}: {entry.status} with {track}; a done video brings its own track, others none"
        )
    if track is not None:
        check_track(track)
    arrays = dict(_plain_arrays(track)) if track is not None else {}
    described: list[JSON] = [
        [name, array.dtype.str, list(array.shape)] for name, array in arrays.items()
    ]
    head: dict[str, JSON] = {"video_id": video_id, "entry": entry.to_json(), "arrays": described}
    head["time_origin"] = CONTAINER_START
    body = [
        np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        for array in arrays.values()
        if array.size
    ]
    append_log.append(_file(folder), json.dumps(head, allow_nan=False).encode("ascii"), body)


class SpooledVideos:
    """What is kept and whole at the moment of asking. Changes nothing, so anybody may ask."""

    def __init__(self, folder: Path) -> None:
        self._path = _file(folder)
        self._records: dict[str, LogRecord] = {}
        self._arrays: dict[str, list[Any]] = {}
        entries: dict[str, ManifestEntry] = {}
        for record in append_log.read_records(self._path):
            try:
                video_id, entry, arrays = _told(self._path, record.head)
            except (IntegrityError, ValueError):
                continue  # whole, but of another release
            entries[video_id], self._arrays[video_id], self._records[video_id] = (
                entry,
                arrays,
                record,
            )
        self.entries: Mapping[str, ManifestEntry] = dict(sorted(entries.items()))
        """By ascending id. Of a video that was put twice, the last."""

    def track(self, video_id: str) -> FeatureTrack:
        """The rows of a video that is done. Raises LookupFailed; IntegrityError if they were
        damaged meanwhile.
        """
        if video_id not in self.entries or not self.entries[video_id].is_done:
            raise LookupFailed(f"{self._path} keeps no rows of {video_id}")
        content = append_log.read_body(self._path, self._records[video_id])
        try:
            arrays = dict(_taken_apart(content, self._arrays[video_id]))
            spans = arrays.pop(_SPANS)
            return FeatureTrack(video_id, spans, _with_ragged(arrays))
        except (ValueError, TypeError, KeyError) as error:
            raise IntegrityError(
                self._path, f"the rows of {video_id} are none we wrote: {error}"
            ) from error


def clear(folder: Path) -> None:
    """Forget everything: the sidecar has it now."""
    check_held()  # it would be our follower's spool
    try:
        if folder.is_dir():
            shutil.rmtree(folder)
    except OSError as error:
        raise disk_fault(error, folder) from error


def _file(folder: Path) -> Path:
    return folder / "finished.journal"


def _told(path: Path, head: bytes) -> tuple[str, ManifestEntry, list[Any]]:
    fields = JsonFields(path, json.loads(head), "a spooled video")
    told = (
        fields.take("video_id", str),
        ManifestEntry.from_json(path, fields.take("entry", dict)),
        fields.take("arrays", list),
    )
    if fields.take("time_origin", str) != CONTAINER_START:
        raise ValueError("its times count from another origin")
    fields.check_no_rest()
    return told


def _plain_arrays(track: FeatureTrack) -> Iterator[tuple[str, Array]]:
    yield _SPANS, track.spans
    for name, array in track.arrays.items():
        if isinstance(array, Ragged):
            yield f"{name}/values", array.values
            yield f"{name}/lengths", array.lengths
        else:
            yield f"{name}/", array


def _taken_apart(content: NDArray[np.uint8], described: list[Any]) -> Iterator[tuple[str, Array]]:
    start = 0
    for name, kind, shape in described:
        dtype = np.dtype(kind)
        size_bytes = math.prod(shape) * dtype.itemsize
        if dtype.kind not in _KINDS:
            raise ValueError(f"{name} is {dtype}")
        # A copy is aligned, and lets go of the other arrays.
        yield name, content[start : start + size_bytes].copy().view(dtype).reshape(shape)
        start += size_bytes


def _with_ragged(arrays: Mapping[str, Array]) -> dict[str, Array | Ragged]:
    found: dict[str, Array | Ragged] = {}
    for full_name, array in arrays.items():
        name, _, role = full_name.partition("/")
        if role == "values":
            found[name] = Ragged(array, arrays[f"{name}/lengths"])
        elif not role:
            found[name] = array
    return found
