"""Reads CoSum: the shots of 51 videos, and the shots that each of three judges found relevant.

Annotators are the judges, `dualplus`, `kk` and `vv`. A mark is a shot, with value 1 if the judge
chose it, else 0. The published ground truth is "chosen by at least two". Shot n lies between lines
n and n + 1 of its file, which count frames from 1; here frames count from 0. MINI-Net's code lets
the first shot of every video begin at frame 0, but the files do not say so.

A video is named after its shot file (`base1`), since two of the published addresses are given to
two videos each. It is downloaded by its YouTube ID in README.md. Groupings: `domain`, the ten
queries.

Source: https://github.com/Blssel/cosum (the authors' own pages are gone).
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
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
"""Most frames of a video, as a multiple of its last shot's end.

All last ends together are 27.4 frames for each second of the published 147 min 40 s, so little
lies after a video's last shot. A file with more than 1.5 times the frames has another frame rate.
"""


def read_cosum(
    sources: Mapping[str, bytes], *, name: str, shard_count: int | None = None
) -> ParsedDataset:
    """Read `{"annotations": ZIP of the repository}`.

    Raises `SettingsError` if the ZIP is invalid, or no video is usable.
    """
    require_sources(sources, NAME, "annotations")
    files = read_zip(sources["annotations"], FILES, NAME)
    builder = DatasetBuilder(NAME)
    builder.always_list(
        "dropped:no_such_shot",
        "dropped:empty_shot",
        "dropped:unreadable_name",
        "no_address",
        "address_is_no_youtube_id",
        "address_of_two_videos",
        "address_elsewhere",
        "judge_missing",
    )
    addresses = _addresses(files.get("README.md", b"").decode("utf-8", "replace"), builder)
    for path in files:
        if not path.startswith("shots/"):
            continue
        match = _SHOTS.fullmatch(path)
        if match is None:
            builder.oddities["dropped:unreadable_name"].append(path)
        else:
            _read_video(match, files, addresses, builder)
    _list_shared_addresses(builder)
    return builder.build(sources, name=name, shard_count=shard_count, time_unit="frames")


def _read_video(
    match: re.Match[str],
    files: Mapping[str, bytes],
    addresses: Mapping[tuple[str, int], str],
    builder: DatasetBuilder,
) -> None:
    """Read the video whose shot file has the matched path."""
    video_id, path = match["id"], match[0]
    spans = _shot_spans(files[path], path, builder)
    fewest_frames = most_frames = None
    if spans:
        fewest_frames = max(end for _, end in spans.values())
        most_frames = round(MOST_TO_LEAST * fewest_frames)
    address = addresses.get((match["section"], int(match["number"])))
    alternative_ids = _alternative_ids(video_id, address, builder)
    builder.videos.append(Video(video_id, None, fewest_frames, most_frames, alternative_ids))
    builder.groups.append(Group("domain", match["domain"], video_id))
    prefix = f"annotation/{match['folder']}/{match['number']}__"
    builder.annotations += _marks(video_id, prefix, files, spans, builder)


def _list_shared_addresses(builder: DatasetBuilder) -> None:
    counts = Counter(video.alternative_ids for video in builder.videos)
    for video in builder.videos:
        if video.alternative_ids and counts[video.alternative_ids] > 1:
            case = f"{video.video_id} {' '.join(video.alternative_ids)}"
            builder.oddities["address_of_two_videos"].append(case)


def _addresses(readme: str, builder: DatasetBuilder) -> dict[tuple[str, int], str]:
    """(section, position in it from 1) → YouTube ID."""
    addresses: dict[tuple[str, int], str] = {}
    # The pictures' labels in the README are often wrong, but their order is right.
    pieces = _SECTION.split(readme)[1:]
    for section, text in zip(pieces[::2], pieces[1::2], strict=True):
        for position, (id_of_picture, address) in enumerate(_ADDRESS.findall(text), start=1):
            _, is_youtube, video_id = address.partition("watch?v=")
            if is_youtube:
                addresses[section, position] = video_id
            else:
                builder.oddities["address_elsewhere"].append(f"{section}/{position} {address}")
                addresses[section, position] = id_of_picture
    return addresses


def _alternative_ids(
    video_id: str, address: str | None, builder: DatasetBuilder
) -> tuple[str, ...]:
    """The names under which the video is downloaded: its address, if it has a usable one."""
    if address is None or not SOURCE_NAME.fullmatch(address):
        builder.oddities["no_address"].append(video_id)
        return ()
    if len(address) != YOUTUBE_ID_CHARACTERS:
        builder.oddities["address_is_no_youtube_id"].append(f"{video_id} {address}")
    return (address,)


def _shot_spans(content: bytes, path: str, builder: DatasetBuilder) -> dict[int, tuple[int, int]]:
    """Number of a shot, from 1 → `[start, end)` frames, from 0."""
    # The file counts frames from 1.
    edges = [int(number) - 1 for number in content.split() if number.isdigit()]
    spans = {}
    for shot, (start, end) in enumerate(itertools.pairwise(edges), start=1):
        if 0 <= start < end:
            spans[shot] = (start, end)
        else:
            builder.oddities["dropped:empty_shot"].append(f"{path} {shot} {start} {end}")
    return spans


def _marks(
    video_id: str,
    prefix: str,
    files: Mapping[str, bytes],
    spans: Mapping[int, tuple[int, int]],
    builder: DatasetBuilder,
) -> Iterator[Annotation]:
    """Every shot once for each judge: value 1 if the judge chose it, else 0."""
    judge_files = [path for path in files if path.startswith(prefix)]
    if len(judge_files) != 3:
        builder.oddities["judge_missing"].append(f"{video_id} has {len(judge_files)} of 3")
    for path in judge_files:
        labels = np.asarray(parse_matlab(files[path], path).get("labels", ()), dtype=np.int64)
        # MATLAB files hold a table with one row as a vector.
        chosen = set(labels.reshape(-1, 2)[:, 0].tolist())
        for shot in sorted(chosen - spans.keys()):
            builder.oddities["dropped:no_such_shot"].append(f"{path} {shot}")
        judge = path.removeprefix(prefix).removesuffix(".mat")
        for shot, (start, end) in spans.items():
            yield Annotation(video_id, judge, float(start), float(end), float(shot in chosen))
