"""Reads TVSum: 20 people's scores of every 2-second shot of 50 videos, `ydata-tvsum50.mat`.

Annotators are `01` to `20`, the columns of `user_anno`; they are other people in each video. A mark
is one shot, in frame numbers, with a score of 1 to 5. Groupings: `domain`, the ten categories;
`set_learning`, whose training videos are the two longest of each category (Xu et al.,
Cross-category Video Highlight Detection via Set-based Learning, ICCV 2021); `umt`, the split of
later work.

Source: https://github.com/yalesong/tvsum. Shots: the file repeats a shot's score for each of its
frames, and does not say where a shot begins. A shot begins wherever any of the 20 scores changes.
A longer run holds several shots with equal scores; it is cut into equal parts of about 2 seconds.
The last shot may be shorter.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.parsing.parsed_dataset import ParsedDataset
from pipeline.datasets.parsing.tables import (
    DatasetBuilder,
    add_split_groups,
    parse_matlab,
    require_sources,
)
from storage.base.errors import SettingsError
from storage.base.records import VIDEO_ID, Annotation, Group, Video

NAME = "TVSum"
FIELDS = ("video", "category", "length", "nframes", "user_anno")
SHOT_SECONDS = 2.0
ROUNDING_FRAMES = 2
LONGEST_TRAIN = 2
"""Training videos among the five of a category, in set-based learning."""


def read_tvsum(
    sources: Mapping[str, bytes], *, name: str, shard_count: int | None = None
) -> ParsedDataset:
    """Read `{"annotations": ydata-tvsum50.mat, "umt": JSON}`.

    Without `umt`, the grouping `umt` is missing. Raises `SettingsError` if a source is invalid, or
    no video is usable.
    """
    require_sources(sources, NAME, "annotations")
    builder = DatasetBuilder(NAME)
    builder.always_list("dropped:bad_video_id", "scores_and_nframes_differ", "shots_off_the_grid")
    lengths: dict[str, dict[str, float]] = defaultdict(dict)
    for video_id, category, length, nframes, scores in _rows(sources["annotations"]):
        if not VIDEO_ID.fullmatch(video_id):
            builder.oddities["dropped:bad_video_id"].append(video_id)
            continue
        lengths[category][video_id] = length
        if len(scores) != nframes:
            builder.oddities["scores_and_nframes_differ"].append(
                f"{video_id} {len(scores)} {nframes}"
            )
        # The frame rate follows from number of frames and length: the file does not state it.
        frames_per_shot = SHOT_SECONDS * nframes / length
        edges = shot_edges(scores, frames_per_shot)
        if not _on_the_grid(scores, frames_per_shot):
            builder.oddities["shots_off_the_grid"].append(video_id)
        builder.videos.append(Video(video_id, length, nframes, nframes))
        builder.groups.append(Group("domain", category, video_id))
        builder.annotations += _marks(video_id, scores, edges)
    builder.groups += _set_learning_groups(lengths)
    if "umt" in sources:
        add_split_groups(builder, "umt", sources["umt"])
    return builder.build(sources, name=name, shard_count=shard_count, time_unit="frames")


def _rows(content: bytes) -> Iterator[tuple[str, str, float, int, NDArray[np.float64]]]:
    table = parse_matlab(content, f"the annotation file of {NAME}").get("tvsum50")
    if not isinstance(table, dict) or not set(FIELDS) <= table.keys():
        raise SettingsError(
            (f"the annotation file of {NAME} has no table tvsum50 of {', '.join(FIELDS)}",)
        )
    columns: list[Any] = [table[field] for field in FIELDS]
    for video_id, category, length, nframes, raw_scores in zip(*columns, strict=True):
        scores = np.asarray(raw_scores, dtype=np.float64)
        is_table = scores.ndim == 2 and np.isfinite(scores).all()
        has_length = length > 0 and nframes > 0
        if not is_table or not has_length:
            problem = "no (frames, people) of scores, or no length"
            raise SettingsError((f"{NAME}: {video_id} has {problem}",))
        yield str(video_id), str(category), float(length), int(nframes), scores


def shot_edges(scores: NDArray[np.float64], frames_per_shot: float) -> NDArray[np.int64]:
    """Where shots begin, and the end: `(shots + 1,)` rising frame numbers from 0.

    `scores` is `(frames, people)`; the last edge is its number of rows.
    """
    changes = _score_changes(scores)
    edges = [0]
    for change in changes.tolist():
        # Where neighbouring shots have equal scores, a run is several shots long.
        n_shots = max(round((change - edges[-1]) / frames_per_shot), 1)
        edges += np.round(np.linspace(edges[-1], change, n_shots + 1)[1:]).astype(int).tolist()
    # After the last change come whole shots and a rest. A rest of rounding errors is not a shot.
    rest = np.arange(edges[-1] + frames_per_shot, len(scores) - ROUNDING_FRAMES, frames_per_shot)
    return np.array([*edges, *np.round(rest).astype(int).tolist(), len(scores)], dtype=np.int64)


def _on_the_grid(scores: NDArray[np.float64], frames_per_shot: float) -> bool:
    """Whether every score changes at a multiple of 2 seconds, within two frames."""
    changes = _score_changes(scores)
    nearest = np.round(changes / frames_per_shot) * frames_per_shot
    return bool((np.abs(changes - nearest) <= ROUNDING_FRAMES).all())


def _score_changes(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """The frames at which anyone's score differs from that of the frame before."""
    differs = (np.diff(scores, axis=0) != 0).any(axis=1)
    return np.flatnonzero(differs) + 1


def _marks(
    video_id: str, scores: NDArray[np.float64], edges: NDArray[np.int64]
) -> Iterator[Annotation]:
    spans = list(itertools.pairwise(edges.tolist()))
    for person in range(scores.shape[1]):
        annotator = f"{person + 1:02d}"
        for start, end in spans:
            yield Annotation(video_id, annotator, start, end, float(scores[start, person]))


def _set_learning_groups(lengths: Mapping[str, Mapping[str, float]]) -> Iterator[Group]:
    """`lengths` is category → video → seconds. Of equally long videos, the smaller ID wins."""
    for of_category in lengths.values():
        by_length = sorted(of_category, key=lambda video_id: (-of_category[video_id], video_id))
        for position, video_id in enumerate(by_length):
            part = "train" if position < LONGEST_TRAIN else "test"
            yield Group("set_learning", part, video_id)
