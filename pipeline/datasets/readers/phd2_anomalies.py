"""Finds oddities among PHD2's usable rows, and lists every case.

Nothing is corrected, dropped or clamped here: each oddity names something that was kept as it is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from pipeline.datasets.readers.phd2_rows import Gif
from storage.base.records import Annotation

FEWEST_VIDEOS = 5
"""According to the authors, every user of PHD2 has at least this many videos."""

_NUMBER = re.compile(r"\+?0*(\d+)(?:\.(\d*?)0*)?", re.ASCII)


def find_oddities(gifs: Sequence[Gif]) -> dict[str, list[str]]:
    """Oddity → its cases: rows as published, video IDs, user IDs, or `user_id video_id`."""
    return {
        **_oddities_of_rows(gifs),
        **_oddities_of_videos(gifs),
        **_oddities_of_pairs(gifs),
        **_oddities_of_users(gifs),
    }


def _oddities_of_rows(gifs: Sequence[Gif]) -> dict[str, list[str]]:
    oddities: dict[str, list[str]] = {
        "duration_unknown": [],
        "duration_unusable": [],
        "ends_after_duration": [],
        "ends_1s_after_duration": [],
        "duplicate_row": [],
    }
    seen: set[Annotation] = set()
    for gif in gifs:
        if gif.annotation in seen:
            oddities["duplicate_row"].append(gif.row)
        seen.add(gif.annotation)
        for oddity in _duration_oddities(gif):
            oddities[oddity].append(gif.row)
    return oddities


def _duration_oddities(gif: Gif) -> Iterator[str]:
    if gif.says_unknown:
        yield "duration_unknown"
    elif gif.claimed_duration is None:
        yield "duration_unusable"
    if gif.claimed_duration is None:
        return
    overrun_seconds = gif.end - gif.claimed_duration
    if overrun_seconds > 0:
        yield "ends_after_duration"
    # Durations are published in whole seconds, so an overrun below 1 s may be rounding.
    if overrun_seconds > 1:
        yield "ends_1s_after_duration"


def _oddities_of_videos(gifs: Sequence[Gif]) -> dict[str, list[str]]:
    durations: dict[str, set[float | None]] = defaultdict(set)
    splits: dict[str, set[str]] = defaultdict(set)
    for gif in gifs:
        durations[gif.video_id].add(gif.claimed_duration)
        splits[gif.video_id].add(gif.split)
    # A video whose duration is missing in some rows is not in disagreement with itself.
    known_durations = {video_id: claims - {None} for video_id, claims in durations.items()}
    return {
        "id_starts_with_dash": [video_id for video_id in durations if video_id.startswith("-")],
        "durations_differ": _with_several(known_durations),
        "video_in_two_splits": _with_several(splits),
    }


def _oddities_of_pairs(gifs: Sequence[Gif]) -> dict[str, list[str]]:
    annotations: dict[str, set[Annotation]] = defaultdict(set)
    roles: dict[str, set[bool]] = defaultdict(set)
    for gif in gifs:
        pair = f"{gif.user_id} {gif.video_id}"
        annotations[pair].add(gif.annotation)
        roles[pair].add(gif.is_target)
    return {
        "several_gifs_of_a_video": _with_several(annotations),
        "history_and_target": _with_several(roles),
    }


def _oddities_of_users(gifs: Sequence[Gif]) -> dict[str, list[str]]:
    targets: dict[str, set[str]] = defaultdict(set)
    histories: dict[str, set[str]] = defaultdict(set)
    for gif in gifs:
        by_role = targets if gif.is_target else histories
        by_role[gif.user_id].add(gif.video_id)
    users = histories.keys() | targets.keys()
    few_videos = []
    for user in users:
        videos = histories.get(user, set()) | targets.get(user, set())
        if len(videos) < FEWEST_VIDEOS:
            few_videos.append(user)
    return {
        "few_videos": few_videos,
        "no_history": list(users - histories.keys()),
        "no_target": list(users - targets.keys()),
        "user_in_several_spellings": _similar_users(users),
        "several_targets": _with_several(targets),
    }


def _with_several(values: Mapping[str, Collection[object]]) -> list[str]:
    """The keys with more than one value."""
    return [key for key, of_key in values.items() if len(of_key) > 1]


def _similar_users(users: Iterable[str]) -> list[str]:
    """Users that may be one person, such as `7` and `7.0`, or `ann` and `Ann`.

    They are kept apart, because the published IDs are text.
    """
    spellings: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for user in users:
        text = user.strip().casefold()
        number = _NUMBER.fullmatch(text)
        normal_form = (number[1], number[2] or "") if number else (text,)
        spellings[normal_form].append(user)
    groups = []
    for alike in spellings.values():
        if len(alike) > 1:
            groups.append(" = ".join(sorted(alike)))
    return groups
