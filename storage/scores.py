"""What a model answered, on disk: scores of rows of time per user and video, and where they came
from.

A run is one HDF5 file with all spans and scores, one after the other, and `run.json`, sealed, which
names that file with its sha256 and comes last: a kill leaves the old run or the new one. Refuses to
know models, metrics and labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import IntegrityError, LookupFailed
from storage.base.fingerprint import to_json_value
from storage.base.paths import Layout
from storage.base.records import CONTAINER_START, JSON, STREAM_CLOCK, TIME_ORIGINS, VIDEO_ID
from storage.features.manifest import JsonFields
from storage.files import atomic_write, hdf5
from storage.files.checksummed_json import seal, unseal

FORMAT = "video-highlights scores"
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Version 1 does not say since when its seconds count: it is the streams' own clocks."""
RECORD = "run.json"
Key = tuple[str, str]
"""(user id, video id); the user is empty for a model, or a catalog, without users."""


@dataclass(frozen=True)
class ScoreTrack:
    """One video scored for one user."""

    user_id: str
    """Empty where scores are the same for everybody."""
    video_id: str
    duration_seconds: float
    """Of the video as it was decoded, or as claimed where nothing was decoded: where the truth is
    cut off.
    """
    spans: NDArray[np.float64]
    """`(rows, 2)`: `[start, end)` in seconds that a score speaks of. Rows may overlap and leave
    gaps.
    """
    scores: NDArray[np.float32]
    """`(rows,)`: higher is more of a highlight; the scale is the model's own."""

    def __post_init__(self) -> None:
        if not VIDEO_ID.fullmatch(self.video_id) or not 0 < self.duration_seconds < np.inf:
            raise ValueError(
                f"a track has a video id and lasts; got {self.video_id!r}, {self.duration_seconds} s"
            )
        if self.spans.dtype != np.float64 or self.scores.dtype != np.float32:
            raise ValueError(
                f"spans are float64 and scores float32; got {self.spans.dtype}, {self.scores.dtype}"
            )
        if (
            len(self.scores) < 1
            or self.spans.shape != (*self.scores.shape, 2)
            or self.scores.ndim != 1
        ):
            raise ValueError(
                f"spans are (rows, 2) and scores (rows,); got {self.spans.shape}, {self.scores.shape}"
            )
        if not (np.isfinite(self.spans).all() and np.isfinite(self.scores).all()):
            raise ValueError(f"{self.video_id}: spans and scores are finite")
        if (self.spans[:, 1] <= self.spans[:, 0]).any():
            raise ValueError(f"{self.video_id}: every span has start < end")

    @property
    def key(self) -> Key:
        """What the track is found by."""
        return self.user_id, self.video_id


@dataclass(frozen=True)
class Provenance:
    """Where scores came from: all that a table has to print beside them."""

    model: str
    """Name of the model, or of the ranker that needs none."""
    checkpoint_sha256: str = ""
    """Empty where nothing was learnt."""
    features: Mapping[str, str] = field(default_factory=dict)
    """Variant → fingerprint of what the model read."""
    marks: tuple[str, ...] = ()
    """What makes these scores no result, such as `c3d: random:0` or `planted:3`; printed in the
    same cell.
    """
    settings: Mapping[str, JSON] = field(default_factory=dict)
    """The recipe, the seed, versions: whatever else is worth keeping."""
    time_origin: str = CONTAINER_START
    """Since when the seconds of all spans count: one of `storage.base.records.TIME_ORIGINS`."""

    def __post_init__(self) -> None:
        if self.time_origin not in TIME_ORIGINS:
            raise ValueError(
                f"times count from {self.time_origin!r}; this release knows {', '.join(TIME_ORIGINS)}"
            )


@dataclass(frozen=True)
class ScoreRun:
    """All that one model answered about one catalog. What it was asked = tracks + absent."""

    provenance: Provenance
    tracks: Mapping[Key, ScoreTrack]
    absent: Mapping[Key, str] = field(default_factory=dict)
    """(user, video) → why there is no track: `no_features`, `unknown_duration`, `no_history`,
    ...
    """

    def __post_init__(self) -> None:
        if (
            any(track.key != key for key, track in self.tracks.items())
            or self.tracks.keys() & self.absent.keys()
        ):
            raise ValueError(
                "each track stands under its own (user, video), and none of these is absent as well"
            )


def make_score_run(
    provenance: Provenance, tracks: Sequence[ScoreTrack], absent: Mapping[Key, str] | None = None
) -> ScoreRun:
    """A run from tracks in any order. Raises ValueError if two speak of the same user and video."""
    by_key = {track.key: track for track in tracks}
    if len(by_key) != len(tracks):
        raise ValueError(
            f"{len(tracks)} tracks speak of only {len(by_key)} pairs of a user and a video"
        )
    return ScoreRun(provenance, by_key, absent or {})


