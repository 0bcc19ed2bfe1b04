"""Finished videos of one shard that wait for their part, so that a kill costs at most the video in hand.

Each is a part with one video, and a record that is written last and vouches for it. What is half there, or damaged, is
worth nothing and is thrown away: that video is simply done again. Refuses to know shards and sidecars.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from storage.account import Entry, Fields
from storage.atomic import publish, remove, size_and_sha256, sweep
from storage.errors import IntegrityError, LookupFailed
from storage.faults import disk_fault
from storage.layout import video_stem
from storage.reader import PartHeader, PartReader
from storage.records import JSON, FeatureTrack
from storage.sealed import seal, unseal
from storage.shard import part_image

_HEADER = PartHeader("spool", 0, "spool", "")
"""A spooled video is no part of a store yet, and says so."""


def put(folder: Path, video_id: str, entry: Entry, track: FeatureTrack | None = None) -> None:
    """Keep what became of a video; `track` exactly if the entry says done. Replaces what was kept of it before."""
    if entry.is_done != (track is not None) or (track is not None and track.video_id != video_id):
        raise ValueError(f"{video_id}: {entry.verdict} with {track}; a done video brings its own track, others none")
    if track is not None:
        rows = _rows_file(folder, video_id)
        publish(rows, part_image(rows, _HEADER, [track], {}), replace=True)
    size_bytes, sha256 = size_and_sha256(_rows_file(folder, video_id)) if track is not None else (0, "")
    vouched: dict[str, JSON] = {"rows_bytes": size_bytes, "rows_sha256": sha256}
    record: dict[str, JSON] = {"video_id": video_id, "entry": entry.to_json(), **vouched}
    publish(_record_file(folder, video_id), seal(record), replace=True)


def finished(folder: Path) -> dict[str, Entry]:
    """What is kept and whole, by ascending id; everything else in the folder that is dead or damaged is removed."""
    sweep(folder)
    whole: dict[str, Entry] = {}
    used: set[Path] = set()
    for path in sorted(folder.glob("v_*.json")):
        try:
            video_id, entry = _read(path)
        except IntegrityError:
            continue
        whole[video_id] = entry
        used |= {path, _rows_file(folder, video_id)}
    for path in sorted(folder.glob("v_*")):
        if path not in used:
            remove(path)
    return dict(sorted(whole.items()))


def load(folder: Path, video_id: str) -> FeatureTrack:
    """The rows of a video that `finished` named as done. Raises LookupFailed; IntegrityError if they are damaged."""
    path = _rows_file(folder, video_id)
    if not path.exists():
        raise LookupFailed(f"{folder} keeps no rows of {video_id}")
    return PartReader(path).track(video_id)


def clear(folder: Path) -> None:
    """Forget everything: the sidecar has it now."""
    try:
        if folder.is_dir():
            shutil.rmtree(folder)
    except OSError as error:
        raise disk_fault(error, folder) from error


def _read(path: Path) -> tuple[str, Entry]:
    fields = Fields(path, unseal(path, path.read_bytes()), "a spooled video")
    video_id, entry = fields.take("video_id", str), Entry.from_json(path, fields.take("entry", dict))
    expected = (fields.take("rows_bytes", int), fields.take("rows_sha256", str))
    fields.end()
    if path != _record_file(path.parent, video_id):
        raise IntegrityError(path, f"is the record of {video_id}; it was renamed")
    rows = _rows_file(path.parent, video_id)
    if entry.is_done and (not rows.exists() or size_and_sha256(rows) != expected):
        raise IntegrityError(rows, "is not what its record says")
    return video_id, entry


def _rows_file(folder: Path, video_id: str) -> Path:
    return folder / f"{video_stem(video_id)}.h5"


def _record_file(folder: Path, video_id: str) -> Path:
    return folder / f"{video_stem(video_id)}.json"
