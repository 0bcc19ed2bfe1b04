"""The sample: drawn videos whose viewers have planted tastes, with their tables in PHD2's format.

Writes what `sample_plan` planned, so that the sample takes the same road as the real thing: the
same reader, the same fetching from a folder. The same size and seed give the same bytes. Refuses to
know how any of it is read back.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.readers.phd2_rows import COLUMNS
from pipeline.synthetic.encoder import encode_mp4, set_rotation
from pipeline.synthetic.scenes import render_scene
from pipeline.synthetic.user_videos_plan import LARGE, SMALL, Clip, SampleSize, Viewing, plan_sample
from storage.files import atomic_write

__all__ = ["LARGE", "SMALL", "SampleSize", "read_scenes", "write_sample"]

SCENE_COLUMNS = ("video_id", "start", "end", "kind")
TABLES = {"train": "training.csv", "test": "testing.csv"}
Progress = Callable[[int, int], None]
"""Called with (videos done, videos in all) after each video."""


def write_sample(
    folder: Path, size: SampleSize = SMALL, *, seed: int = 1, progress: Progress | None = None
) -> None:
    """Write `<id>.mp4` files, `scenes.csv` (which scene is what), `training.csv` and, last of all,
    `testing.csv`.

    A file that is there with the same bytes stays; other bytes under one of these names raise
    `IntegrityError`.
    """
    plan = plan_sample(size, seed)
    for done, clip in enumerate(plan.clips):
        if clip.kept_share > 0:
            atomic_write.publish(
                folder / f"{clip.video_id}.mp4", render_clip(clip, size), replace=False
            )
        if progress is not None:
            progress(done + 1, len(plan.clips))
    scenes = (
        (clip.video_id, scene.start, scene.end, scene.kind)
        for clip in plan.clips
        for scene in clip.scenes
    )
    _publish_table(folder / "scenes.csv", SCENE_COLUMNS, sorted(scenes))
    for split, name in TABLES.items():
        rows = (
            row for viewing in plan.viewings if viewing.split == split for row in _rows(viewing)
        )
        _publish_table(folder / name, COLUMNS, rows)


def read_scenes(folder: Path) -> dict[str, list[tuple[float, float, str]]]:
    """What the sample in `folder` shows: video id → `(start, end, kind)` of its scenes in seconds,
    in order.
    """
    scenes: dict[str, list[tuple[float, float, str]]] = {}
    with (folder / "scenes.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, strict=True):
            scenes.setdefault(row["video_id"], []).append(
                (float(row["start"]), float(row["end"]), row["kind"])
            )
    return scenes


def render_clip(clip: Clip, size: SampleSize) -> bytes:
    """The clip's mp4 file, with whatever trouble was planned for it."""
    frames = _frames(clip, size)
    if clip.is_rotated:
        video = set_rotation(
            encode_mp4(np.rot90(frames, k=-1, axes=(1, 2)), clip.clock), degrees_counterclockwise=90
        )
    else:
        video = encode_mp4(frames, clip.clock)
    return video[: int(len(video) * clip.kept_share)]


def _frames(clip: Clip, size: SampleSize) -> NDArray[np.uint8]:
    times = clip.clock.times_seconds(clip.duration_seconds)
    pictures = []
    for scene in clip.scenes:
        shown = times[(times >= scene.start) & (times < scene.end)]
        pictures.append(
            render_scene(
                scene.kind, scene.style, shown - scene.start, width=size.width, height=size.height
            )
        )
    return np.concatenate(pictures)


def _rows(viewing: Viewing) -> Iterable[tuple[str, ...]]:
    clip = viewing.clip
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
