"""Writes a part: an immutable HDF5 file with the rows of some videos of one shard.

Format, version 2. Every dataset is contiguous and has no filter; videos have no groups.

    attributes of /   format "video-highlights part", format_version 2, catalog, shard, variant,
                      fingerprint, time_origin
    ids      (V,)     fixed-length bytes, ascending
    offsets  (V+1,)   int64: video i has the rows [offsets[i], offsets[i+1])
    digests  (V,)     64 bytes: FeatureTrack.digest() of each video, in hex
    spans    (R, 2)   float64: [start, end) of each row in seconds
    records  (B,)     uint8: JSON text with its own sha256: these videos' manifest entries
    arrays/NAME           (R, ...): one item per row
    arrays/NAME/values    (N, ...): all items of a ragged array, and
    arrays/NAME/offsets   (R+1,) int64: row r has the items [offsets[r], offsets[r+1])

`time_origin` is "container_start": second 0 of every video is its container's start, as players
count; or "stream_clock": its stream's own clock, which need not begin at 0. Version 1 lacks the
attribute and means the stream's clock. Such rows keep that origin when they are packed anew, and
one catalog never holds both.
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

_NUMBER_KINDS = "iuf"
"""Kinds of numpy: signed and unsigned integers, floats."""


def write_part(
    path: Path, header: PartHeader, tracks: Sequence[FeatureTrack], records: Mapping[str, JSON]
) -> None:
    """Publish `tracks` as an immutable part; equal input, equal bytes.

    Raises:
        IntegrityError: the file exists with other content. It is never overwritten.
    """
    publish(path, part_image(path, header, tracks, records), replace=False)


def part_image(
    path: Path, header: PartHeader, tracks: Sequence[FeatureTrack], records: Mapping[str, JSON]
) -> bytes:
    """The bytes of a part, read back and compared; `path` is for error messages.

    `records` is any JSON object.

    Raises:
        ValueError: there are no tracks, they are not in ascending order of id, one has no rows, or
            not all have the same arrays.
        IntegrityError: what was read back differs.
    """
    _check_tracks(tracks)
    digests = [track.digest() for track in tracks]
    attributes = {"format": FORMAT, "format_version": FORMAT_VERSION, **vars(header)}
    datasets = _tables(tracks, digests, records) | dict(_arrays(tracks))
    content = file_image(attributes, datasets)
    # Read back before it is published: a fault of memory or of libhdf5 must not reach the disk.
    table = PartTable(path, read_image_layout(path, content), bytes_fetcher(content))
    for track, digest in zip(tracks, digests, strict=True):
        if table.track(track.video_id).digest() != digest:
            raise IntegrityError(
                path, f"the image read back differs from {track.video_id}; nothing was published"
            )
    return content


def _check_tracks(tracks: Sequence[FeatureTrack]) -> None:
    if not tracks:
        raise ValueError("a part holds at least one video, got none")
    # The order makes equal content equal bytes, and lets readers check the ids.
    for earlier, later in pairwise(tracks):
        if earlier.video_id >= later.video_id:
            raise ValueError(
                "videos of a part come in ascending order: "
                f"{later.video_id} follows {earlier.video_id}"
            )
    expected = _formats(tracks[0])
    for track in tracks:
        check_track(track)
        if _formats(track) != expected:
            raise ValueError(
                f"{track.video_id} has the arrays {_formats(track)}, "
                f"{tracks[0].video_id} has {expected}"
            )


def check_track(track: FeatureTrack) -> None:
    """Raise ValueError for a track that no part can hold."""
    if not VIDEO_ID.fullmatch(track.video_id):
        raise ValueError(f"a video id is 1 to 64 of A-Z a-z 0-9 _ -, got {track.video_id!r}")
    if track.rows == 0:
        raise ValueError(
            f"{track.video_id}: feature arrays are empty; record a failure status instead"
        )
    for name, (dtype, _, _) in _formats(track).items():
        if not ARRAY_NAME.fullmatch(name):
            raise ValueError(f"an array's name is 1 to 64 of A-Z a-z 0-9 _, got {name!r}")
        if np.dtype(dtype).kind not in _NUMBER_KINDS:
            raise ValueError(
                f"{track.video_id}: {name} is {np.dtype(dtype)}; parts hold integers and floats"
            )


def _formats(track: FeatureTrack) -> dict[str, tuple[str, tuple[int, ...], bool]]:
    """dtype, item shape and raggedness of each array: equal for all tracks of a part."""
    formats: dict[str, tuple[str, tuple[int, ...], bool]] = {}
    for name, array in sorted(track.arrays.items()):
        values = _values(array)
        formats[name] = (values.dtype.str, values.shape[1:], isinstance(array, Ragged))
    return formats


def _values(array: Array | Ragged) -> Array:
    return array.values if isinstance(array, Ragged) else array


def _tables(
    tracks: Sequence[FeatureTrack], digests: Sequence[str], records: Mapping[str, JSON]
) -> dict[str, ArrayToWrite]:
    video_ids = [track.video_id.encode() for track in tracks]
    row_counts = np.array([track.rows for track in tracks])
    hex_digests = [digest.encode() for digest in digests]
    spans = (track.spans for track in tracks)
    return {
        "ids": _whole(np.array(video_ids)),
        "offsets": _whole(_offsets(row_counts)),
        "digests": _whole(np.array(hex_digests)),
        "records": _whole(np.frombuffer(seal(records), np.uint8)),
        "spans": ArrayToWrite(np.float64, (int(row_counts.sum()), 2), spans),
    }


def _arrays(tracks: Sequence[FeatureTrack]) -> Iterator[tuple[str, ArrayToWrite]]:
    for name, (dtype, item_shape, is_ragged) in _formats(tracks[0]).items():
        arrays = [track.arrays[name] for track in tracks]
        count = sum(len(_values(array)) for array in arrays)
        # Lazy: the tracks' own arrays are copied once, into the image.
        items = ArrayToWrite(dtype, (count, *item_shape), map(_values, arrays))
        if not is_ragged:
            yield f"arrays/{name}", items
            continue
        lengths = [array.lengths for array in arrays if isinstance(array, Ragged)]
        yield f"arrays/{name}/values", items
        yield f"arrays/{name}/offsets", _whole(_offsets(np.concatenate(lengths)))


def _whole(array: Array) -> ArrayToWrite:
    return ArrayToWrite(array.dtype, array.shape, [array])


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
