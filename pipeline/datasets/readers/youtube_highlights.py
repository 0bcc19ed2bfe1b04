"""Reads YouTube Highlights (Domain-specific Highlights) from a copy of its authors' repository.

Annotators: `match` says whether a clip is in the user's own edited video (1), is not (-1), or
borders on one that is (0). `mturk` is the number of Turkers who chose the clip, weighted by
coverage; some videos have no such votes. Both are kept raw. Times are frame numbers of the files
that the authors downloaded in 2014; clips overlap by half.

Groupings: `domain`; the authors' `vlist` (all harvested videos) and `vlist_sel` (selected by hand),
each with train, test, and their tight (few matched clips) and loose parts; `umt`, the split of
later work; `set_learning_sorted`.

Sources: https://github.com/aliensunmin/DomainSpecificHighlight, and UMT's split as `{domain:
{train: [...], val: [...]}}` (https://github.com/TencentARC/UMT).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
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
    """Read `{"annotations": ZIP of the repository, "umt": JSON}`.

    Without `umt`, the grouping `umt` is missing. Raises `SettingsError` if a source is invalid, or
    no video is usable.
    """
    require_sources(sources, NAME, "annotations")
    files = read_zip(sources["annotations"], FILES, NAME)
    builder = DatasetBuilder(NAME)
    builder.always_list(
        "dropped:bad_video_id",
        "dropped:bad_clip",
        "labels_unpaired",
        "missing_json",
        "unreadable_json",
        "not_listed",
        "in_two_domains",
        "clips_differ",
        "has_replacement",
        "bad_replacement",
        "replacement_of_no_video",
        "first_clip_after_frame_0",
        "frame_rate_unusual",
        "selected_without_votes",
    )
    replacements = dict(_replacements(files, builder))
    for domain in DOMAINS:
        _DomainReader(domain, files, replacements, builder).read()
    known = {video.video_id for video in builder.videos}
    builder.oddities["replacement_of_no_video"] += sorted(replacements.keys() - known)
    if "umt" in sources:
        add_split_groups(builder, "umt", sources["umt"])
    return builder.build(sources, name=name, shard_count=shard_count, time_unit="frames")


def _replacements(files: Mapping[str, bytes], builder: DatasetBuilder) -> Iterator[tuple[str, str]]:
    """ID of a removed video → ID of a later upload of the same video."""
    for path, content in files.items():
        folder, _, video_id = path.partition("/")
        if folder != "missingVideos":
            continue
        lines = content.decode("utf-8", "replace").splitlines()
        other = lines[0].strip() if lines else ""
        if SOURCE_NAME.fullmatch(other):
            yield video_id, other
        else:
            builder.oddities["bad_replacement"].append(f"{video_id} {other}")


@dataclass(frozen=True)
class _DomainReader:
    """Reads the files of one domain into the builder."""

    domain: str
    files: Mapping[str, bytes]
    replacements: Mapping[str, str]
    builder: DatasetBuilder

    def read(self) -> None:
        if f"{self.domain}/vlist.json" not in self.files:
            raise SettingsError((f"the archive of {NAME} has no {self.domain}/vlist.json",))
        harvested = self._read_lists("vlist")
        selected = self._read_lists("vlist_sel")
        listed = harvested | selected
        folders = self._video_folders()
        for video_id in sorted(folders - listed):
            self._check_id(video_id, self.domain)
            self.builder.oddities["not_listed"].append(f"{self.domain}/{video_id}")
        # A video that no list names still has its clips and labels, so it is read too.
        unlisted = {video_id for video_id in folders if VIDEO_ID.fullmatch(video_id)}
        video_ids = sorted(listed | unlisted)
        self.builder.groups += [Group("domain", self.domain, video_id) for video_id in video_ids]
        self.builder.groups += _set_learning_groups(sorted(listed))
        # A video of two domains is read with the first one, and evaluated in both.
        known = {video.video_id for video in self.builder.videos}
        for video_id in video_ids:
            if video_id in known:
                self.builder.oddities["in_two_domains"].append(video_id)
            else:
                self._read_video(video_id, is_selected=video_id in selected)

    def _video_folders(self) -> set[str]:
        """Names of the folders `<domain>/<video id>/`."""
        parts = [path.split("/") for path in self.files]
        return {part[1] for part in parts if part[0] == self.domain and len(part) == 3}

    def _read_lists(self, grouping: str) -> set[str]:
        """Add the groups of `<grouping>.json`; returns the video IDs it lists."""
        path = f"{self.domain}/{grouping}.json"
        video_ids: set[str] = set()
        for ids, list_name in _parse_lists(self.files.get(path, b"[]"), path):
            # JSON may hold an ID of digits as a number.
            for video_id in dict.fromkeys(map(str, ids)):
                if not self._check_id(video_id, path):
                    continue
                video_ids.add(video_id)
                for part in PARTS[list_name]:
                    self.builder.groups.append(Group(grouping, part, video_id))
        return video_ids

    def _check_id(self, text: str, place: str) -> bool:
        is_valid = VIDEO_ID.fullmatch(text) is not None
        if not is_valid:
            self.builder.oddities["dropped:bad_video_id"].append(f"{place} {text}")
        return is_valid

    def _read_video(self, video_id: str, *, is_selected: bool) -> None:
        builder, path = self.builder, f"{self.domain}/{video_id}"
        match_labels = list(self._labels(video_id, "match"))
        votes = list(self._labels(video_id, "mturk"))
        builder.annotations += [*match_labels, *votes]
        if is_selected and not votes:
            builder.oddities["selected_without_votes"].append(path)
        clips = list(_clip_spans(self._parse(f"{path}/clip.json")))
        self._compare_clips(path, clips, match_labels)
        self._compare_clips(path, clips, votes)
        if clips and clips[0][0] > 0:
            builder.oddities["first_clip_after_frame_0"].append(path)
        duration = _stated_duration(self._parse(f"{path}/info.json"))
        _, last_end = max(clips, key=itemgetter(1), default=(0.0, 0.0))
        fewest, most = _frame_count(last_end, duration)
        if fewest != most:
            builder.oddities["frame_rate_unusual"].append(path)
        replacement = self.replacements.get(video_id)
        alternative_ids: tuple[str, ...] = ()
        if replacement is not None:
            builder.oddities["has_replacement"].append(f"{video_id} {replacement}")
            alternative_ids = (video_id, replacement)
        builder.videos.append(Video(video_id, duration, fewest, most, alternative_ids))

    def _compare_clips(
        self, path: str, clips: list[tuple[float, float]], labels: list[Annotation]
    ) -> None:
        """List the video if the labels are not of the same clips."""
        labelled = [(label.start, label.end) for label in labels]
        if labels and labelled != clips:
            self.builder.oddities["clips_differ"].append(f"{path} {labels[0].annotator}")

    def _labels(self, video_id: str, annotator: str) -> Iterator[Annotation]:
        """The labels of one video's clips; a clip that cannot be used is listed and left out."""
        path = f"{self.domain}/{video_id}/{ANNOTATORS[annotator]}.json"
        if annotator == "mturk" and path not in self.files:
            return  # Turkers saw only some of the videos: a missing file is not an oddity here.
        content = self._parse(path)
        if content is None:
            return
        if not _is_pair_of_equal_lists(content):
            self.builder.oddities["labels_unpaired"].append(path)
            return
        for clip, value in zip(*content, strict=True):
            start, end = next(_clip_spans([clip]), (0.0, 0.0))
            is_span = 0 <= start < end
            if is_span and _is_number(value):
                yield Annotation(video_id, annotator, start, end, float(value))
            else:
                self.builder.oddities["dropped:bad_clip"].append(f"{path} {clip} {value}")

    def _parse(self, path: str) -> Any:
        """The JSON value of a file; None and an oddity if it is missing or unreadable."""
        if path not in self.files:
            self.builder.oddities["missing_json"].append(path)
            return None
        try:
            return parse_json(self.files[path], path)
        except SettingsError:
            self.builder.oddities["unreadable_json"].append(path)
            return None


