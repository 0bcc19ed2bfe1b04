"""Stores the scores of a model: rows of time per user and video, with their provenance.

A run is one HDF5 file with all spans and scores, and a sealed `run.json`. That record names the
file with its sha256 and is written last, so a kill leaves the old run or the new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import IntegrityError, LookupFailed
from storage.base.fingerprint import to_json_value
from storage.base.paths import RUN_NAME, Layout
from storage.base.records import CONTAINER_START, JSON, STREAM_CLOCK, TIME_ORIGINS, VIDEO_ID
from storage.features.manifest import JsonFields
from storage.files import atomic_write, hdf5
from storage.files.checksummed_json import read_sealed, seal

FORMAT = "video-highlights scores"
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Version 1 does not state its time origin: it is the streams' own clocks."""
RECORD = "run.json"
Key = tuple[str, str]
"""(user id, video id); the user id is empty for a model or a catalog without users."""


@dataclass(frozen=True)
class ScoreTrack:
    """One video scored for one user."""

    user_id: str
    """Empty where scores are the same for all users."""
    video_id: str
    duration_seconds: float
    """Of the decoded video, or as claimed where nothing was decoded; labels are cut off there."""
    spans: NDArray[np.float64]
    """`(rows, 2)`: `[start, end)` of each score in seconds. Rows may overlap and leave gaps."""
    scores: NDArray[np.float32]
    """`(rows,)`: higher is more of a highlight; the scale is the model's own."""

    def __post_init__(self) -> None:
        if not VIDEO_ID.fullmatch(self.video_id) or not 0 < self.duration_seconds < np.inf:
            raise ValueError(
                "a score track needs a valid video_id and a finite duration_seconds > 0; got "
                f"{self.video_id!r}, {self.duration_seconds} s"
            )
        self._check_types()
        self._check_values()

    def _check_types(self) -> None:
        spans, scores = self.spans, self.scores
        if spans.dtype != np.float64 or scores.dtype != np.float32:
            raise ValueError(
                f"spans are float64 and scores float32; got {spans.dtype}, {scores.dtype}"
            )
        has_rows = scores.ndim == 1 and len(scores) >= 1
        if not has_rows or spans.shape != (len(scores), 2):
            raise ValueError(
                "spans are (rows, 2) and scores (rows,), with at least one row; got "
                f"{spans.shape}, {scores.shape}"
            )

    def _check_values(self) -> None:
        if not (np.isfinite(self.spans).all() and np.isfinite(self.scores).all()):
            raise ValueError(f"{self.video_id}: spans and scores must be finite")
        starts, ends = self.spans[:, 0], self.spans[:, 1]
        if (ends <= starts).any():
            raise ValueError(f"{self.video_id}: every span must have start < end")

    @property
    def key(self) -> Key:
        """(user id, video id)."""
        return self.user_id, self.video_id


@dataclass(frozen=True)
class Provenance:
    """The origin of scores: everything that a table prints beside them."""

    model: str
    """Name of the model, or of the ranker that needs none."""
    checkpoint_sha256: str = ""
    """Empty for a ranker without a checkpoint."""
    features: Mapping[str, str] = field(default_factory=dict)
    """Variant → fingerprint of the features that the model read."""
    marks: tuple[str, ...] = ()
    """Why these scores are not a result, such as `c3d: random:0` or `planted:3`.

    A table prints them in the same cell.
    """
    settings: Mapping[str, JSON] = field(default_factory=dict)
    """The recipe, the seed and the versions."""
    time_origin: str = CONTAINER_START
    """Origin of the seconds of all spans: one of `storage.base.records.TIME_ORIGINS`."""

    def __post_init__(self) -> None:
        if self.time_origin not in TIME_ORIGINS:
            raise ValueError(
                f"times count from {self.time_origin!r}; this release reads "
                f"{', '.join(TIME_ORIGINS)}"
            )


