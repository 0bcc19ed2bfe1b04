"""Temporal units of a video that a model scores: fixed segments, or shots.

Scoring cuts a video into segments of equal length at true time. Training on segments uses shots:
those of a table, or, since PHD-GIFs' shot detector is not published, the GIFs themselves and chunks
of the gaps between them. `SHOTS_NOTE` says so and is printed with every table.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from storage.base.errors import SettingsError
from trainer.data.sources.intervals import (
    Intervals,
    chunks,
    clamp_to_video,
    gaps,
    split_longer,
)
from trainer.data.sources.settings import DataSettings

Shots = Mapping[str, Intervals]
"""Video id → its shots in seconds."""
COLUMNS = ("video_id", "start_seconds", "end_seconds")
SHOTS_NOTE = (
    "training shots are the labelled intervals and 5-second chunks of the rest, not a shot "
    "detector's as in PHD-GIFs section 5.3; set data.shots to a table of shots to change that"
)


def read_shots(path: Path) -> Shots:
    """The shots of a CSV table by video. SettingsError for a wrong header or an invalid row."""
    shots: dict[str, list[tuple[float, float]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        # Strict: a broken quotation mark is an error, and not part of an id.
        lines = csv.reader(file, strict=True)
        if tuple(next(lines, ())) != COLUMNS:
            raise SettingsError(
                (f"{path} is not a table of shots: its first line must be {','.join(COLUMNS)}",)
            )
        for line in lines:
            try:
                video_id, start, end = line[0], float(line[1]), float(line[2])
            except (ValueError, IndexError) as error:
                raise SettingsError((f"{path}, line {lines.line_num}: {error}",)) from error
            if not 0 <= start < end < float("inf"):
                raise SettingsError(
                    (
                        f"{path}, line {lines.line_num}: a shot needs 0 <= start < end, "
                        f"got {start} to {end} seconds",
                    )
                )
            shots.setdefault(video_id, []).append((start, end))
    return {video_id: np.array(sorted(intervals)) for video_id, intervals in shots.items()}


def scoring_segments(end_seconds: float, settings: DataSettings) -> Intervals:
    """`[0, 5)`, `[5, 10)`, ... up to the video's end; the last may be shorter."""
    return chunks(0.0, end_seconds, settings.segment_seconds)


def training_segments(
    end_seconds: float, highlights: Intervals, shots: Intervals | None, settings: DataSettings
) -> Intervals:
    """The shots of one video, by start.

    `highlights` is the union of the user's highlights. Without `shots` it takes their place,
    together with chunks of the gaps between its intervals.
    """
    if shots is not None:
        return _split_long_shots(clamp_to_video(shots, end_seconds), settings)
    inside = clamp_to_video(highlights, end_seconds)
    parts = [_split_long_shots(inside, settings)]
    for start, end in gaps(inside, end_seconds):
        parts.append(chunks(start, end, settings.segment_seconds))
    # Highlights and gaps take turns, but a long one was cut into pieces: sort all of them again.
    segments = np.concatenate(parts)
    ordered: Intervals = segments[np.argsort(segments[:, 0], kind="stable")]
    return ordered


def history_segments(highlights: Intervals, settings: DataSettings) -> Intervals:
    """The shots of a history: highlights, the long ones cut into pieces."""
    return _split_long_shots(highlights, settings)


def _split_long_shots(shots: Intervals, settings: DataSettings) -> Intervals:
    return split_longer(shots, settings.longest_shot_seconds, settings.segment_seconds)
