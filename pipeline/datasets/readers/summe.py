"""SumMe as its authors publish it: 25 `.mat` files of the frames that 15 to 18 people each chose.

Annotators are `01` and up, the columns of `user_score`: `all_userIDs` names fewer people than there
are columns in many files. A mark is a run of frames with an equal value above 0, in frame numbers;
what nobody chose has no mark. No split is published. A video is called as its file is, with `_` for
blanks, and is looked for under the published name too.

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
    """Read `{"annotations": ZIP of the .mat files}`. Raises `SettingsError` if a file is not one of
    SumMe's.
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
        if missing := [field for field in FIELDS if field not in table]:
            raise SettingsError((f"{path} has no {', '.join(missing)}; is it a file of {NAME}?",))
        _read_video(published, table, builder)
    return builder.build(sources, name=name, shard_count=shard_count, time_unit="frames")


def _read_video(published: str, table: Mapping[str, Any], builder: DatasetBuilder) -> None:
    video_id = published.replace(" ", "_")
    n_frames = int(table["nFrames"])
    scores = np.asarray(table["user_score"], dtype=np.float64)
    if scores.ndim != 2 or not np.isfinite(scores).all() or n_frames < 1:
        raise SettingsError(
            (
                f"{published}: user_score is no (frames, people) of numbers, or nFrames is {n_frames}",
            )
        )
    people = np.atleast_1d(table["all_userIDs"])
    if len(people) != scores.shape[1]:
        builder.oddities["people_and_columns_differ"].append(
            f"{published} {len(people)} {scores.shape[1]}"
        )
    if len(scores) != n_frames:
        builder.oddities["scores_and_nframes_differ"].append(
            f"{published} {len(scores)} {n_frames}"
        )
    alternative_ids = () if published == video_id else (published,)
    builder.videos.append(
        Video(video_id, float(table["video_duration"]), n_frames, n_frames, alternative_ids)
    )
    for column in range(scores.shape[1]):
        marks = list(_runs(video_id, f"{column + 1:02d}", scores[:, column]))
        builder.annotations += marks
        if not marks:
            builder.oddities["chose_nothing"].append(f"{published} {column + 1:02d}")


def _runs(video_id: str, annotator: str, scores: NDArray[np.float64]) -> Iterator[Annotation]:
    edges = [0, *(np.flatnonzero(np.diff(scores)) + 1).tolist(), len(scores)]
    for start, end in itertools.pairwise(edges):
        if scores[start] > 0:
            yield Annotation(video_id, annotator, float(start), float(end), float(scores[start]))
