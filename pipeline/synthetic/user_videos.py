"""Generates the user sample: synthetic videos, and the labels of users with known preferences.

Videos and tables have PHD2's format, so the sample runs through the same reader, and the same
download from a folder, as the real dataset. The same size and seed give the same bytes.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.readers.phd2_rows import COLUMNS
from pipeline.synthetic.encoder import encode_mp4, set_rotation
from pipeline.synthetic.scenes import render_scene
from pipeline.synthetic.user_videos_plan import (
    LARGE,
    SMALL,
    Clip,
    SamplePlan,
    SampleSize,
    Viewing,
    plan_sample,
)
from storage.files import atomic_write

__all__ = ["LARGE", "SMALL", "SampleSize", "read_scenes", "write_sample"]

SCENE_COLUMNS = ("video_id", "start", "end", "kind")
TABLES = {"train": "training.csv", "test": "testing.csv"}
Progress = Callable[[int, int], None]
"""Called with (videos done, videos in all) after each video."""


def write_sample(
    folder: Path, size: SampleSize = SMALL, *, seed: int = 1, progress: Progress | None = None
) -> None:
    """Write `<id>.mp4` files, `scenes.csv`, `training.csv` and, last, `testing.csv`.

    An existing file with the same bytes is kept. Raises `IntegrityError` if a file of one of these
    names has other bytes.
    """
    plan = plan_sample(size, seed)
    for done, clip in enumerate(plan.clips):
        if clip.kept_share > 0:
            video = render_clip(clip, size)
            atomic_write.publish(folder / f"{clip.video_id}.mp4", video, replace=False)
        if progress is not None:
            progress(done + 1, len(plan.clips))
    # The tables come last, so a sample with tables has all its videos.
    _publish_table(folder / "scenes.csv", SCENE_COLUMNS, sorted(_scene_rows(plan)))
    for split, name in TABLES.items():
        _publish_table(folder / name, COLUMNS, _gif_rows(plan, split))


def _scene_rows(plan: SamplePlan) -> Iterator[tuple[str, float, float, str]]:
    for clip in plan.clips:
        for scene in clip.scenes:
            yield clip.video_id, scene.start, scene.end, scene.kind


def _gif_rows(plan: SamplePlan, split: str) -> Iterator[tuple[str, ...]]:
    for viewing in plan.viewings:
        if viewing.split == split:
            yield from _rows(viewing)


def read_scenes(folder: Path) -> dict[str, list[tuple[float, float, str]]]:
    """Video ID → `(start, end, kind)` of its scenes in seconds, for the sample in `folder`."""
    scenes: dict[str, list[tuple[float, float, str]]] = {}
    with (folder / "scenes.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, strict=True):
            scene = (float(row["start"]), float(row["end"]), row["kind"])
            scenes.setdefault(row["video_id"], []).append(scene)
    return scenes


def render_clip(clip: Clip, size: SampleSize) -> bytes:
    """The clip's mp4 file, with its planned damage."""
    frames = _frames(clip, size)
    if clip.is_rotated:
        # The file is stored on its side, with metadata that turns it back.
        on_its_side = encode_mp4(np.rot90(frames, k=-1, axes=(1, 2)), clip.clock)
        video = set_rotation(on_its_side, degrees_counterclockwise=90)
    else:
        video = encode_mp4(frames, clip.clock)
    return video[: int(len(video) * clip.kept_share)]


def _frames(clip: Clip, size: SampleSize) -> NDArray[np.uint8]:
    times = clip.clock.times_seconds(clip.duration_seconds)
    pictures = []
    for scene in clip.scenes:
        shown = times[(times >= scene.start) & (times < scene.end)]
        since_start = shown - scene.start
        pictures.append(
            render_scene(scene.kind, scene.style, since_start, width=size.width, height=size.height)
        )
    return np.concatenate(pictures)


def _rows(viewing: Viewing) -> Iterable[tuple[str, ...]]:
    clip = viewing.clip
    # PHD2 gives whole seconds, and -1 where the duration is unknown.
    claimed = float(math.ceil(clip.duration_seconds)) if clip.kept_share > 0 else -1.0
    for start_hundredths, length_hundredths in viewing.gifs_hundredths:
        yield (
            clip.video_id,
            str(start_hundredths / 100),
            str(length_hundredths / 100),
            viewing.user_id,
            str(claimed),
            str(viewing.is_target),
        )


def _publish_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    atomic_write.publish(path, text.getvalue().encode(), replace=False)
