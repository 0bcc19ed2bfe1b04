"""A catalog of a user's own videos, from a folder, a list or a table.

Videos of an earlier catalog stay, so that nothing which was built is lost; `python -m storage
forget` removes one. Rows that cannot be used are listed with their line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.own_videos.entries import Entries, Entry, Playlist, read_entries
from pipeline.datasets.own_videos.labels import Labels, read_labels
from pipeline.datasets.own_videos.places import Place
from pipeline.datasets.own_videos.settings import COLUMNS, OwnVideosSettings
from pipeline.datasets.own_videos.times import parse_seconds
from pipeline.datasets.own_videos.video_ids import VideoIds
from pipeline.datasets.parsing.parsed_dataset import DROPPED, ParsedDataset, summarize_oddities
from storage.base.errors import SettingsError
from storage.base.records import METADATA_KEY, PLACE, TITLE, Group, Metadata, Video
from storage.catalog.catalog import Catalog, default_shard_count

ROLE = "videos"
"""The one source of such a catalog."""
MAX_METADATA_CHARACTERS = 10_000


@dataclass
class _Videos:
    """The videos of a catalog while it is made."""

    ids: VideoIds
    duration_seconds: dict[str, float | None] = field(default_factory=dict)
    """Video id → what its list states, in the order of the list."""
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, place: Place, cells: Mapping[str, str]) -> str:
        """The id of a place; its first value of each column counts."""
        video_id = self.ids.id_of(place)
        self.duration_seconds.setdefault(video_id, None)
        known = self.metadata.setdefault(video_id, {})
        if place.kind != "id":
            known.setdefault(PLACE, as_text(place.text))
        if place.title:
            known.setdefault(TITLE, as_text(place.title))
        for name, text in cells.items():
            is_of_video = name == TITLE or name not in COLUMNS
            if is_of_video and METADATA_KEY.fullmatch(name) and name != PLACE:
                known.setdefault(name, as_text(text))
        if "duration" in cells and self.duration_seconds[video_id] is None:
            self.duration_seconds[video_id] = _positive_seconds(cells["duration"])
        return video_id

    def keep(self, earlier: Catalog) -> list[str]:
        """Add the videos of an earlier catalog that are not in the list any more."""
        kept = []
        for video in earlier.videos:
            if video.video_id not in self.duration_seconds:
                self.duration_seconds[video.video_id] = video.claimed_duration_seconds
                known = earlier.metadata_by_video.get(video.video_id, {})
                self.metadata[video.video_id] = dict(known)
                kept.append(video.video_id)
        return kept


def as_text(text: str) -> str:
    """Text that a catalog can hold: UTF-8 without NUL, of bounded length."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")[:MAX_METADATA_CHARACTERS]


def _positive_seconds(text: str) -> float | None:
    try:
        return parse_seconds(text) or None
    except ValueError:
        return None


def read_own_videos(
    sources: Mapping[str, bytes],
    *,
    name: str,
    shard_count: int | None = None,
    settings: OwnVideosSettings,
    earlier: Callable[[], Catalog | None],
    playlist: Playlist,
) -> ParsedDataset:
    """The catalog. Raises SettingsError if there is no usable video."""
    found = read_entries(sources[ROLE], settings, playlist)
    before = earlier()
    videos = _Videos(VideoIds(_ids_by_place(before, settings.path)))
    ids = [videos.add(entry.place, entry.cells) for entry in found.entries]
    if not ids:
        raise SettingsError((_nothing_usable(settings.path, found.left_out),))
    labels = read_labels(found, ids)
    kept = [] if before is None else videos.keep(before)
    oddities = _oddities(found, ids, labels, kept)
    catalog = Catalog(
        name=name,
        videos=[Video(one, seconds) for one, seconds in videos.duration_seconds.items()],
        users=labels.users,
        links=labels.links,
        annotations=labels.annotations,
        shard_count=_shard_count(before, shard_count, len(videos.duration_seconds)),
        time_unit="seconds",
        origin={
            "reader": labels.reader,
            "path": as_text(settings.path),
            "sources": {ROLE: {"sha256": hashlib.sha256(sources[ROLE]).hexdigest()}},
            "oddities": summarize_oddities(oddities),
        },
        groups=tuple(_groups_with_earlier(labels, before)),
        metadata=[
            Metadata(video_id, key, value)
            for video_id, known in videos.metadata.items()
            for key, value in known.items()
        ],
    )
    return ParsedDataset(catalog, oddities)


def _ids_by_place(earlier: Catalog | None, path: str) -> dict[str, str]:
    """Text of each place → its id, of an earlier catalog; `path` is that of the present one."""
    if earlier is None:
        return {}
    places = {row.value: row.video_id for row in earlier.metadata if row.key == PLACE}
    with_place = set(places.values())
    asked = [one.video_id for one in earlier.videos if one.video_id not in with_place]
    moved = _moved_places(places, str(earlier.origin.get("path", "")), path)
    return places | moved | {video_id: video_id for video_id in asked}


def _moved_places(places: Mapping[str, str], old_path: str, new_path: str) -> dict[str, str]:
    """The places of a folder that was moved: the same files under the new path, with their ids.

    Empty if the old folder is still there: its files are then other videos.
    """
    old, new = Path(old_path), Path(new_path)
    if "://" in f"{old_path}{new_path}" or not old_path or old.exists():
        return {}
    if not new.is_dir():  # a list: its entries start at the folder it lies in
        old, new = old.parent, new.parent
    return {
        str(new / Path(place).relative_to(old)): video_id
        for place, video_id in places.items()
        if "://" not in place and Path(place).is_relative_to(old)
    }


def _shard_count(earlier: Catalog | None, stated: int | None, n_videos: int) -> int:
    # Every file is placed by the count, so a catalog that grows keeps it.
    if earlier is not None:
        return earlier.shard_count
    return stated or default_shard_count(n_videos)


def _groups_with_earlier(labels: Labels, earlier: Catalog | None) -> Iterable[Group]:
    """The groups; a video that is not listed any more keeps its own."""
    listed = {group.video_id for group in labels.groups}
    kept = () if earlier is None else earlier.groups
    return {*labels.groups, *(group for group in kept if group.video_id not in listed)}


def _oddities(
    found: Entries, ids: list[str], labels: Labels, kept: list[str]
) -> dict[str, list[str]]:
    oddities = {f"{DROPPED}{reason}": list(cases) for reason, cases in found.left_out.items()}
    oddities |= {name: list(cases) for name, cases in labels.oddities.items()}
    has_intervals = "start" in found.meanings
    if not has_intervals:
        oddities["listed_twice"] = _repeated(found.entries, ids)
    oddities["not_listed_any_more"] = kept
    return {name: sorted(cases) for name, cases in sorted(oddities.items())}


def _repeated(entries: Iterable[Entry], ids: list[str]) -> list[str]:
    seen: set[str] = set()
    cases = []
    for entry, video_id in zip(entries, ids, strict=True):
        if video_id in seen:
            cases.append(f"{entry.where}: {video_id}")
        seen.add(video_id)
    return cases


def _nothing_usable(path: str, left_out: Mapping[str, tuple[str, ...]]) -> str:
    reasons = [f"{len(cases):,} {reason}, as in {cases[0]}" for reason, cases in left_out.items()]
    return f"{path} names no usable video: {'; '.join(reasons) or 'it has no entry'}"
