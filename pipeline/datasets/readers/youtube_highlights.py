"""YouTube Highlights (Domain-specific Highlights) as its authors publish it, read from a copy of
their repository.

Annotators: `match` says whether a clip is in the user's own edited video (1), is not (-1), or
borders on one that is (0); `mturk` is how many Turkers chose it, where they were asked, each vote
weighed by coverage. Both raw. Times are frame numbers of files that the authors downloaded in 2014;
clips overlap by half.

Groupings: `domain`; the authors' `vlist` (all harvested videos) and `vlist_sel` (selected by hand),
each with train, test, and their tight (few matched clips) and loose parts; `umt`, the split of
later work; `set_learning_sorted`.

Sources: https://github.com/aliensunmin/DomainSpecificHighlight, and UMT's split as `{domain:
{train: [...], val: [...]}}` (https://github.com/TencentARC/UMT).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from pipeline.datasets.parsing.archive import read_zip
from pipeline.datasets.parsing.parsed_dataset import ParsedDataset
from pipeline.datasets.parsing.tables import (
    DatasetBuilder,
    add_split_groups,
    parse_json,
    require_sources,
)
from storage.base.errors import SettingsError
from storage.base.records import SOURCE_NAME, VIDEO_ID, Annotation, Group, Video

DOMAINS = ("dog", "gymnastics", "parkour", "skating", "skiing", "surfing")
_OF_DOMAIN = r"(?:vlist|vlist_sel|[^/]+/(?:clip|match_label|mturk_label|info))\.json"
FILES = rf"(?:{'|'.join(DOMAINS)})/{_OF_DOMAIN}|missingVideos/.+"
"""The published paths that are read."""
NAME = "YouTube Highlights"
PARTS = {
    "TraiTightL": ("train", "train_tight"),
    "TraiLooseL": ("train", "train_loose"),
    "TestTightL": ("test", "test_tight"),
    "TestLooseL": ("test", "test_loose"),
}
"""Published name of a list → the groups its videos are in."""
ANNOTATORS = {"match": "match_label", "mturk": "mturk_label"}
FRAME_RATES = (30000 / 1001, 30.0, 25.0, 24000 / 1001, 24.0)
RATE_SLACK_FRAMES = 10
STRIDE_FRAMES = 50
"""From one clip's start to the next one's."""


def read_youtube_highlights(
    sources: Mapping[str, bytes], *, name: str, shard_count: int | None = None
) -> ParsedDataset:
    """Read `{"annotations": ZIP of the repository, "umt": JSON}`; without the second, the grouping
    `umt` is missing.

    Raises `SettingsError` if a source is not that, or no video is usable.
    """
    require_sources(sources, NAME, "annotations")
    files = read_zip(sources["annotations"], FILES, NAME)
    builder = DatasetBuilder(NAME)
    builder.always_list(
        "dropped:bad_video_id", "dropped:bad_clip", "labels_unpaired", "missing_json", "unreadable_json", "not_listed",
        "in_two_domains", "clips_differ", "has_replacement", "bad_replacement", "replacement_of_no_video",
        "first_clip_after_frame_0", "frame_rate_unusual", "selected_without_votes",
    )  # fmt: skip
    replacements = dict(_replacements(files, builder))
    for domain in DOMAINS:
        _read_domain(domain, files, replacements, builder)
    known = {video.video_id for video in builder.videos}
    builder.oddities["replacement_of_no_video"] += sorted(replacements.keys() - known)
    if "umt" in sources:
        add_split_groups(builder, "umt", sources["umt"])
    return builder.build(sources, name=name, shard_count=shard_count, time_unit="frames")


def _replacements(files: Mapping[str, bytes], builder: DatasetBuilder) -> Iterator[tuple[str, str]]:
    """Id → the id under which somebody uploaded the video again, once it was gone."""
    for path, content in files.items():
        folder, _, video_id = path.partition("/")
        if folder == "missingVideos":
            lines = content.decode("utf-8", "replace").splitlines()
            other = lines[0].strip() if lines else ""
            if SOURCE_NAME.fullmatch(other):
                yield video_id, other
            else:
                builder.oddities["bad_replacement"].append(f"{video_id} {other}")


def _read_domain(
    domain: str,
    files: Mapping[str, bytes],
    replacements: Mapping[str, str],
    builder: DatasetBuilder,
) -> None:
    if f"{domain}/vlist.json" not in files:
        raise SettingsError((f"the archive of {NAME} has no {domain}/vlist.json",))
    listed: set[str] = set()
    for grouping in ("vlist", "vlist_sel"):
        path = f"{domain}/{grouping}.json"
        for group in _listed(grouping, files.get(path, b"[]"), path, builder):
            builder.groups.append(group)
            listed.add(group.video_id)
    folders = {
        path.split("/")[1]
        for path in files
        if path.startswith(f"{domain}/") and path.count("/") == 2
    }
    for stranger in sorted(folders - listed):
        _is_id(stranger, domain, builder)
        builder.oddities["not_listed"].append(f"{domain}/{stranger}")
    ids = sorted(listed | {one for one in folders if VIDEO_ID.fullmatch(one)})
    builder.groups += [Group("domain", domain, video_id) for video_id in ids]
    builder.groups += _set_learning(sorted(listed))
    known = {video.video_id for video in builder.videos}
    for video_id in ids:
        if video_id in known:
            builder.oddities["in_two_domains"].append(video_id)
        else:
            _read_video(
                f"{domain}/{video_id}", video_id, files, replacements.get(video_id), builder
            )


def _listed(grouping: str, content: bytes, path: str, builder: DatasetBuilder) -> Iterator[Group]:
    lists = parse_json(content, path)
    named = isinstance(lists, list) and all(
        isinstance(one, list) and len(one) == 2 for one in lists
    )
    if not named or any(not isinstance(ids, list) or part not in PARTS for ids, part in lists):
        raise SettingsError(
            (f"{path} is not a list of [[video id, ...], name], names being {', '.join(PARTS)}",)
        )
    for ids, part in lists:
        for video_id in dict.fromkeys(map(str, ids)):
            if _is_id(video_id, path, builder):
                yield from (Group(grouping, name, video_id) for name in PARTS[part])


def _is_id(text: str, where: str, builder: DatasetBuilder) -> bool:
    if VIDEO_ID.fullmatch(text):
        return True
    builder.oddities["dropped:bad_video_id"].append(f"{where} {text}")
    return False


def _set_learning(ids: Sequence[str]) -> Iterator[Group]:
    """70/30 of a domain as the released code of set-based learning cuts it, but of sorted ids.

    That code passes a directory listing, whose order differs from disk to disk, to scikit-learn's
    `train_test_split(..., test_size=0.3, random_state=42)`, so its own split cannot be known. This
    is what it gives for sorted ids.
    """
    n_test = math.ceil(0.3 * len(ids))
    order = np.random.RandomState(42).permutation(len(ids))
    for place, number in enumerate(order.tolist()):
        yield Group("set_learning_sorted", "test" if place < n_test else "train", ids[number])


def _read_video(
    path: str, video_id: str, files: Mapping[str, bytes], other: str | None, builder: DatasetBuilder
) -> None:
    marks: dict[str, list[Annotation]] = {}
    for annotator, file in ANNOTATORS.items():
        marks[annotator] = list(_marks(f"{path}/{file}.json", video_id, annotator, files, builder))
        builder.annotations += marks[annotator]
    if not marks["mturk"] and any(
        one.grouping == "vlist_sel" and one.video_id == video_id for one in builder.groups
    ):
        builder.oddities["selected_without_votes"].append(path)
    clips = list(_pairs(_json_of(f"{path}/clip.json", files, builder)))
    for rows in filter(None, marks.values()):
        if clips != [(row.start, row.end) for row in rows]:
            builder.oddities["clips_differ"].append(f"{path} {rows[0].annotator}")
    if clips and clips[0][0] > 0:
        builder.oddities["first_clip_after_frame_0"].append(path)
    duration = _duration(_json_of(f"{path}/info.json", files, builder))
    least, most = _frames(max((end for _, end in clips), default=0.0), duration, path, builder)
    if other is not None:
        builder.oddities["has_replacement"].append(f"{video_id} {other}")
    builder.videos.append(
        Video(video_id, duration, least, most, () if other is None else (video_id, other))
    )


def _frames(
    last_end: float, duration: float | None, path: str, builder: DatasetBuilder
) -> tuple[int | None, int | None]:
    """Fewest and most frames of the original file.

    The last clip is cut where the file ends: at a usual frame rate its end fits the stated
    duration, which is in whole seconds, rounded up, for 531 of the 550 videos. The other 19 have
    another rate or lost frames: of them, only that the file did not go on for another clip is
    known.
    """
    if last_end <= 0:
        return None, None
    end = math.ceil(last_end)
    if duration is not None and any(
        (duration - 1) * rate - RATE_SLACK_FRAMES <= end <= duration * rate + RATE_SLACK_FRAMES
        for rate in FRAME_RATES
    ):
        return end, end
    builder.oddities["frame_rate_unusual"].append(path)
    return end, end + STRIDE_FRAMES


def _marks(
    path: str, video_id: str, annotator: str, files: Mapping[str, bytes], builder: DatasetBuilder
) -> Iterator[Annotation]:
    if annotator == "mturk" and path not in files:
        return  # Turkers saw some videos only.
    content = _json_of(path, files, builder)
    if content is None:
        return
    whole = (
        isinstance(content, list)
        and len(content) == 2
        and all(isinstance(part, list) for part in content)
    )
    if not whole or len(content[0]) != len(content[1]):
        builder.oddities["labels_unpaired"].append(path)
        return
    for clip, value in zip(*content, strict=True):
        spans = [
            (start, end) for start, end in _pairs([clip]) if 0 <= start < end and _is_number(value)
        ]
        if not spans:
            builder.oddities["dropped:bad_clip"].append(f"{path} {clip} {value}")
        for start, end in spans:
            yield Annotation(video_id, annotator, start, end, float(value))


def _json_of(path: str, files: Mapping[str, bytes], builder: DatasetBuilder) -> Any:
    if path not in files:
        builder.oddities["missing_json"].append(path)
        return None
    try:
        return parse_json(files[path], path)
    except SettingsError:
        builder.oddities["unreadable_json"].append(path)
        return None


def _pairs(clips: Any) -> Iterator[tuple[float, float]]:
    for clip in clips if isinstance(clips, list) else ():
        if isinstance(clip, list) and len(clip) == 2 and all(map(_is_number, clip)):
            yield float(clip[0]), float(clip[1])


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _duration(info: Any) -> float | None:
    stated = info[3] if isinstance(info, list) and len(info) > 3 else None
    return float(stated) if _is_number(stated) and stated > 0 else None