def write_scores(layout: Layout, name: str, run: ScoreRun) -> None:
    """Keep a run under `ROOT/<catalog>/scores/<name>`, in place of an older one of that name; one
    writer at a time.
    """
    folder, tracks = layout.scores(name), [run.tracks[key] for key in sorted(run.tracks)]
    content = _image(tracks, run.provenance.time_origin)
    sha256 = hashlib.sha256(content).hexdigest()
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
    for old in sorted(folder.glob("scores.*.h5")):
        if old != data:
            atomic_write.remove(old)


def _image(tracks: Sequence[ScoreTrack], time_origin: str) -> bytes:
    rows = sum(len(track.scores) for track in tracks)
    drafts = {
        "spans": hdf5.ArrayToWrite(np.float64, (rows, 2), [track.spans for track in tracks]),
        "scores": hdf5.ArrayToWrite(np.float32, (rows,), [track.scores for track in tracks]),
    }
    about: dict[str, str | int] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "time_origin": time_origin,
    }
    return hdf5.file_image(about, drafts)


def read_scores(layout: Layout, name: str) -> ScoreRun:
    """The run kept under that name, every byte checked.

    Raises:
        LookupFailed: there is none; lists those that are there.
        IntegrityError: the record or the numbers are not what was written.
    """
    path = layout.scores(name) / RECORD
    try:
        record = unseal(path, path.read_bytes())
    except FileNotFoundError as error:
        there = ", ".join(score_run_names(layout)) or "none"
        raise LookupFailed(
            f"{layout.folder} has no scores of a run {name!r}; it has {there}"
        ) from error
    fields = JsonFields(path, record, "the run")
    found = (
        fields.take("format", str),
        version := fields.take("format_version", int),
        fields.take("catalog", str),
    )
    if found not in [(FORMAT, readable, layout.catalog) for readable in READABLE_VERSIONS]:
        raise IntegrityError(
            path, f"is {found}, expected {(FORMAT, FORMAT_VERSION, layout.catalog)}"
        )
    try:
        return _run(path, fields, version)
    except (TypeError, ValueError) as error:
        raise IntegrityError(path, f"is no record of scores that we wrote: {error}") from error


def score_run_names(layout: Layout) -> tuple[str, ...]:
    """Names of the runs that are kept, ascending."""
    return tuple(
        sorted(path.parent.name for path in (layout.folder / "scores").glob(f"*/{RECORD}"))
    )


def _run(path: Path, fields: JsonFields, version: int) -> ScoreRun:
    spans, scores = _numbers(
        path.parent / Path(fields.take("file", str)).name, fields.take("file_sha256", str)
    )
    entries = [_track_entry(entry) for entry in fields.take("tracks", list)]
    ends = np.cumsum([0, *(rows for *_, rows in entries)], dtype=np.int64).tolist()
    if ends[-1] != len(scores):
        raise IntegrityError(path, f"names {ends[-1]} rows, its file holds {len(scores)}")
    tracks = [
        ScoreTrack(user, video, seconds, spans[start:end], scores[start:end])
        for (user, video, seconds, _), (start, end) in zip(entries, pairwise(ends), strict=True)
    ]
    absent = {
        (str(user), str(video)): str(reason)
        for user, video, reason in map(_cells, fields.take("absent", list))
    }
    provenance = _provenance(path, fields.take("provenance", dict), version)
    fields.check_no_rest()
    return make_score_run(provenance, tracks, absent)


def _cells(row: JSON) -> list[JSON]:
    if not isinstance(row, list):
        raise ValueError(f"{row!r} is no row of a table")
    return row


def _track_entry(row: JSON) -> tuple[str, str, float, int]:
    user, video, seconds, rows = _cells(row)
    if not isinstance(seconds, float) or not isinstance(rows, int):
        raise ValueError(f"{row!r} should end in seconds and a number of rows")
    return str(user), str(video), seconds, rows


def _provenance(path: Path, content: dict[str, JSON], version: int) -> Provenance:
    fields = JsonFields(path, content, "provenance")
    return Provenance(
        model=fields.take("model", str),
        checkpoint_sha256=fields.take("checkpoint_sha256", str),
        features={variant: str(mark) for variant, mark in fields.take("features", dict).items()},
        marks=tuple(str(mark) for mark in fields.take("marks", list)),
        settings=fields.take("settings", dict),
        time_origin=STREAM_CLOCK if version == 1 else fields.take("time_origin", str),
    )


def _numbers(path: Path, sha256: str) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    if not path.is_file():
        raise IntegrityError(path, "is missing; score again")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise IntegrityError(
            path, "was altered: its sha256 is not what its record says; score again"
        )
    extents = hdf5.read_image_layout(path, content).extents
    found = {
        name: np.frombuffer(
            content, extent.dtype, int(np.prod(extent.shape)), extent.offset_bytes
        ).reshape(extent.shape)
        for name, extent in extents.items()
    }
    return found["spans"], found["scores"]
