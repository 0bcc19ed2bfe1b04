"""The published annotation files, as a reader is handed them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from pipeline.datasets.parsing.archive import zip_folder
from pipeline.datasets.parsing.parsed_dataset import ParsedDataset
from pipeline.datasets.registry import DATASETS

PLACES = {
    "youtube-highlights": {
        "annotations": "youtube_highlights",
        "umt": "umt_splits/youtube_splits.json",
    },
    "tvsum": {"annotations": "tvsum/ydata-tvsum50.mat", "umt": "umt_splits/tvsum_splits.json"},
    "cosum": {"annotations": "cosum"},
    "summe": {"annotations": "summe"},
}
"""Dataset → role → where it lies in the shared data."""


def sources(name: str, shared_data: Path) -> dict[str, bytes]:
    files = DATASETS[name].files
    return {
        role: zip_folder(shared_data / place, files[role].pattern)
        if files[role].pattern
        else (shared_data / place).read_bytes()
        for role, place in PLACES[name].items()
    }


@functools.lru_cache(maxsize=4)
def published(name: str, shared_data: Path) -> ParsedDataset:
    return DATASETS[name].read(sources(name, shared_data), name=name)


def counts(survey: ParsedDataset) -> dict[str, int]:
    return {oddity: len(cases) for oddity, cases in survey.oddities.items() if cases}


def activitynet(shared_data: Path) -> dict[str, bytes]:
    """The real list of videos and label map, under a localisation JSON of the official format with
    drawn marks.

    Videos last 2.5 to 234.5 s, 118.5 on average (the real ones 2.3 to 671, and 116). Every one has
    two marks of different labels, the second overrunning the duration; every tenth has a third that
    begins behind it. Every third is a validation video.
    """
    folder = shared_data / "activitynet"
    labels = (folder / "label_dict.json").read_bytes()
    names = (folder / "ActivityNet_vids.txt").read_text().split()
    known = sorted(json.loads(labels)["label_dict"])
    database: dict[str, Any] = {}
    for number, name in enumerate(names):
        first, second = (known[(number * step) % len(known)] for step in (1, 7))
        seconds = 2.5 + number * 37 % 233
        behind = (
            [{"label": first, "segment": [seconds + 1, seconds + 4]}] if number % 10 == 0 else []
        )
        database[name[2:-4]] = {
            "duration": seconds,
            "subset": "validation" if number % 3 == 0 else "training",
            "resolution": "320x240",
            "url": f"https://www.youtube.com/watch?v={name[2:-4]}",
            "annotations": [
                {"label": first, "segment": [0.025 * seconds, 0.34 * seconds]},
                {"label": second, "segment": [0.32 * seconds, seconds + 0.5]},
                *behind,
            ],
        }
    whole = {"version": "VERSION 1.3", "taxonomy": [], "database": database}
    return {
        "annotations": json.dumps(whole).encode(),
        "labels": labels,
        "videos": (folder / "ActivityNet_vids.txt").read_bytes(),
    }


def dhf1k() -> dict[str, bytes]:
    """A listing of maps as published, of 200 to 992 frames a video; the real ones have 186 to
    1,558.
    """
    counts = {video: 200 + 8 * (video * 37 % 100) for video in range(1, 701)}
    paths = (
        f"{video:04d}/maps/{frame:04d}.png"
        for video in counts
        for frame in range(1, counts[video] + 1)
    )
    return {"annotations": "\n".join(paths).encode()}