@dataclass(frozen=True)
class ScoreRun:
    """All scores of one model for one catalog. Requested pairs = tracks + absent."""

    provenance: Provenance
    tracks: Mapping[Key, ScoreTrack]
    absent: Mapping[Key, str] = field(default_factory=dict)
    """(user, video) → why it has no track: `no_features`, `unknown_duration`, `no_history`, ..."""

    def __post_init__(self) -> None:
        for key, track in self.tracks.items():
            if track.key != key:
                raise ValueError(f"the track of {track.key} is stored under {key}")
        both = self.tracks.keys() & self.absent.keys()
        if both:
            raise ValueError(f"{min(both)} has a track, and is listed as absent as well")


def make_score_run(
    provenance: Provenance, tracks: Sequence[ScoreTrack], absent: Mapping[Key, str] | None = None
) -> ScoreRun:
    """A run from tracks in any order. Raises ValueError for two of the same user and video."""
    by_key = {track.key: track for track in tracks}
    if len(by_key) != len(tracks):
        raise ValueError(
            f"{len(tracks)} tracks are of only {len(by_key)} pairs of a user and a video"
        )
    return ScoreRun(provenance, by_key, absent or {})


def write_scores(layout: Layout, name: str, run: ScoreRun) -> None:
    """Store a run under `ROOT/<catalog>/scores/<name>`; replaces an older one of that name.

    Only one process at a time may write a run.
    """
    folder = layout.scores(name)
    tracks = [run.tracks[key] for key in sorted(run.tracks)]
    content = _image(tracks, run.provenance.time_origin)
    sha256 = hashlib.sha256(content).hexdigest()
    # The hash in its name lets the new file lie beside the old one until the record is replaced.
    data = folder / f"scores.{sha256[:12]}.h5"
    atomic_write.publish(data, content, replace=False)
    record: dict[str, JSON] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "catalog": layout.catalog,
        "file": data.name,
        "file_sha256": sha256,
        "provenance": to_json_value(run.provenance),
        "tracks": [
            [track.user_id, track.video_id, float(track.duration_seconds), len(track.scores)]
            for track in tracks
        ],
        "absent": [[*key, reason] for key, reason in sorted(run.absent.items())],
    }
    atomic_write.publish(folder / RECORD, seal(record), replace=True)
    # Also files that a killed run has left.
    for old in superseded_files(layout, name):
        atomic_write.remove(old)


def superseded_files(layout: Layout, name: str) -> list[Path]:
    """Files with scores in the folder of a run that its record does not name.

    All of them if there is no sound record.
    """
    folder = layout.scores(name)
    try:
        named = read_sealed(folder / RECORD).get("file")
    except (FileNotFoundError, IntegrityError):
        named = None
    return [path for path in sorted(folder.glob("scores.*.h5")) if path.name != named]


def videos_of_scores(layout: Layout, name: str) -> frozenset[str]:
    """The videos that a run has scores of, or says why not. Raises as `read_scores`."""
    run = read_scores(layout, name)
    return frozenset(video_id for _, video_id in chain(run.tracks, run.absent))


def drop_scores(layout: Layout, name: str, is_dropped: Callable[[str], bool]) -> None:
    """Rewrite a run without the scores of some videos. Raises as `read_scores`."""
    run = read_scores(layout, name)
    tracks = {key: track for key, track in run.tracks.items() if not is_dropped(key[1])}
    absent = {key: reason for key, reason in run.absent.items() if not is_dropped(key[1])}
    write_scores(layout, name, ScoreRun(run.provenance, tracks, absent))


def _image(tracks: Sequence[ScoreTrack], time_origin: str) -> bytes:
    rows = sum(len(track.scores) for track in tracks)
    arrays = {
        "spans": hdf5.ArrayToWrite(np.float64, (rows, 2), [track.spans for track in tracks]),
        "scores": hdf5.ArrayToWrite(np.float32, (rows,), [track.scores for track in tracks]),
    }
    attributes: dict[str, str | int] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "time_origin": time_origin,
    }
    return hdf5.file_image(attributes, arrays)


