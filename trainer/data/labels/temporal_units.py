"""What a position of a video is: a row, a fixed segment, or a shot.

Scoring cuts a video into segments of equal length at true time. Training on segments uses shots:
those of a table, or, as PHD-GIFs' shot detector is not at hand, the GIFs themselves and chunks of
what is between them; `NOTE` says so and is printed with every table. Refuses to know features.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from storage.base.errors import SettingsError
from trainer.data.sources.intervals import (
    NO_INTERVALS,
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
    "training shots are the marked intervals and 5-second chunks of the rest, not a shot detector's as in PHD-GIFs "
    "section 5.3; give a table of shots to change that"
)


def read_shots(path: Path) -> Shots:
    """The table's shots by video. Raises SettingsError for another header, or a row that is no
    shot.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file, strict=True)
        if tuple(next(lines, ())) != COLUMNS:
            raise SettingsError(
                (f"{path} is no table of shots: its first line is {','.join(COLUMNS)}",)
            )
        for line in lines:
            try:
                video_id, start, end = line[0], float(line[1]), float(line[2])
            except (ValueError, IndexError) as error:
                raise SettingsError((f"{path}, line {lines.line_num}: {error}",)) from error
            if not 0 <= start < end < float("inf"):
                raise SettingsError(
                    (f"{path}, line {lines.line_num}: no shot is {start} to {end} seconds",)
                )
            found.setdefault(video_id, []).append((start, end))
    return {video_id: np.array(sorted(shots)) for video_id, shots in found.items()}


def scoring_segments(end_seconds: float, settings: DataSettings) -> Intervals:
    """`[0, 5)`, `[5, 10)`, ... up to the video's end; the last may be shorter."""
    return chunks(0.0, end_seconds, settings.segment_seconds)


def training_segments(
    end_seconds: float, marked: Intervals, shots: Intervals | None, settings: DataSettings
) -> Intervals:
    """Shots of one video by start. `marked` is the union of the user's marks; without `shots` it
    makes them.
    """
    if shots is not None:
        return _split_long_shots(clamp_to_video(shots, end_seconds), settings)
    inside = clamp_to_video(marked, end_seconds)
    rest = [
        chunks(start, end, settings.segment_seconds) for start, end in gaps(inside, end_seconds)
    ]
    segments = (
        np.concatenate([_split_long_shots(inside, settings), *rest])
        if rest or len(inside)
        else NO_INTERVALS
    )
    ordered: Intervals = segments[np.argsort(segments[:, 0], kind="stable")]
    return ordered


def history_segments(marked: Intervals, settings: DataSettings) -> Intervals:
    """The shots of a history: marked intervals, the long ones in pieces."""
    return _split_long_shots(marked, settings)


def _split_long_shots(shots: Intervals, settings: DataSettings) -> Intervals:
    return split_longer(shots, settings.longest_shot_seconds, settings.segment_seconds)
