"""A part: an immutable HDF5 file with the rows of some videos of one shard. How it is written.

Format, version 2. Every dataset is contiguous and has no filter; there is no group per video.

    attributes of /   format "video-highlights part", format_version 2, catalog, shard, variant,
    fingerprint,
                      time_origin "container_start": second 0 of every video is its container's own
                      start, as players count; or "stream_clock", see below
    ids      (V,)     fixed-length bytes, ascending offsets  (V+1,)   int64: video i has the rows
    [offsets[i], offsets[i+1]) digests  (V,)     64 bytes: FeatureTrack.digest() of each video, in
    hex spans    (R, 2)   float64: [start, end) of each row in seconds records  (B,)     uint8: JSON
    text with its own sha256, what the shard's sidecar keeps about these videos arrays/NAME
    (R, ...): one item per row arrays/NAME/values (N, ...) and arrays/NAME/offsets (R+1,) int64: row
    r has the items [offsets[r], offsets[r+1])

Version 1 has no time_origin: its seconds are those of each stream's own clock, which need not begin
at 0. Such rows keep that origin when they are packed anew, and one catalog never holds both.

Refuses to know what the records say, and which part a video belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import IntegrityError
from storage.base.records import JSON, VIDEO_ID, Array, FeatureTrack, Ragged
from storage.features.part_reader import (
    ARRAY_NAME,
    FORMAT,
    FORMAT_VERSION,
    PartHeader,
    PartReader,
    PartTable,
    bytes_fetcher,
)
from storage.files.atomic_write import publish
from storage.files.checksummed_json import seal
from storage.files.hdf5 import ArrayToWrite, file_image, read_image_layout

__all__ = ["PartHeader", "PartReader", "check_track", "part_image", "write_part"]

_KINDS = "iuf"


def write_part(
    path: Path, header: PartHeader, tracks: Sequence[FeatureTrack], records: Mapping[str, JSON]
) -> None:
    """Publish `tracks` as an immutable part; equal input, equal bytes. Never overwrites a file with
    other content.
    """
    publish(path, part_image(path, header, tracks, records), replace=False)


def part_image(
    path: Path, header: PartHeader, tracks: Sequence[FeatureTrack], records: Mapping[str, JSON]
) -> bytes:
    """The bytes of a part, read back and compared before they are returned; `path` is what errors
    call it.

    `tracks` come in ascending order of id, at least one, each with at least one row, all with the
    same arrays; anything else is a ValueError. `records` is any JSON object.
    """
    _check(tracks)
    digests = [track.digest() for track in tracks]
    drafts = _tables(tracks, digests, records) | dict(_arrays(tracks))
    content = file_image(
        {"format": FORMAT, "format_version": FORMAT_VERSION, **vars(header)}, drafts
    )
    table = PartTable(path, read_image_layout(path, content), bytes_fetcher(content))
    for track, digest in zip(tracks, digests, strict=True):
        if table.track(track.video_id).digest() != digest:
            raise IntegrityError(
                path, f"the image read back differs from {track.video_id}; nothing was published"
            )
    return content


def _check(tracks: Sequence[FeatureTrack]) -> None:
    if not tracks:
        raise ValueError("a part holds at least one video, got none")
    for earlier, later in pairwise(tracks):
        if earlier.video_id >= later.video_id:
            raise ValueError(
                f"videos of a part come in ascending order: {later.video_id} follows {earlier.video_id}"
            )
    first = _form(tracks[0])
    for track in tracks:
        check_track(track)
        if _form(track) != first:
            raise ValueError(
                f"{track.video_id} has the arrays {_form(track)}, {tracks[0].video_id} has {first}"
            )


def check_track(track: FeatureTrack) -> None:
    """Raise ValueError for a track that no part can hold."""
    if not VIDEO_ID.fullmatch(track.video_id):
        raise ValueError(f"a video id is 1 to 64 of A-Z a-z 0-9 _ -, got {track.video_id!r}")
    if track.rows == 0:
        raise ValueError(
            f"{track.video_id} has no rows; a video without rows gets a verdict, not a place in a part"
        )
    for name, (dtype, _, _) in _form(track).items():
        if not ARRAY_NAME.fullmatch(name):
            raise ValueError(f"an array's name is 1 to 64 of A-Z a-z 0-9 _, got {name!r}")
        if np.dtype(dtype).kind not in _KINDS:
            raise ValueError(
                f"{track.video_id}: {name} is {np.dtype(dtype)}; parts hold integers and floats"
            )


def _form(track: FeatureTrack) -> dict[str, tuple[str, tuple[int, ...], bool]]:
    """dtype, item shape and raggedness of each array: what all tracks of a part share."""
    values = {
        name: (_values(array), isinstance(array, Ragged))
        for name, array in sorted(track.arrays.items())
    }
    return {
        name: (array.dtype.str, array.shape[1:], ragged) for name, (array, ragged) in values.items()
    }


def _values(array: Array | Ragged) -> Array:
    return array.values if isinstance(array, Ragged) else array


def _tables(
    tracks: Sequence[FeatureTrack], digests: Sequence[str], records: Mapping[str, JSON]
) -> dict[str, ArrayToWrite]:
    rows = sum(track.rows for track in tracks)
    return {
        "ids": _whole(np.array([track.video_id.encode() for track in tracks])),
        "offsets": _whole(_ends(np.array([track.rows for track in tracks]))),
        "digests": _whole(np.array([digest.encode() for digest in digests])),
        "records": _whole(np.frombuffer(seal(records), np.uint8)),
        "spans": ArrayToWrite(np.float64, (rows, 2), (track.spans for track in tracks)),
    }


def _arrays(tracks: Sequence[FeatureTrack]) -> Iterator[tuple[str, ArrayToWrite]]:
    for name, (dtype, item_shape, ragged) in _form(tracks[0]).items():
        columns = [track.arrays[name] for track in tracks]
        count = sum(len(_values(column)) for column in columns)
        yield (
            f"arrays/{name}/values" if ragged else f"arrays/{name}",
            ArrayToWrite(dtype, (count, *item_shape), map(_values, columns)),
        )
        if ragged:
            lengths = [column.lengths for column in columns if isinstance(column, Ragged)]
            yield f"arrays/{name}/offsets", _whole(_ends(np.concatenate(lengths)))


def _whole(array: Array) -> ArrayToWrite:
    return ArrayToWrite(array.dtype, array.shape, [array])


def _ends(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
