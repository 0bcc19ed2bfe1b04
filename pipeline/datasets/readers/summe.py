"""Reads SumMe: 25 `.mat` files of the frames that 15 to 18 people each chose.

Annotators are `01` and up, the columns of `user_score`, because in many files `all_userIDs` names
fewer people than there are columns. A mark is a run of frames with an equal value above 0, in frame
numbers; frames that a person did not choose have no mark. No split is published. A video is named
after its file, with `_` for blanks; its published name is looked for too.

Source: https://gyglim.github.io/me/vsum/index.html (`GT/*.mat` in SumMe.zip, beside `videos/`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.parsing.archive import read_zip
from pipeline.datasets.parsing.parsed_dataset import ParsedDataset
from pipeline.datasets.parsing.tables import DatasetBuilder, parse_matlab, require_sources
from storage.base.errors import SettingsError
from storage.base.records import SOURCE_NAME, Annotation, Video

NAME = "SumMe"
FILES = r"(?:GT/)?[^/]+\.mat"
"""The published paths that are read."""
FIELDS = ("nFrames", "video_duration", "user_score", "all_userIDs")


def read_summe(
    sources: Mapping[str, bytes], *, name: str, shard_count: int | None = None
) -> ParsedDataset:
    """Read `{"annotations": ZIP of the .mat files}`.

    Raises `SettingsError` if a file is not one of SumMe's.
    """
    require_sources(sources, NAME, "annotations")
    builder = DatasetBuilder(NAME)
    builder.always_list(
        "dropped:bad_name",
        "people_and_columns_differ",
        "scores_and_nframes_differ",
        "chose_nothing",
    )
    for path, content in read_zip(sources["annotations"], FILES, NAME).items():
        published = path.rpartition("/")[2].removesuffix(".mat")
        if not SOURCE_NAME.fullmatch(published):
            builder.oddities["dropped:bad_name"].append(path)
            continue
        table = parse_matlab(content, path)
        missing = [field for field in FIELDS if field not in table]
        if missing:
            raise SettingsError((f"{path} has no {', '.join(missing)}; is it a file of {NAME}?",))
        _read_video(published, table, builder)
    return builder.build(sources, name=name, shard_count=shard_count, time_unit="frames")


def _read_video(published: str, table: Mapping[str, Any], builder: DatasetBuilder) -> None:
    video_id = published.replace(" ", "_")
    n_frames = int(table["nFrames"])
    # `(frames, people)`
    scores = np.asarray(table["user_score"], dtype=np.float64)
    is_table = scores.ndim == 2 and np.isfinite(scores).all()
    if not is_table or n_frames < 1:
        problem = f"user_score is not (frames, people) of numbers, or nFrames is {n_frames}"
        raise SettingsError((f"{published}: {problem}",))
    n_scored, n_columns = scores.shape
    n_people = len(np.atleast_1d(table["all_userIDs"]))
    if n_people != n_columns:
        case = f"{published} {n_people} {n_columns}"
        builder.oddities["people_and_columns_differ"].append(case)
    if n_scored != n_frames:
        builder.oddities["scores_and_nframes_differ"].append(f"{published} {n_scored} {n_frames}")
    alternative_ids = () if published == video_id else (published,)
    duration = float(table["video_duration"])
    builder.videos.append(Video(video_id, duration, n_frames, n_frames, alternative_ids))
    for column in range(n_columns):
        annotator = f"{column + 1:02d}"
        marks = list(_runs(video_id, annotator, scores[:, column]))
        builder.annotations += marks
        if not marks:
            builder.oddities["chose_nothing"].append(f"{published} {annotator}")


def _runs(video_id: str, annotator: str, scores: NDArray[np.float64]) -> Iterator[Annotation]:
    """One annotation for each run of frames with an equal score above 0."""
    changes = np.flatnonzero(np.diff(scores)) + 1
    edges = [0, *changes.tolist(), len(scores)]
    for start, end in itertools.pairwise(edges):
        if scores[start] > 0:
            yield Annotation(video_id, annotator, float(start), float(end), float(scores[start]))