def _parse_lists(content: bytes, path: str) -> list[tuple[list[Any], str]]:
    """The pairs (video IDs, name of the list) of a `vlist.json`."""
    lists = parse_json(content, path)
    if not isinstance(lists, list) or not all(map(_is_named_list, lists)):
        raise SettingsError(
            (f"{path} is not a list of [[video id, ...], name], names being {', '.join(PARTS)}",)
        )
    return [(ids, list_name) for ids, list_name in lists]


def _is_named_list(pair: Any) -> bool:
    match pair:
        case [list(), str(list_name)]:
            return list_name in PARTS
        case _:
            return False


def _set_learning_groups(ids: Sequence[str]) -> Iterator[Group]:
    """The 70/30 split of a domain as in the released code of set-based learning, of sorted IDs.

    That code passes a directory listing, whose order differs from disk to disk, to scikit-learn's
    `train_test_split(..., test_size=0.3, random_state=42)`, so its own split cannot be known. This
    is what it gives for sorted IDs.
    """
    n_test = math.ceil(0.3 * len(ids))
    # train_test_split permutes with RandomState and takes the test set from the front.
    order = np.random.RandomState(42).permutation(len(ids)).tolist()
    for position, number in enumerate(order):
        part = "test" if position < n_test else "train"
        yield Group("set_learning_sorted", part, ids[number])


def _frame_count(last_end: float, duration: float | None) -> tuple[int | None, int | None]:
    """Fewest and most frames of the original file; None where nothing is known.

    The last clip is cut where the file ends. For 531 of the 550 videos its end fits the stated
    duration, in whole seconds rounded up, at a usual frame rate. The other 19 have another rate or
    lost frames: of them it is only known that the file did not go on for another clip.
    """
    if last_end <= 0:
        return None, None
    end = math.ceil(last_end)
    if duration is not None and any(_fits(end, duration, rate) for rate in FRAME_RATES):
        return end, end
    return end, end + STRIDE_FRAMES


def _fits(end: int, duration: float, rate: float) -> bool:
    shortest = (duration - 1) * rate - RATE_SLACK_FRAMES
    longest = duration * rate + RATE_SLACK_FRAMES
    return shortest <= end <= longest


def _is_pair_of_equal_lists(content: Any) -> bool:
    match content:
        case [list(clips), list(values)]:
            return len(clips) == len(values)
        case _:
            return False


def _clip_spans(clips: Any) -> Iterator[tuple[float, float]]:
    """The (start, end) pairs of a list; anything else in it is skipped."""
    if not isinstance(clips, list):
        return
    for clip in clips:
        match clip:
            case [start, end] if _is_number(start) and _is_number(end):
                yield float(start), float(end)


def _is_number(value: Any) -> TypeGuard[float]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _stated_duration(info: Any) -> float | None:
    """Seconds, from the fourth field of `info.json`; None if it is missing or not positive."""
    match info:
        case [_, _, _, stated, *_] if _is_number(stated):
            return float(stated) if stated > 0 else None
        case _:
            return None