def read_scores(layout: Layout, name: str) -> ScoreRun:
    """The run stored under that name, every byte checked.

    Raises:
        LookupFailed: there is none; lists the names that exist.
        IntegrityError: the record or the numbers are not as written.
    """
    path = layout.scores(name) / RECORD
    try:
        record = read_sealed(path)
    except FileNotFoundError as error:
        known = ", ".join(score_run_names(layout)) or "none"
        raise LookupFailed(
            f"{layout.folder} has no scores of a run {name!r}; it has {known}"
        ) from error
    fields = JsonFields(path, record, "the run")
    record_format = fields.take("format", str)
    version = fields.take("format_version", int)
    catalog = fields.take("catalog", str)
    is_readable = version in READABLE_VERSIONS
    if record_format != FORMAT or not is_readable or catalog != layout.catalog:
        raise IntegrityError(
            path,
            f"is {(record_format, version, catalog)}, expected "
            f"{(FORMAT, FORMAT_VERSION, layout.catalog)}",
        )
    try:
        return _parse_run(path, fields, version)
    except (TypeError, ValueError) as error:
        raise IntegrityError(path, f"is not a record of scores: {error}") from error


def score_run_names(layout: Layout) -> tuple[str, ...]:
    """Names of the stored runs, ascending."""
    records = (layout.folder / "scores").glob(f"*/{RECORD}")
    names = (path.parent.name for path in records)
    return tuple(sorted(name for name in names if RUN_NAME.fullmatch(name)))


def _parse_run(path: Path, fields: JsonFields, version: int) -> ScoreRun:
    # Only the name, so that a record cannot point into another folder.
    data = path.parent / Path(fields.take("file", str)).name
    spans, scores = _read_numbers(data, fields.take("file_sha256", str))
    entries = [_track_entry(row) for row in fields.take("tracks", list)]
    bounds = np.cumsum([0, *(rows for *_, rows in entries)], dtype=np.int64).tolist()
    if bounds[-1] != len(scores):
        raise IntegrityError(path, f"names {bounds[-1]} rows, its file holds {len(scores)}")
    tracks: list[ScoreTrack] = []
    for (user_id, video_id, seconds, _), (start, end) in zip(
        entries, pairwise(bounds), strict=True
    ):
        tracks.append(ScoreTrack(user_id, video_id, seconds, spans[start:end], scores[start:end]))
    absent: dict[Key, str] = {}
    for row in fields.take("absent", list):
        user_id, video_id, reason = map(str, _cells(row))
        absent[user_id, video_id] = reason
    provenance = _provenance(path, fields.take("provenance", dict), version)
    fields.check_no_rest()
    return make_score_run(provenance, tracks, absent)


def _cells(row: JSON) -> list[JSON]:
    if not isinstance(row, list):
        raise ValueError(f"{row!r} is not a row of a table")
    return row


def _track_entry(row: JSON) -> tuple[str, str, float, int]:
    user_id, video_id, seconds, rows = _cells(row)
    if not isinstance(seconds, float) or not isinstance(rows, int):
        raise ValueError(f"{row!r} must end in seconds and a number of rows")
    return str(user_id), str(video_id), seconds, rows


def _provenance(path: Path, content: dict[str, JSON], version: int) -> Provenance:
    fields = JsonFields(path, content, "provenance")
    return Provenance(
        model=fields.take("model", str),
        checkpoint_sha256=fields.take("checkpoint_sha256", str),
        features={name: str(mark) for name, mark in fields.take("features", dict).items()},
        marks=tuple(str(mark) for mark in fields.take("marks", list)),
        settings=fields.take("settings", dict),
        time_origin=STREAM_CLOCK if version == 1 else fields.take("time_origin", str),
    )


def _read_numbers(path: Path, sha256: str) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """The spans and scores of all tracks."""
    if not path.is_file():
        raise IntegrityError(path, "is missing; score again")
    content = path.read_bytes()
    # Before libhdf5 parses it.
    if hashlib.sha256(content).hexdigest() != sha256:
        raise IntegrityError(
            path, "was altered: its sha256 is not what its record says; score again"
        )
    arrays: dict[str, NDArray[Any]] = {}
    for name, extent in hdf5.read_image_layout(path, content).extents.items():
        count = int(np.prod(extent.shape))
        flat = np.frombuffer(content, extent.dtype, count, extent.offset_bytes)
        arrays[name] = flat.reshape(extent.shape)
    return arrays["spans"], arrays["scores"]
