"""CoSum as its authors publish it: shots of 51 videos, and for each of three judges the shots they
found relevant.

Annotators are the judges, `dualplus`, `kk` and `vv`; a mark is a shot with 1 if the judge chose it,
else 0. The published ground truth is "chosen by at least two". Shot n lies between lines n and n +
1 of its file, which count frames from 1; here frames count from 0. MINI-Net's code lets the first
shot begin at frame 0 in every video; the file does not say so.

A video is called as its shot file is (`base1`), since two of the published addresses are given to
two videos each; it is asked for by its YouTube id in README.md. Groupings: `domain`, the ten
queries.

Source: https://github.com/Blssel/cosum (the authors' own pages are gone).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

import numpy as np

from pipeline.datasets.parsing.archive import read_zip
from pipeline.datasets.parsing.parsed_dataset import ParsedDataset
from pipeline.datasets.parsing.tables import DatasetBuilder, parse_matlab, require_sources
from storage.base.records import SOURCE_NAME, Annotation, Group, Video

NAME = "CoSum"
FILES = r"shots/[^/]+/[^/]+_shots\.txt|annotation/[^/]+/[0-9]+__[a-z]+\.mat|README\.md"
"""The published paths that are read."""
_FOLDER = r"(?P<folder>(?P<section>[0-9]+)_(?P<domain>[A-Za-z0-9_-]+))"
_SHOTS = re.compile(rf"shots/{_FOLDER}/(?P<id>[a-z]+(?P<number>[0-9]+))_shots\.txt")
_SECTION = re.compile(r"\*\*([0-9]+):[^*]*\*\*")
_ADDRESS = re.compile(r"\[!\[[^\]]*\]\([^)]*/vi/([^/)]+)/[^)]*\)\]\(([^)]*)\)")
YOUTUBE_ID_CHARACTERS = 11
MOST_TO_LEAST = 1.5
"""All last shot ends together make 27.4 frames for each second of the published 147 min 40 s, so
little lies behind a video's last shot; a file with half as many frames more is at another rate.
"""


def read_cosum(
    sources: Mapping[str, bytes], *, name: str, shard_count: int | None = None
) -> ParsedDataset:
    """Read `{"annotations": ZIP of the repository}`. Raises `SettingsError` if it is not that, or
    no video is usable.
    """
    require_sources(sources, NAME, "annotations")
    files = read_zip(sources["annotations"], FILES, NAME)
    builder = DatasetBuilder(NAME)
    builder.always_list(
        "dropped:no_such_shot", "dropped:empty_shot", "dropped:unreadable_name", "no_address",
        "address_is_no_youtube_id", "address_of_two_videos", "address_elsewhere", "judge_missing",
    )  # fmt: skip
    addresses = _addresses(files.get("README.md", b"").decode("utf-8", "replace"), builder)
    for path, content in files.items():
        if not path.startswith("shots/"):
            continue
        match = _SHOTS.fullmatch(path)
        if match is None:
            builder.oddities["dropped:unreadable_name"].append(path)
            continue
        spans = _spans(content, path, builder)
        end = max((end for _, end in spans.values()), default=0)
        alternative_ids = _alternative_ids(
            match["id"], addresses.get((match["section"], int(match["number"]))), builder
        )
        least, most = (end, round(MOST_TO_LEAST * end)) if end else (None, None)
        builder.videos.append(Video(match["id"], None, least, most, alternative_ids))
        builder.groups.append(Group("domain", match["domain"], match["id"]))
        builder.annotations += _marks(
            match["id"], f"annotation/{match['folder']}/{match['number']}__", files, spans, builder
        )
    asked = [video.alternative_ids for video in builder.videos if video.alternative_ids]
    builder.oddities["address_of_two_videos"] += [
        f"{video.video_id} {' '.join(video.alternative_ids)}"
        for video in builder.videos
        if asked.count(video.alternative_ids) > 1
    ]
    return builder.build(sources, name=name, shard_count=shard_count, time_unit="frames")


def _addresses(readme: str, builder: DatasetBuilder) -> dict[tuple[str, int], str]:
    """Section and place in it → YouTube id. The pictures' labels are often wrong, their order is
    not.
    """
    addresses: dict[tuple[str, int], str] = {}
    pieces = _SECTION.split(readme)[1:]
    for section, text in zip(pieces[::2], pieces[1::2], strict=True):
        for place, (of_picture, address) in enumerate(_ADDRESS.findall(text), start=1):
            _, there, video_id = address.partition("watch?v=")
            if not there:
                builder.oddities["address_elsewhere"].append(f"{section}/{place} {address}")
            addresses[section, place] = video_id if there else of_picture
    return addresses


def _alternative_ids(
    video_id: str, address: str | None, builder: DatasetBuilder
) -> tuple[str, ...]:
    if address is None or not SOURCE_NAME.fullmatch(address):
        builder.oddities["no_address"].append(video_id)
        return ()
    if len(address) != YOUTUBE_ID_CHARACTERS:
        builder.oddities["address_is_no_youtube_id"].append(f"{video_id} {address}")
    return (address,)


def _spans(content: bytes, path: str, builder: DatasetBuilder) -> dict[int, tuple[int, int]]:
    """Number of a shot, from 1 → `[start, end)` frames, from 0."""
    edges = [int(number) - 1 for number in content.split() if number.isdigit()]
    spans = dict(enumerate(itertools.pairwise(edges), start=1))
    empty = {shot: span for shot, span in spans.items() if not 0 <= span[0] < span[1]}
    builder.oddities["dropped:empty_shot"] += [
        f"{path} {shot} {start} {end}" for shot, (start, end) in empty.items()
    ]
    return {shot: span for shot, span in spans.items() if shot not in empty}


def _marks(
    video_id: str,
    prefix: str,
    files: Mapping[str, bytes],
    spans: Mapping[int, tuple[int, int]],
    builder: DatasetBuilder,
) -> Iterator[Annotation]:
    judged = [path for path in files if path.startswith(prefix)]
    if len(judged) != 3:
        builder.oddities["judge_missing"].append(f"{video_id} has {len(judged)} of 3")
    for path in judged:
        labels = np.asarray(parse_matlab(files[path], path).get("labels", ()), dtype=np.int64)
        # One row comes as a vector.
        chosen = set(labels.reshape(-1, 2)[:, 0].tolist())
        builder.oddities["dropped:no_such_shot"] += [
            f"{path} {shot}" for shot in sorted(chosen - spans.keys())
        ]
        judge = path.removeprefix(prefix).removesuffix(".mat")
        for shot, (start, end) in spans.items():
            yield Annotation(video_id, judge, float(start), float(end), float(shot in chosen))
