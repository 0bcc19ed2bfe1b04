"""What looks odd among PHD2's usable rows: named, and every case listed.

Only looks. Nothing is mended, dropped or clamped here; each name tells what was kept as it is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from pipeline.datasets.readers.phd2_rows import Gif
from storage.base.records import Annotation

FEWEST_VIDEOS = 5
"""PHD2 states that it kept users with at least this many videos."""

_NUMBER = re.compile(r"\+?0*(\d+)(?:\.(\d*?)0*)?", re.ASCII)


def find_oddities(gifs: Sequence[Gif]) -> dict[str, list[str]]:
    """Oddity → its cases: rows as published, video ids, user ids, or `user_id video_id`."""
    return {**_of_rows(gifs), **_of_videos(gifs), **_of_pairs(gifs), **_of_users(gifs)}


def _of_rows(gifs: Sequence[Gif]) -> dict[str, list[str]]:
    overruns = [
        (gif.row, gif.end - gif.claimed_duration)
        for gif in gifs
        if gif.claimed_duration is not None
    ]
    return {
        "duration_unknown": [gif.row for gif in gifs if gif.says_unknown],
        "duration_unusable": [
            gif.row for gif in gifs if gif.claimed_duration is None and not gif.says_unknown
        ],
        "ends_after_duration": [row for row, overrun_seconds in overruns if overrun_seconds > 0],
        "ends_1s_after_duration": [row for row, overrun_seconds in overruns if overrun_seconds > 1],
        "duplicate_row": _duplicates(gifs),
    }


def _duplicates(gifs: Sequence[Gif]) -> list[str]:
    seen: set[Annotation] = set()
    rows = []
    for gif in gifs:
        if gif.annotation in seen:
            rows.append(gif.row)
        seen.add(gif.annotation)
    return rows


def _of_videos(gifs: Sequence[Gif]) -> dict[str, list[str]]:
    durations: dict[str, set[float | None]] = defaultdict(set)
    splits: dict[str, set[str]] = defaultdict(set)
    for gif in gifs:
        durations[gif.video_id].add(gif.claimed_duration)
        splits[gif.video_id].add(gif.split)
    return {
        "id_starts_with_dash": [video_id for video_id in durations if video_id.startswith("-")],
        "durations_differ": [
            video_id for video_id, claims in durations.items() if len(claims - {None}) > 1
        ],
        "video_in_two_splits": [
            video_id for video_id, of_video in splits.items() if len(of_video) > 1
        ],
    }


def _of_pairs(gifs: Sequence[Gif]) -> dict[str, list[str]]:
    cut: dict[str, set[Annotation]] = defaultdict(set)
    roles: dict[str, set[bool]] = defaultdict(set)
    for gif in gifs:
        pair = f"{gif.user_id} {gif.video_id}"
        cut[pair].add(gif.annotation)
        roles[pair].add(gif.is_target)
    return {
        "several_gifs_of_a_video": [
            pair for pair, annotations in cut.items() if len(annotations) > 1
        ],
        "history_and_target": [pair for pair, of_pair in roles.items() if len(of_pair) > 1],
    }


def _of_users(gifs: Sequence[Gif]) -> dict[str, list[str]]:
    videos: dict[str, set[str]] = defaultdict(set)
    targets: dict[str, set[str]] = defaultdict(set)
    histories: dict[str, set[str]] = defaultdict(set)
    for gif in gifs:
        videos[gif.user_id].add(gif.video_id)
        (targets if gif.is_target else histories)[gif.user_id].add(gif.video_id)
    return {
        "few_videos": [user for user, seen in videos.items() if len(seen) < FEWEST_VIDEOS],
        "no_history": [user for user in videos if user not in histories],
        "no_target": [user for user in videos if user not in targets],
        "user_in_several_spellings": _spellings(videos),
        "several_targets": [user for user, wanted in targets.items() if len(wanted) > 1],
    }


def _spellings(users: Iterable[str]) -> list[str]:
    """Users that one person may be, as `7` and `7.0` or `ann` and `Ann`: kept apart, for the
    published ids are text.
    """
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for user in users:
        text = user.strip().casefold()
        number = _NUMBER.fullmatch(text)
        alike[(number[1], number[2] or "") if number else (text,)].append(user)
    return [" = ".join(sorted(spelled)) for spelled in alike.values() if len(spelled) > 1]
